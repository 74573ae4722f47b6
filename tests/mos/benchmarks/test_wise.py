"""WISE: pictures by number, both versions of its results."""

import json
from pathlib import Path

import pytest

from mos.benchmarks.config import JudgeConfig
from mos.benchmarks.wise import PARTS, Wise
from mos.errors import UserError
from tests.mos.benchmarks.places import lines, place_of, results

NUMBERS = {"cultural_common_sense": [1], "spatio-temporal_reasoning": [401, 600], "natural_science": [701, 801, 901]}


def prompts(folder: Path, ending: str = "") -> Path:
    path = folder / "data"
    path.mkdir()
    for part, numbers in NUMBERS.items():
        rows = [{"Prompt": f"prompt {number}", "prompt_id": number} for number in numbers]
        (path / f"{part}{ending}.json").write_text(json.dumps(rows, indent=1))
    return path


def test_a_picture_by_the_number_of_each_prompt(tmp_path: Path) -> None:
    path = prompts(tmp_path)
    items = Wise().items(place_of(tmp_path, path))
    assert [item.pictures for item in items] == [(f"images/{n}.png",) for part in PARTS for n in NUMBERS[part]]
    assert items[1].prompt == "prompt 401"
    (one,) = Wise().items(place_of(tmp_path, path / "cultural_common_sense.json"))
    assert one.where.endswith("cultural_common_sense.json:2")


def test_mistakes_are_named(tmp_path: Path) -> None:
    path = prompts(tmp_path)
    file = path / "natural_science.json"
    file.write_text('[{"Prompt": "a",\n "prompt_id": 1}]')
    with pytest.raises(UserError, match=r"natural_science\.json:1: prompt_id '1' stands in .*cultural.*json:2 already"):
        Wise().items(place_of(tmp_path, path))
    file.write_text('[{"Prompt": "a",\n "prompt_id": "x"}]')
    with pytest.raises(UserError, match=r"natural_science\.json:1: 'prompt_id' = 'x' is no whole number"):
        Wise().items(place_of(tmp_path, path))
    file.unlink()
    with pytest.raises(UserError, match="has not the three files of WISE"):
        Wise().items(place_of(tmp_path, path))


def test_the_first_version_weighs_three_marks_and_six_categories(tmp_path: Path) -> None:
    place = place_of(tmp_path, prompts(tmp_path))
    marks = {"consistency": 2, "realism": 1, "aesthetic_quality": 0}
    none = dict.fromkeys(marks, 0.0)
    for part, numbers in NUMBERS.items():
        assert Wise().scores(place) is None
        rows = [{"prompt_id": number, **(marks if number < 600 else none)} for number in numbers]
        results(place, f"{part}_scores_results.jsonl", lines(rows))
    scores = Wise().scores(place)
    assert scores is not None
    assert {name for name, score in scores.categories.items() if score.value} == {"culture", "time"}
    assert scores.overall.value == pytest.approx(0.8 * (0.4 + 0.167))
    assert scores.comparable


def test_the_verified_version_has_ranges_and_weights_of_its_own(tmp_path: Path) -> None:
    place = place_of(tmp_path, prompts(tmp_path, "_verified"))
    for part, numbers in NUMBERS.items():
        rows = [{"prompt_id": number, "score": float(number == 701)} for number in numbers]
        results(place, f"{part}_verified_scores_results.jsonl", lines(rows))
    scores = Wise().scores(place)
    assert scores is not None
    assert list(scores.categories) == ["culture", "time", "space", "biology", "physics", "chemistry"]
    assert scores.overall.value == pytest.approx(0.12)
    assert not scores.comparable
    assert "WISE_Verified" in scores.note


def test_a_number_that_wise_has_not_is_named(tmp_path: Path) -> None:
    place = place_of(tmp_path, prompts(tmp_path) / "cultural_common_sense.json")
    results(place, "cultural_common_sense_scores_results.jsonl", lines([{"prompt_id": 1001, "score": 1}]))
    with pytest.raises(UserError, match=r"jsonl:1: 'prompt_id' = 1001 is not among WISE's"):
        Wise().scores(place)


def test_commands_are_those_whose_results_are_missing(tmp_path: Path) -> None:
    judge = JudgeConfig(base_url="http://127.0.0.1:8000/v1", model="judge", key_variable="JUDGE_KEY")
    place = place_of(tmp_path, prompts(tmp_path), judge=judge)
    commands = Wise().commands(place)
    assert len(commands) == 3
    assert all("WISE_legacy/gpt_eval.py" in command for command in commands)
    assert '--model judge --api_base http://127.0.0.1:8000/v1 --api_key "$JUDGE_KEY"' in commands[0]
    results(place, "cultural_common_sense_scores_results.jsonl", "")
    assert len(Wise().commands(place)) == 2

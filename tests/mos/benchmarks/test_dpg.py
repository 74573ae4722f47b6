"""DPG-Bench: a grid named as each file, and the scorer's lines."""

from pathlib import Path

import pytest

from mos.benchmarks.dpg import Dpg
from mos.errors import UserError
from tests.mos.benchmarks.places import place_of, results

RESULTS = """/p/images/a.png, 0.5, 1.0, 0.75
/p, q/images/b.png, 1.0, 1.0, 1.0
Model: images
L1 category scores:
\tentity: 75.0
\tglobal: 100.0
L2 category scores:
\tentity - whole: 75.0
Image path: /p/images
Save results to: /p/dpg.txt
DPG-Bench score: 87.5
"""
DETAIL = """/p/images/a.png, (0, 0, 16, 16), Is it a car?, yes
/p/images/a.png, (0, 0, 16, 16), Is it big, and old?, yes
/p/images/a.png, (16, 0, 32, 16), Is it a car?, yes
/p/images/a.png, (16, 0, 32, 16), Is it big, and old?, no
/p, q/images/b.png, (16, 0, 32, 16), Is it a dog?, yes
/p, q/images/b.png, (16, 0, 32, 16), Is it a dog show?, yes
/p, q/images/b.png, (16, 0, 32, 16), Is it a drawing?, yes
"""
QUESTIONS = """item_id,tuple,question_natural_language
a,entity - whole (car),Is it a car?
a,"entity - state (car, big)","Is it big, and old?"
b,entity - whole (dog),Is it a dog?
b,entity - whole (show),Is it a dog show?
b,global - style (drawing),Is it a drawing?
"""


def prompts(folder: Path, **texts: str) -> Path:
    path = folder / "prompts"
    path.mkdir()
    for name, text in texts.items():
        (path / f"{name}.txt").write_text(text)
    return path


def test_a_grid_of_two_columns_named_as_the_file(tmp_path: Path) -> None:
    path = prompts(tmp_path, b=" a dog \n", a="a car")
    items = Dpg().items(place_of(tmp_path, path, num=4))
    assert [item.prompt for item in items] == ["a car", "a dog"]
    assert items[0].grid is not None
    assert (items[0].grid.path, items[0].grid.columns) == ("images/a.png", 2)
    assert items[0].pictures == tuple(f"singles/a/{number}.png" for number in range(4))
    (alone, _) = Dpg().items(place_of(tmp_path, path, num=1))
    assert (alone.pictures, alone.grid) == (("images/a.png",), None)


def test_files_that_cannot_be_prompts_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no folder of \.txt files"):
        Dpg().items(place_of(tmp_path, tmp_path / "gone"))
    path = prompts(tmp_path, a="\n")
    with pytest.raises(UserError, match=r"a\.txt:1: this file holds no prompt"):
        Dpg().items(place_of(tmp_path, path))
    (path / "a.txt").rename(path / "a.b.txt")
    with pytest.raises(UserError, match=r"up to the first dot"):
        Dpg().items(place_of(tmp_path, path))


def test_scores_come_of_the_lines_and_intervals_of_the_answers(tmp_path: Path) -> None:
    place = place_of(tmp_path, prompts(tmp_path, a="a car", b="a dog"), num=2)
    assert Dpg().scores(place) is None
    results(place, "dpg.txt", RESULTS)
    scores = Dpg().scores(place)
    assert scores is not None
    assert (scores.overall.value, scores.overall.num) == (87.5, 2)
    assert {name: score.margin for name, score in scores.categories.items()} == {"entity": None, "global": None}
    assert "need dpg_bench.csv" in scores.note
    results(place, "dpg_detail.txt", DETAIL)
    (tmp_path / "dpg_bench.csv").write_text(QUESTIONS)
    scores = Dpg().scores(place)
    assert scores is not None
    assert {name: score.value for name, score in scores.categories.items()} == {"entity": 75.0, "global": 100.0}
    assert all(score.margin is not None for score in scores.categories.values())
    assert scores.note == ""


def test_results_that_are_not_whole_are_named(tmp_path: Path) -> None:
    place = place_of(tmp_path, prompts(tmp_path, a="a car"))
    results(place, "dpg.txt", RESULTS.partition("Model")[0])
    with pytest.raises(UserError, match=r"dpg\.txt holds no line of a picture, or no category"):
        Dpg().scores(place)
    results(place, "dpg.txt", RESULTS)
    results(place, "dpg_detail.txt", DETAIL + "what\n")
    (tmp_path / "dpg_bench.csv").write_text(QUESTIONS)
    with pytest.raises(UserError, match=r"dpg_detail\.txt:8: neither path, crop, question and answer"):
        Dpg().scores(place)


def test_the_command_says_size_and_number(tmp_path: Path) -> None:
    (command,) = Dpg().commands(place_of(tmp_path, tmp_path / "prompts", num=4, side=64))
    assert "--resolution 64 --pic-num 4" in command

"""GenEval: folders and metadata as its scorer has them, and its results."""

import json
from pathlib import Path

import pytest

from mos.benchmarks.geneval import GenEval
from mos.errors import UserError
from tests.mos.benchmarks.places import lines, place_of, results

ONE = {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"}
TWO = {"tag": "colors", "include": [{"class": "cup", "count": 1, "color": "red"}], "prompt": "a photo of a red cup"}


def prompts(folder: Path, *rows: dict) -> Path:
    path = folder / "evaluation_metadata.jsonl"
    path.write_text(lines(rows))
    return path


def test_a_numbered_folder_for_each_line(tmp_path: Path) -> None:
    items = GenEval().items(place_of(tmp_path, prompts(tmp_path, ONE, TWO), num=2))
    assert [item.prompt for item in items] == [ONE["prompt"], TWO["prompt"]]
    assert items[1].pictures == ("images/00001/samples/0000.png", "images/00001/samples/0001.png")
    assert items[1].grid is not None
    assert items[1].grid.path == "images/00001/grid.png"
    assert json.loads(items[1].texts["images/00001/metadata.jsonl"]) == TWO


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"tag": "colors", "include": []}, ":2: 'prompt', which is missing, is no text"),
        ({"prompt": "a", "include": []}, ":2: 'tag', which is missing"),
        ({"prompt": "a", "tag": "colors"}, ":2: 'include' is no list"),
    ],
)
def test_a_line_that_lacks_something_is_named(tmp_path: Path, row: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        GenEval().items(place_of(tmp_path, prompts(tmp_path, ONE, row)))


def test_scores_are_of_pictures_then_of_tags(tmp_path: Path) -> None:
    place = place_of(tmp_path, prompts(tmp_path, ONE, TWO), num=2)
    assert GenEval().scores(place) is None
    found = [(ONE, True), (ONE, True), (TWO, True), (TWO, False)]
    results(
        place,
        "results.jsonl",
        lines({"tag": row["tag"], "metadata": json.dumps(row), "correct": right} for row, right in found),
    )
    scores = GenEval().scores(place)
    assert scores is not None
    assert {name: score.value for name, score in scores.categories.items()} == {"single_object": 1.0, "colors": 0.5}
    assert (scores.overall.value, scores.overall.num) == (0.75, 2)
    results(place, "results.jsonl", lines([{"tag": "colors", "metadata": "{}", "correct": "yes"}]))
    with pytest.raises(UserError, match=r"results\.jsonl:1: 'correct' = 'yes' is neither true nor false"):
        GenEval().scores(place)


def test_the_command_names_folder_and_results(tmp_path: Path) -> None:
    (command,) = GenEval().commands(place_of(tmp_path / "a b", tmp_path))
    assert f"evaluate_images.py '{tmp_path}/a b/out/images'" in command
    assert f"--outfile '{tmp_path}/a b/out/results/results.jsonl'" in command

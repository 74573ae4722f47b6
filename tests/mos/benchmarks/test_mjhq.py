"""MJHQ-30K: pictures by category and hash, and distances."""

import json
import shlex
from pathlib import Path

import pytest

from mos.benchmarks.mjhq import FID, Mjhq
from mos.errors import UserError
from tests.mos.benchmarks.places import place_of, results

PROMPTS = {"ab12": {"category": "art", "prompt": "a tree"}, "cd34": {"category": "logo", "prompt": "a logo"}}


def prompts(folder: Path, text: str = json.dumps(PROMPTS)) -> Path:
    path = folder / "meta_data.json"
    path.write_text(text)
    return path


def test_a_picture_by_category_and_hash(tmp_path: Path) -> None:
    items = Mjhq().items(place_of(tmp_path, prompts(tmp_path)))
    assert [(item.prompt, *item.pictures) for item in items] == [
        ("a tree", "images/art/ab12.png"),
        ("a logo", "images/logo/cd34.png"),
    ]


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"json:1: 'category' = '\.\.' becomes the name of a file"):
        Mjhq().items(place_of(tmp_path, prompts(tmp_path, '{"a": {"category": "..", "prompt": "a"}}')))
    with pytest.raises(UserError, match=r"json:2: picture 'a' stands in"):
        Mjhq().items(place_of(tmp_path, prompts(tmp_path, '{"a": {},\n"a": {}}')))


def test_distances_are_read(tmp_path: Path) -> None:
    place = place_of(tmp_path, prompts(tmp_path))
    assert Mjhq().scores(place) is None
    results(place, "fid.json", '{"art": 20.5, "FID": 10.25}')
    scores = Mjhq().scores(place)
    assert scores is not None
    assert (scores.overall.value, scores.overall.margin, scores.overall.num) == (10.25, None, 2)
    assert scores.categories["art"].num == 1
    results(place, "fid.json", '{"art": 20.5}')
    with pytest.raises(UserError, match="'FID' is missing"):
        Mjhq().scores(place)


def test_the_command_is_a_program_of_three_paths(tmp_path: Path) -> None:
    place = place_of(tmp_path, prompts(tmp_path), pictures=tmp_path / "real")
    (command,) = Mjhq().commands(place)
    words = shlex.split(command, comments=True)
    assert words[:3] == ["python", "-c", FID]
    assert words[3:] == [str(place.images), str(tmp_path / "real"), str(place.results / "fid.json")]
    compile(FID, "fid", "exec")

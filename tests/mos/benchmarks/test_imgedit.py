"""ImgEdit-Bench: pictures by key, and means by type."""

import json
from pathlib import Path

import pytest
from PIL import Image

from mos.benchmarks.imgedit import ImgEdit
from mos.errors import UserError
from tests.mos.benchmarks.places import place_of, results

EDITS = {
    "1082": {"id": "animal/1.jpg", "prompt": "smooth its shell", "edit_type": "adjust"},
    "7": {"id": "animal/1.jpg", "prompt": "as a woodcut", "edit_type": "style"},
}


def prompts(folder: Path, text: str = json.dumps(EDITS, indent=1)) -> Path:
    (folder / "pictures/animal").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(folder / "pictures/animal/1.jpg")
    path = folder / "basic_edit.json"
    path.write_text(text)
    return path


def test_a_picture_by_key_beside_its_source(tmp_path: Path) -> None:
    items = ImgEdit().items(place_of(tmp_path, prompts(tmp_path), pictures=tmp_path / "pictures"))
    assert [item.pictures for item in items] == [("images/1082.png",), ("images/7.png",)]
    assert items[0].source == tmp_path / "pictures/animal/1.jpg"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            '{"1": {"id": "animal/2.jpg", "prompt": "a", "edit_type": "add"}}',
            r"json:1: picture to edit 'animal/2\.jpg'",
        ),
        ('{\n"1": {"id": "../basic_edit.json", "prompt": "a", "edit_type": "add"}}', r"json:2: picture to edit '\.\./"),
        ('{"../1": {"id": "animal/1.jpg", "prompt": "a", "edit_type": "add"}}', r"json:1: key = '\.\./1' becomes"),
        ('{"1": {"id": "animal/1.jpg", "edit_type": "add"}}', r"json:1: 'prompt', which is missing"),
        ('{"1": {"id": "animal/1.jpg", "prompt": "a"}}', r"json:1: 'edit_type', which is missing"),
        ('{"1": {},\n"1": {}}', r"json:2: edit '1' stands in .*json:1 already"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        ImgEdit().items(place_of(tmp_path, prompts(tmp_path, text), pictures=tmp_path / "pictures"))


def test_the_pictures_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name the folder that its ids begin in with pictures="):
        ImgEdit().items(place_of(tmp_path, prompts(tmp_path)))


def test_scores_are_means_of_types(tmp_path: Path) -> None:
    place = place_of(tmp_path, prompts(tmp_path), pictures=tmp_path / "pictures")
    assert ImgEdit().scores(place) is None
    assert len(ImgEdit().commands(place)) == 2
    results(place, "average_score.json", '{"1082": 4.0, "7": 2.5}')
    scores = ImgEdit().scores(place)
    assert scores is not None
    assert {name: score.value for name, score in scores.categories.items()} == {"adjust": 4.0, "style": 2.5}
    assert scores.overall.value == 3.25
    results(place, "average_score.json", '{"1082": 4.0,\n"8": 2.5}')
    with pytest.raises(UserError, match=r"average_score\.json:2: edit '8' is not in"):
        ImgEdit().scores(place)


def test_judged_pictures_need_their_means_alone(tmp_path: Path) -> None:
    place = place_of(tmp_path, prompts(tmp_path), pictures=tmp_path / "pictures")
    place.images.mkdir(parents=True)
    (place.images / "result.json").touch()
    (command,) = ImgEdit().commands(place)
    assert "step1_get_avgscore.py" in command

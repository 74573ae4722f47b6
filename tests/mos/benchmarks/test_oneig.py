"""OneIG-Bench: grids by class and model, and five tables."""

from pathlib import Path

import pytest

from mos.benchmarks.oneig import OneIg
from mos.errors import UserError
from tests.mos.benchmarks.places import place_of, results

ENGLISH = "category,id,prompt_en,class\nPortrait,000,a man,\nText_Rendering,007,a sign,\n"


def prompts(folder: Path, text: str = ENGLISH) -> Path:
    path = folder / "OneIG-Bench.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_grid_by_class_model_and_number(tmp_path: Path) -> None:
    items = OneIg().items(place_of(tmp_path, prompts(tmp_path), num=4))
    assert [item.grid.path for item in items if item.grid] == [
        "images/human/ours/000.webp",
        "images/text/ours/007.webp",
    ]
    assert items[0].pictures == tuple(f"singles/human/000/{number}.png" for number in range(4))
    assert items[0].grid is not None
    assert items[0].grid.columns == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (ENGLISH + "Portrait,000,again,\n", r"csv:4: the picture 'images/human/.*' stands in .*csv:2 already"),
        (ENGLISH + "Cats,001,a cat,\n", r"csv:4: 'category' = 'Cats' is none of"),
        (ENGLISH + "Portrait,../1,a cat,\n", r"csv:4: 'id' = '\.\./1' becomes the name of a file"),
        (ENGLISH + "Portrait,001,,\n", r"csv:4: 'prompt_en' = '' is no text"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        OneIg().items(place_of(tmp_path, prompts(tmp_path, text)))


def tables(place: object, mode: str = "EN", model: str = "ours") -> None:
    for name in ("alignment", "reasoning", "style", "diversity", "text"):
        column = "text score" if name == "text" else name
        results(place, f"{name}_score_{mode}_2026-01-01_00-00-00.csv", f",{column}\n{model},0.5\n")
        cells = "000,0.25\n001,0.75\n002,\n" if name != "text" else '000,"[1, 0, 1]"\n'
        results(place, f"{name}_prompt_score_{mode}_2026-01-01_00-00-00.csv", f",{model}\n{cells}")


def test_the_newest_tables_are_read(tmp_path: Path) -> None:
    place = place_of(tmp_path, prompts(tmp_path), num=4)
    assert OneIg().scores(place) is None
    assert len(OneIg().commands(place)) == 6
    tables(place)
    results(place, "text_score_EN_2026-02-01_00-00-00.csv", ",text score\nours,1.0\n")
    scores = OneIg().scores(place)
    assert scores is not None
    assert {name: score.value for name, score in scores.categories.items()} == {
        "alignment": 0.5, "text": 1.0, "reasoning": 0.5, "style": 0.5, "diversity": 0.5
    }  # fmt: skip
    assert scores.overall.value == pytest.approx(0.6)
    assert scores.overall.num == scores.categories["alignment"].num == 2
    assert scores.categories["text"].margin is scores.overall.margin is None
    assert scores.comparable
    assert len(OneIg().commands(place)) == 1


def test_chinese_prompts_stand_apart(tmp_path: Path) -> None:
    text = "category,id,prompt_cn,class\nMultilingualism,000,雨,\n"
    place = place_of(tmp_path, prompts(tmp_path, text), num=4)
    tables(place, "EN")
    assert OneIg().scores(place) is None
    assert "--mode ZH" in OneIg().commands(place)[0]
    assert "multilingualism" in OneIg().commands(place)[0]
    tables(place, "ZH")
    scores = OneIg().scores(place)
    assert scores is not None
    assert not scores.comparable


def test_tables_of_another_model_are_named(tmp_path: Path) -> None:
    place = place_of(tmp_path, prompts(tmp_path))
    tables(place, model="theirs")
    with pytest.raises(UserError, match=r"has no column of 'ours'"):
        OneIg().scores(place)

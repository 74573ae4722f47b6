from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest
from pydantic import Field, ValidationError

from mos.config import StrictConfig
from mos.curation.config import CurateConfig
from mos.curation.sources import FolderSource
from mos.errors import UserError
from mos.images.decode import ImageLimits
from mos.shapes.dataset import ShapesConfig
from mos.training.stage import StageConfig


class Shape(StrEnum):
    ROUND = "round"


class Nested(StrictConfig):
    size: int = 1


class Settings(StrictConfig):
    count: int = 1
    share: float = 0.5
    limit: float | None = None
    sides: tuple[int, ...] = ()
    pairs: tuple[tuple[int, float], ...] = ()
    ratios: dict[str, float] = Field(default_factory=dict)
    weights: dict[Shape, float] = Field(default_factory=dict)
    text: str = "text"
    where: Annotated[str, Field(min_length=1)] | None = None
    folder: Path = Path("folder")
    fast: bool = False
    kind: Literal["a", "b"] = "a"
    side: int | Literal["auto"] = "auto"
    nested: Nested = Nested()


@pytest.mark.parametrize(
    ("given", "held"),
    [
        ({"count": np.int64(3)}, {"count": 3}),
        ({"count": np.uint8(3)}, {"count": 3}),
        ({"share": np.float32(0.25)}, {"share": 0.25}),
        ({"share": np.int16(2)}, {"share": 2.0}),
        ({"share": 2}, {"share": 2.0}),
        ({"limit": np.float64(1.5)}, {"limit": 1.5}),
        ({"sides": [8, 16]}, {"sides": (8, 16)}),
        ({"sides": (np.int32(8), 16)}, {"sides": (8, 16)}),
        ({"sides": np.array([8, 16])}, {"sides": (8, 16)}),
        ({"pairs": [[1, np.float32(0.5)], (np.int64(2), 1)]}, {"pairs": ((1, 0.5), (2, 1.0))}),
        ({"ratios": {"x": np.float64(2)}}, {"ratios": {"x": 2.0}}),
        ({"weights": {"round": np.int64(2)}}, {"weights": {Shape.ROUND: 2.0}}),
        ({"text": Path("/data")}, {"text": "/data"}),
        ({"text": np.str_("word")}, {"text": "word"}),
        ({"where": Path("/data")}, {"where": "/data"}),
        ({"folder": "/data"}, {"folder": Path("/data")}),
        ({"fast": np.bool_(True)}, {"fast": True}),
        ({"side": np.int64(4)}, {"side": 4}),
        ({"nested": {"size": np.int64(4)}}, {"nested": Nested(size=4)}),
    ],
    ids=str,
)
def test_a_value_may_come_in_any_form_of_its_type(given: dict, held: dict):
    settings = Settings(**given)
    for name, value in held.items():
        assert getattr(settings, name) == value
        assert type(getattr(settings, name)) is type(value)


@pytest.mark.parametrize(
    "given",
    [
        {"count": True},
        {"count": "3"},
        {"count": 2.5},
        {"count": np.float64(2.5)},
        {"count": np.bool_(True)},
        {"count": None},
        {"share": True},
        {"share": "0.5"},
        {"limit": False},
        {"sides": [True]},
        {"sides": ["8"]},
        {"sides": "8"},
        {"ratios": {"x": "1"}},
        {"ratios": {"x": True}},
        {"pairs": [(1, "2")]},
        {"text": 3},
        {"kind": "c"},
        {"fast": 3},
        {"side": True},
        {"nested": {"size": "4"}},
    ],
    ids=str,
)
def test_a_wrong_type_is_refused(given: dict):
    with pytest.raises(ValidationError):
        Settings(**given)


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan"), np.float32("inf")])
@pytest.mark.parametrize(
    "settings",
    [
        lambda number: Settings(share=number),
        lambda number: Settings(ratios={"x": number}),
        lambda number: Settings(pairs=((1, number),)),
        lambda number: Settings(count=number),
        lambda number: ShapesConfig(weights={"counting": number}),
        lambda number: ImageLimits(max_aspect=number),
        lambda number: StageConfig(resolution=32, steps=1, batch_size=1, sources={"x": number}),
    ],
)
def test_a_number_is_finite(settings, number):
    with pytest.raises(ValidationError):
        settings(number)


def test_real_sections_take_every_form(tmp_path: Path):
    source = FolderSource(name="photos", path=tmp_path, captions=tmp_path / "c.jsonl", caption_keys=["a", "b"])
    assert (source.path, source.caption_keys) == (str(tmp_path), ("a", "b"))
    config = CurateConfig(sources=[source], resolutions=np.array([32, 64]), token_px=np.int64(8))
    assert config == CurateConfig(sources=(source,), resolutions=(32, 64), token_px=8)
    assert config.settings_id() == CurateConfig(sources=(source,), resolutions=[32, 64], token_px=8).settings_id()


def load(folder: Path, text: str | bytes, *overrides: str) -> Settings:
    path = folder / "c.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Settings.load(path, overrides)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("share = inf", "'share' = inf is refused"),
        ("share = nan", "'share' = nan is refused"),
        ("ratios = { x = -inf }", r"'ratios\.x' = -inf is refused"),
        ("count = true", "'count' = True is refused: a bool is no number"),
        ("count = '3'", "'count' = '3' is refused: a string is no number"),
        ("cuont = 3", "unknown key 'cuont'"),
        ("count = ", "not valid TOML"),
        (b"text = '\xff'", "not valid TOML"),
    ],
)
def test_a_mistake_ends_in_one_sentence(text, sentence: str, tmp_path: Path):
    with pytest.raises(UserError, match=sentence) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_named(tmp_path: Path):
    (tmp_path / "c.toml").write_text("steps = 1\nresolution = 8\n")
    with pytest.raises(UserError, match=r"'batch_size' is missing: set it$"):
        StageConfig.load(tmp_path / "c.toml")


def test_a_config_may_begin_with_a_byte_order_mark(tmp_path: Path):
    assert load(tmp_path, b"\xef\xbb\xbfcount = 3\r\n").count == 3


@pytest.mark.parametrize(("text", "number"), [(".5", 0.5), ("5.", 5.0), ("1.e-4", 1e-4), ("1e-4", 1e-4), ("2", 2.0)])
def test_an_override_takes_a_float_as_python_writes_it(text: str, number: float, tmp_path: Path):
    assert load(tmp_path, "", f"share={text}").share == number


def test_an_override_that_is_no_number_stays_text(tmp_path: Path):
    assert load(tmp_path, "", "text=v1.5").text == "v1.5"

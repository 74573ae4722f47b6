import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from mos.sampling.config import SamplerConfig
from mos.sampling.pictures import from_png, to_png
from mos.sampling.trace import RouterTrace
from operators.generate_images import GenerateImages
from operators.trace_router import TraceRouter
from tests.mos.sampling.tiny_export import save_export

SAMPLER = SamplerConfig(steps=2)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("exports")
    return {name: str(save_export(folder / name, seed=seed)) for seed, name in enumerate(("stage1", "edit"))}


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    source = to_png(Image.new("RGB", (30, 20), "red"))
    base = {"model": "stage1", "negative_prompt": "", "height": 16, "width": 16, "source": None}
    return [
        {**base, "prompt": "a red circle", "seed": 0},
        {**base, "prompt": "a ring", "seed": 1, "width": 24},
        {**base, "prompt": "make it blue", "seed": 2, "model": "edit", "source": source},
        {**base, "prompt": "a blue star", "seed": 3},
    ]


def test_each_row_gets_its_own_picture(exports: dict[str, str], rows: list[dict]) -> None:
    operator = GenerateImages(exports, SAMPLER, "cpu")
    together = operator(pa.Table.from_pylist(rows)).column("image").to_pylist()
    assert [from_png(png).size for png in together] == [(16, 16), (24, 16), (16, 16), (16, 16)]
    for row, png in zip(rows, together, strict=True):
        alone = operator(pa.Table.from_pylist([row])).column("image").to_pylist()[0]
        difference = np.abs(np.asarray(from_png(png), dtype=int) - np.asarray(from_png(alone), dtype=int))
        assert difference.max() <= 1


def test_every_column_stays(exports: dict[str, str], rows: list[dict]) -> None:
    batch = pa.Table.from_pylist(rows[:1])
    result = GenerateImages(exports, SAMPLER, "cpu")(batch)
    assert result.column_names == [*batch.column_names, "image", "notices", "problem"]
    assert result.select(batch.column_names) == batch


def test_rows_that_cannot_be_drawn_say_why(exports: dict[str, str], rows: list[dict]) -> None:
    damaged = {**rows[2], "source": b"no picture"}
    huge = {**rows[0], "width": 17}
    drawn = GenerateImages(exports, SAMPLER, "cpu")(pa.Table.from_pylist([damaged, rows[0], huge])).to_pylist()
    assert [row["image"] is None for row in drawn] == [True, False, True]
    assert "not a picture that can be edited" in drawn[0]["problem"]
    assert drawn[1]["problem"] is None
    assert "width = 17 is not a multiple" in drawn[2]["problem"]


def test_rows_tell_what_the_model_never_sees(exports: dict[str, str], rows: list[dict]) -> None:
    long = " ".join(["a red circle"] * 100)
    batch = [rows[0], {**rows[0], "prompt": long}, {**rows[0], "negative_prompt": long}]
    notices = GenerateImages(exports, SAMPLER, "cpu")(pa.Table.from_pylist(batch)).column("notices").to_pylist()
    assert [len(found) for found in notices] == [0, 1, 1]
    assert "never reach the model" in notices[1][0]


def test_a_trace_comes_with_every_step(exports: dict[str, str]) -> None:
    batch = pa.table({"prompt": ["a red circle", "a ring"], "seed": [0, 1]})
    [first, second] = TraceRouter(exports["stage1"], SAMPLER, "cpu")(batch).to_pylist()
    assert len(first["noisy"]) == len(first["predicted"]) == 2
    assert RouterTrace.load(io.BytesIO(second["trace"])).tokens == ("[CLS]", "a", "ring", "[SEP]")

"""Requests through a pool of actors: every picture in its place, every sentence with the user."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from mos.errors import UserError
from mos.sampling.config import SamplerConfig
from mos.sampling.pictures import to_png
from pipelines.draw.pool import REQUESTS, draw
from pipelines.draw.requests import Request
from pipelines.run.config import RunConfig
from tests.mos.sampling.tiny_export import save_export

SOURCE = to_png(Image.new("RGB", (30, 20), "red"))
CIRCLE = Request("stage1", "a red circle", 0, 16, 16)


def drawn(requests: list[Request], exports: Mapping[str, str], config: RunConfig) -> list[Image.Image]:
    return draw(
        requests,
        exports,
        SamplerConfig(steps=2),
        pool=config.cluster.generate,
        batch_size=2,
        label="sample",
        limits=config.curate.image,
    )


def apart(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of two pictures, levels."""
    return int(np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max())


def test_nothing_to_draw_asks_for_nobody(small_run: Callable[..., RunConfig], capsys: pytest.CaptureFixture) -> None:
    assert drawn([], {}, small_run()) == []
    assert capsys.readouterr().out == ""


def test_every_request_fits_a_row() -> None:
    assert set(REQUESTS.names) == {"position", *(field.name for field in fields(Request))}
    requests = [Request("edit", "wörds", 2**64 - 1, 16, 24, "no star", SOURCE), CIRCLE]
    rows = [{"position": place, **asdict(request)} for place, request in enumerate(requests)]
    back = pa.Table.from_pylist(rows, schema=REQUESTS).drop_columns("position").to_pylist()
    assert [Request(**row) for row in back] == requests


def test_a_pool_that_never_fits_is_named(local_ray: None, small_run: Callable[..., RunConfig]) -> None:
    config = small_run("cluster.generate={num=1, cpus=64}")
    with pytest.raises(UserError, match=r"1 workers of 64 CPU each \(cluster.generate\) do not fit the cluster"):
        drawn([CIRCLE], {"stage1": "nowhere"}, config)


@pytest.mark.slow
def test_pictures_come_back_in_the_order_of_the_requests(
    local_ray: None, small_run: Callable[..., RunConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exports = {name: str(save_export(tmp_path / name, seed=seed)) for seed, name in enumerate(("stage1", "edit"))}
    requests = [
        CIRCLE,
        Request("edit", "make it blue", 1, 16, 24, source=SOURCE),
        Request("stage1", "a ring", 2**64 - 1, 24, 16),
        CIRCLE,
        Request("stage1", " ".join(["a blue star"] * 100), 3, 16, 16),
    ]
    pictures = drawn(requests, exports, small_run("cluster.generate={num=1, cpus=1}"))
    assert [picture.size for picture in pictures] == [(16, 16), (24, 16), (16, 24), (16, 16), (16, 16)]
    assert apart(pictures[0], pictures[3]) <= 1 < apart(pictures[0], pictures[4])
    said = capsys.readouterr().out
    assert "sample: 5/5 pictures\n" in said
    assert said.count("sample: a prompt is longer than what the model reads") == 1


@pytest.mark.slow
def test_a_request_that_cannot_be_drawn_ends_drawing_with_its_sentence(
    local_ray: None, small_run: Callable[..., RunConfig], tmp_path: Path
) -> None:
    export = save_export(tmp_path / "export")
    (export / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"^weights .* cannot be used"):
        drawn([CIRCLE], {"stage1": str(export)}, small_run("cluster.generate={num=1, cpus=1}"))

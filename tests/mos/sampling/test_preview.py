"""Grids that compare: the same captions and noise at every step, and a training that they never end."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mos.encoders.pixel_codec import PixelCodec
from mos.encoders.vae import PixelConfig
from mos.sampling.config import SamplerConfig
from mos.sampling.preview import Preview, PreviewInputs, picture_grid
from mos.states.packed import PackedStates
from tests.mos.sampling.tiny_export import TINY, random_model
from tests.mos.training.small_disk import fill, small_disk

CPU = torch.device("cpu")
CODEC = PixelCodec(PixelConfig())
SAMPLER = SamplerConfig(steps=2, guidance=3.0)
COLOURS = ("red", "green", "blue", "black", "orange")


def contexts(*lengths: int, seed: int = 0) -> list[PackedStates]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(length, TINY.state_layers + 1, TINY.state_dim) for length in lengths]
    states = [torch.randn(shape, generator=generator).bfloat16() for shape in shapes]
    return [PackedStates("bf16", torch.tensor([0, len(context)]), context) for context in states]


def inputs() -> PreviewInputs:
    """Three captions of pictures 16 px wide and 8 high."""
    return PreviewInputs(contexts(4, 2, 3), contexts(1, 1, 1, seed=1), torch.zeros(3, 12, 4, 8), None)


def preview(folder: Path | None, given: PreviewInputs, said: list[str], sampler: SamplerConfig = SAMPLER) -> Preview:
    return Preview(given, sampler, CODEC, folder, CPU, said.append)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path), dtype=int)


def grid_of(folder: Path, given: PreviewInputs, sampler: SamplerConfig = SAMPLER) -> np.ndarray:
    """The one grid that is drawn into a folder."""
    preview(folder, given, [], sampler)(random_model(), 1)
    return pixels(folder / "step-000000001.png")


def test_equal_weights_give_equal_grids_whenever_they_are_drawn(tmp_path: Path) -> None:
    said: list[str] = []
    draw = preview(tmp_path / "samples", inputs(), said)
    draw(random_model(), 7)
    draw(random_model(seed=1), 20)
    draw(random_model(), 1_000_000)
    first, other, again = sorted((tmp_path / "samples").iterdir())
    assert [path.name for path in (first, other, again)] == [
        "step-000000007.png", "step-000000020.png", "step-001000000.png"
    ]  # fmt: skip
    assert np.array_equal(pixels(first), pixels(again))
    assert np.abs(pixels(first) - pixels(other)).max() > 10
    assert pixels(first).shape == (2 * (8 + 2) + 2, 2 * (16 + 2) + 2, 3)
    assert said == []


def test_each_picture_has_noise_of_its_own(tmp_path: Path) -> None:
    alike = replace(inputs(), contexts=contexts(4) * 3, null_contexts=contexts(1, seed=1) * 3)
    grid = grid_of(tmp_path, alike)
    cells = [grid[top : top + 8, left : left + 16] for top, left in ((2, 2), (2, 20), (12, 2))]
    assert min(np.abs(one - other).max() for one, other in itertools.combinations(cells, 2)) > 10


@pytest.mark.parametrize(("guidance", "differs"), [(3.0, True), (1.0, False)])
def test_null_contexts_are_read_where_guidance_is_on(tmp_path: Path, guidance: float, differs: bool) -> None:
    sampler = SamplerConfig(steps=2, guidance=guidance)
    one = grid_of(tmp_path / "one", inputs(), sampler)
    other = grid_of(tmp_path / "other", replace(inputs(), null_contexts=contexts(5, 5, 5, seed=2)), sampler)
    assert bool(np.abs(one - other).max() > 1) == differs


def test_edits_stand_beside_what_they_edit(tmp_path: Path) -> None:
    reference = torch.linspace(-1, 1, 3)[:, None, None, None].expand(-1, 12, 4, 8)
    grid = grid_of(tmp_path, replace(inputs(), reference=reference))
    assert grid.shape == (2 * 10 + 2, 4 * 18 + 2, 3)  # two pairs in a row, then one
    places = [(2, 2), (2, 2 + 2 * 18), (2 + 10, 2)]
    for (top, left), value in zip(places, (0, 128, 255), strict=True):
        assert (grid[top : top + 8, left : left + 16] == value).all()
    assert np.ptp(grid[2:10, 20:36]) > 10


def test_a_rank_without_a_folder_takes_part_in_drawing_all_the_same() -> None:
    """A sharded model's ranks wait for each other in every layer."""
    model, said, passes = random_model(), [], []
    model.register_forward_hook(lambda *_: passes.append(1))
    preview(None, inputs(), said)(model, 1)
    assert (len(passes), said) == (SAMPLER.steps, [])


def test_values_that_are_not_finite_are_said_and_not_drawn(tmp_path: Path) -> None:
    model, said = random_model(), []
    with torch.no_grad():
        model.patch_out.weight[0] = float("nan")
    preview(tmp_path / "samples", inputs(), said)(model, 7)
    assert said == ["no pictures of step 7: their values are not finite"]
    assert not (tmp_path / "samples").exists()


def test_a_file_in_place_of_the_folder_costs_a_grid_and_no_training(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "samples").touch()
    preview(tmp_path / "samples", inputs(), said)(random_model(), 7)
    assert ["training goes on without them" in line for line in said] == [True]


def test_a_full_disk_costs_a_grid_and_no_training(tmp_path: Path) -> None:
    said: list[str] = []
    with small_disk(tmp_path / "disk", 1) as folder:
        filler = fill(folder, leave=0)
        draw = preview(folder / "samples", inputs(), said)
        draw(random_model(), 7)
        assert len(said) == 1
        assert "No space left on device" in said[0]
        assert "training goes on without them" in said[0]
        assert not list(folder.rglob("*.png"))
        filler.unlink()
        draw(random_model(), 8)
        assert [path.name for path in folder.rglob("*.png")] == ["step-000000008.png"]


@pytest.mark.parametrize(("num", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 2, 2), (4, 2, 2), (5, 4, 2)])
def test_a_grid_has_an_even_number_of_columns_and_no_more_rows_than_it_needs(num: int, columns: int, rows: int) -> None:
    grid = picture_grid([Image.new("RGB", (6, 4), colour) for colour in COLOURS[:num]])
    assert grid.size == (columns * 8 + 2, rows * 6 + 2)
    for place, colour in enumerate(COLOURS[:num]):
        left, top = 2 + place % columns * 8, 2 + place // columns * 6
        cell = grid.crop((left - 1, top - 1, left + 7, top + 5))
        framed = Image.new("RGB", (8, 6), "white")
        framed.paste(Image.new("RGB", (6, 4), colour), (1, 1))
        assert cell.tobytes() == framed.tobytes()

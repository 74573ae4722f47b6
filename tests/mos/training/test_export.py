"""Weights are written as they come, one in memory at a time, in the format that safetensors reads."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from mos.training.export import write_safetensors

WEIGHTS = {
    "blocks.0.weight": torch.randn(3, 5),
    "blocks.0.bias": torch.randn(3),
    "scale": torch.tensor(2.5),
    "none": torch.empty(0, 4),
    "transposed": torch.randn(4, 6).T,
    "half": torch.randn(7).bfloat16(),
}
SHAPES = {name: tuple(weight.shape) for name, weight in WEIGHTS.items()}


def test_what_comes_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_safetensors(path, SHAPES, WEIGHTS.items())
    found = load_file(path)
    assert found.keys() == WEIGHTS.keys()
    for name, weight in WEIGHTS.items():
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name], weight.float())
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_one_weight_is_asked_for_at_a_time(tmp_path: Path) -> None:
    """Each is on disk, or on its way there, before the next is made."""
    path, sizes = tmp_path / "model.safetensors", []

    def coming() -> Iterator[tuple[str, Tensor]]:
        for place in range(3):
            sizes.append(path.stat().st_size)
            yield str(place), torch.full((100_000,), float(place))

    write_safetensors(path, {str(place): (100_000,) for place in range(3)}, coming())
    assert sizes[2] >= sizes[1] + 400_000 >= 400_000


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (dict(reversed(SHAPES.items())), "came where half"),
        (SHAPES | {"blocks.0.weight": (5, 3)}, r"blocks.0.weight \(3, 5\) came where blocks.0.weight \(5, 3\)"),
        (SHAPES | {"more": (1,)}, "shorter"),
    ],
)
def test_other_weights_than_announced_are_refused(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_safetensors(tmp_path / "model.safetensors", shapes, WEIGHTS.items())

"""Which pictures a codec learns from: the same at any number of ranks, never one that is held out."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mos.autoencoder.pictures import PictureIndex, Pictures, index_pictures
from mos.errors import UserError
from mos.images.decode import ImageLimits
from mos.tables.lance import TableVersion
from tests.samples import Pair, append_samples

COLOURS = ("red", "green", "blue", "yellow", "pink", "white", "black", "orange")


@pytest.fixture
def samples(tmp_path: Path) -> TableVersion:
    pairs = [Pair(f"{colour} {number}", colour) for colour in COLOURS for number in range(3)]
    return append_samples(tmp_path, [*pairs, Pair("small", "cyan", buckets=("32x32", None))])


def reader(samples: TableVersion, seed: int = 0) -> Pictures:
    return Pictures(samples, ImageLimits(), index_pictures(samples, 32, 0.3), seed)


def test_pictures_are_split_by_their_own_hash(samples: TableVersion):
    index = index_pictures(samples, 32, 0.3)
    rows = samples.open().to_table(columns=["image_hash"])["image_hash"].to_pylist()
    trained, held = (
        {rows[row] for numbers in part.values() for row in numbers} for part in (index.training, index.held_out)
    )
    assert not trained & held, "copies of one picture stand on one side"
    assert sum(index.count()) == len(rows)
    assert all(int(name[:8], 16) < 0.3 * 16**8 for name in held)


def test_a_picture_without_a_bucket_of_the_resolution_does_not_count(samples: TableVersion):
    assert sum(index_pictures(samples, 48, 0.3).count()) == samples.rows - 1


def test_a_batch_is_the_same_at_any_number_of_ranks(samples: TableVersion):
    pictures = reader(samples)
    whole = pictures.batch(3, 8, 0, 1)
    assert whole.shape == (8, 3, 32, 32)
    assert torch.equal(torch.cat([pictures.batch(3, 8, rank, 4) for rank in range(4)]), whole)
    assert torch.equal(reader(samples).batch(3, 8, 0, 1), whole)
    assert not torch.equal(pictures.batch(4, 8, 0, 1), whole)
    assert not torch.equal(reader(samples, seed=1).batch(3, 8, 0, 1), whole)


def test_a_picture_that_cannot_be_decoded_gives_way(tmp_path: Path):
    samples = append_samples(tmp_path, [Pair("a", "red"), Pair("b", "blue", broken=True), Pair("c", "green")])
    rows = {"32x32": np.arange(3)}
    pictures = Pictures(samples, ImageLimits(), PictureIndex(rows, rows), 0)
    red, other, green = pictures.read(np.array([0, 1, 2]), "32x32")
    assert torch.equal(other, green)
    assert not torch.equal(red, green)
    with pytest.raises(UserError, match="not one of 1 pictures could be decoded"):
        pictures.read(np.array([1, 1]), "32x32")


def test_too_few_pictures_are_refused(samples: TableVersion, tmp_path: Path):
    with pytest.raises(UserError, match=r"the samples table has no bucket_40: choose codec\.resolution"):
        index_pictures(samples, 40, 0.3)
    with pytest.raises(UserError, match=r"and 0 to hold out at 32 px: .*raise codec\.held_out"):
        index_pictures(samples, 32, 1e-9)

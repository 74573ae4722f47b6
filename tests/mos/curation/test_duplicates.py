import random

import pytest

from mos.curation.duplicates import Mark, NearIndex, find_copies
from mos.images.reasons import Reason


def mark(sample: str, phash: int, pair: str = "p") -> Mark:
    return Mark(sample, pair, phash, sample)


def flipped(value: int, num_bits: int, rng: random.Random) -> int:
    for bit in rng.sample(range(64), num_bits):
        value ^= 1 << bit
    return value


@pytest.mark.parametrize("radius", [1, 2, 3, 6, 16])
def test_banding_finds_what_comparing_all_finds(radius):
    rng = random.Random(radius)
    centres = [rng.getrandbits(64) for _ in range(20)]
    index = NearIndex(radius)
    for number, centre in enumerate(centres):
        index.add(mark(str(number), centre))
    for _ in range(500):
        query = flipped(rng.choice(centres), rng.randint(0, radius + 2), rng)
        near = any((query ^ centre).bit_count() <= radius for centre in centres)
        assert (index.find(mark("query", query)) is not None) == near


def test_the_first_copy_stays():
    marks = [mark("a", 1), mark("b", 2 << 40), mark("a", 1), mark("a", 1)]
    copies = find_copies([], marks, near_bits=0)
    assert copies.keys() == {2, 3}
    assert {copy.reason for copy in copies.values()} == {Reason.DUPLICATE_EXACT}


def test_what_an_earlier_run_kept_stays():
    copies = find_copies([mark("a", 0)], [mark("a", 0), mark("b", 1)], near_bits=2)
    assert {index: copy.reason for index, copy in copies.items()} == {
        0: Reason.DUPLICATE_EXACT,
        1: Reason.DUPLICATE_NEAR,
    }


def test_another_caption_makes_another_sample():
    marks = [mark("a", 0, "a cat"), mark("b", 0, "a grey cat")]
    assert find_copies([], marks, near_bits=16) == {}


def test_near_copies_are_compared_with_kept_samples_only():
    chain = [mark("a", 0b0), mark("b", 0b11), mark("c", 0b1111)]
    assert find_copies([], chain, near_bits=2).keys() == {1}
    assert find_copies([], chain, near_bits=0) == {}

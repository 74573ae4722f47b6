"""Marks of all candidates -> which of them are copies of an earlier one."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from mos.curation.hashing import HASH_BITS
from mos.images.reasons import Reason


@dataclass(frozen=True)
class Mark:
    """Hashes and place of one sample, enough to find its copies."""

    sample_id: str
    pair: str
    """See `mos.curation.hashing.pair_id`."""
    phash: int
    """64-bit perceptual hash."""
    key: str = ""
    """Names the sample in a verdict."""


@dataclass(frozen=True)
class Copy:
    """The verdict on a duplicate."""

    reason: Reason
    detail: str


def find_copies(kept: Iterable[Mark], candidates: list[Mark], near_bits: int) -> dict[int, Copy]:
    """Index among the candidates -> verdict, for each that repeats a kept sample or an earlier candidate.

    Depends on the order of the candidates alone, so sort them by place first. A near duplicate is compared with kept
    samples only: in a chain A ~ B ~ C of steps below the radius, C stays if it is far from A.

    Args:
        kept: samples that earlier runs kept.
        candidates: new samples in order of precedence.
        near_bits: radius in bits, 0 for exact copies only.
    """
    kept = list(kept)
    copies: dict[int, Copy] = {}
    first = {mark.sample_id: mark.key for mark in kept}
    for index, mark in enumerate(candidates):
        if mark.sample_id in first:
            copies[index] = Copy(Reason.DUPLICATE_EXACT, f"same image and caption as {first[mark.sample_id]}")
        else:
            first[mark.sample_id] = mark.key
    if near_bits:
        copies |= _find_near(kept, candidates, copies.keys(), near_bits)
    return copies


def _find_near(kept: list[Mark], candidates: list[Mark], exact: Iterable[int], near_bits: int) -> dict[int, Copy]:
    """Near duplicates among those that are not exact ones; only pairs that occur twice are looked at."""
    exact = set(exact)
    count = Counter(mark.pair for mark in kept)
    count.update(mark.pair for index, mark in enumerate(candidates) if index not in exact)
    index_of_near = NearIndex(near_bits)
    for mark in kept:
        if count[mark.pair] > 1:
            index_of_near.add(mark)
    copies: dict[int, Copy] = {}
    for index, mark in enumerate(candidates):
        if index in exact or count[mark.pair] == 1:
            continue
        nearest = index_of_near.find(mark)
        if nearest is None:
            index_of_near.add(mark)
        else:
            bits = (nearest.phash ^ mark.phash).bit_count()
            copies[index] = Copy(Reason.DUPLICATE_NEAR, f"{bits} bits from {nearest.key}, same caption")
    return copies


class NearIndex:
    """Finds hashes of one pair within a Hamming radius, by banding.

    64 bits are cut into `radius + 1` bands; hashes that differ in at most `radius` bits agree in one band entirely, so
    only those sharing a band need comparing. Nothing within the radius is ever missed.
    """

    def __init__(self, radius: int) -> None:
        self.radius = radius
        edges = [round(HASH_BITS * band / (radius + 1)) for band in range(radius + 2)]
        self._bands = [(low, (1 << (high - low)) - 1) for low, high in pairwise(edges)]
        self._marks: dict[tuple[str, int, int], list[Mark]] = {}

    def add(self, mark: Mark) -> None:
        """Make a sample findable."""
        for key in self._keys(mark):
            self._marks.setdefault(key, []).append(mark)

    def find(self, mark: Mark) -> Mark | None:
        """A sample of the same pair within the radius, the first of its band; None if there is none."""
        for key in self._keys(mark):
            for other in self._marks.get(key, ()):
                if (other.phash ^ mark.phash).bit_count() <= self.radius:
                    return other
        return None

    def _keys(self, mark: Mark) -> list[tuple[str, int, int]]:
        return [(mark.pair, low, mark.phash >> low & mask) for low, mask in self._bands]

"""Which items are copies: what a plain loop finds, at odd sizes, whatever order they come in."""

import random
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from mos.curation import duplicates
from mos.curation.duplicates import band_masks
from mos.curation.manifest import manifest_of, marks_schema
from mos.images.reasons import Reason
from mos.tables.lance import TableVersion, delete_places
from tests.mos.curation.plain_duplicates import plain_copies
from tests.samples import Pair, append_rows, sample_row

SCHEMA = marks_schema(())


def mark(number: int, phash: int, pair: int = 0, sample: int | None = None) -> dict:
    hashes = {"sample_id": f"{number if sample is None else sample:064x}", "pair": f"{pair:016x}"}
    return {"source": "s", "shard": "s.tar", "key": str(number), "order": number, "phash": f"{phash:016x}", **hashes}


def copies(marks: Sequence[dict], near_bits: int, kept: TableVersion | None = None, seed: int = 0) -> dict:
    """What is refused, by order; the marks come shuffled and in parts."""
    shuffled = random.Random(seed).sample(list(marks), len(marks))
    with manifest_of(SCHEMA) as manifest:
        for start in range(0, len(shuffled), 70):
            manifest.add(pa.Table.from_pylist(shuffled[start : start + 70], schema=SCHEMA))
        manifest.refuse_copies(kept, near_bits)
        rows = manifest.items().read_all().to_pylist()
    return {row["order"]: (row["reason"], row["detail"]) for row in rows if row["reason"] is not None}


def flipped(value: int, num_bits: int, rng: random.Random) -> int:
    for bit in rng.sample(range(64), num_bits):
        value ^= 1 << bit
    return value


def drawn(num: int, radius: int, seed: int) -> list[dict]:
    """Marks of a few pairs, the first of them by far the largest, many near each other, in chains too."""
    rng, marks = random.Random(seed), []
    for number in range(num):
        near = rng.random() < 0.5 and marks
        phash = flipped(int(rng.choice(marks)["phash"], 16), rng.randint(0, radius + 2), rng) if near else 0
        copied = rng.choice(marks)["sample_id"] if marks and rng.random() < 0.1 else None
        sample = None if copied is None else int(copied, 16)
        marks.append(mark(number, phash or rng.getrandbits(64), rng.choice((0, 0, 0, 0, 1, 2, number)), sample))
    return marks


@pytest.mark.parametrize("radius", [0, 1, 3, 6, 16])
def test_queries_find_what_a_loop_finds(radius: int) -> None:
    marks = drawn(500, radius, seed=radius)
    expected = plain_copies([], marks, radius)
    assert copies(marks, radius) == expected == copies(marks, radius, seed=1)
    reasons = {reason for reason, _ in expected.values()}
    assert reasons == {Reason.DUPLICATE_EXACT, *([Reason.DUPLICATE_NEAR] if radius else [])}


@pytest.mark.parametrize("radius", [0, 3])
def test_standing_samples_come_first(tmp_path: Path, radius: int) -> None:
    marks = drawn(400, radius, seed=9)
    names = ("sample_id", "pair", "phash", "key", "shard")
    rows = [sample_row(number, Pair("")) | {name: mark[name] for name in names} for number, mark in enumerate(marks)]
    append_rows(tmp_path, rows[:100])
    kept = append_rows(tmp_path, rows[100:150])
    kept = delete_places(kept, [(0, [3, 50]), (1, [0])])  # what is gone is no original
    standing = [row for number, row in enumerate(rows[:150]) if number not in (3, 50, 100)]
    expected = plain_copies(standing, marks[150:], radius)
    assert copies(marks[150:], radius, kept) == {150 + row: why for row, why in expected.items()}
    assert any("exact" in reason for reason, _ in expected.values())


@pytest.mark.parametrize(("radius", "largest"), [(1, 1), (3, 10), (3, 10**7), (6, 1), (6, 10**7), (16, 10**6)])
def test_hashes_within_the_radius_are_equal_under_a_mask(radius: int, largest: int) -> None:
    masks, rng = band_masks(radius, largest), random.Random(radius)
    for _ in range(300):
        one = rng.getrandbits(64)
        other = flipped(one, rng.randint(0, radius), rng)
        assert any(one & mask == other & mask for mask in masks)


def test_large_groups_are_cut_by_longer_masks() -> None:
    few, many = band_masks(6, 10), band_masks(6, 10**7)
    assert len(few) == 7
    assert len(many) > len(few)
    assert min(mask.bit_count() for mask in many) > max(mask.bit_count() for mask in few)


def test_of_one_heavy_caption_only_what_may_be_near_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    marks = [mark(number, rng.getrandbits(64)) for number in range(20_000)]
    marks += [mark(20_000 + number, int(marks[number]["phash"], 16)) for number in range(5_000)]
    monkeypatch.setattr(duplicates, "BATCH_ROWS", 1000)
    found = copies(marks, 3)
    assert sorted(found) == list(range(20_000, 25_000))
    assert found[20_007] == ("duplicate_near", "0 bits from 7 of s.tar, same caption")


def test_the_first_copy_stays() -> None:
    marks = [mark(0, 1, sample=7), mark(1, 2 << 40), mark(2, 1, sample=7), mark(3, 1, sample=7)]
    found = copies(marks, near_bits=0)
    assert found.keys() == {2, 3}
    assert {reason for reason, _ in found.values()} == {Reason.DUPLICATE_EXACT}


def test_near_copies_are_compared_with_kept_samples_only() -> None:
    chain = [mark(0, 0b0), mark(1, 0b11), mark(2, 0b1111)]
    assert copies(chain, near_bits=2).keys() == {1}
    assert copies(chain, near_bits=0) == {}


def test_another_caption_makes_another_sample() -> None:
    assert copies([mark(0, 0, pair=1), mark(1, 0, pair=2)], near_bits=16) == {}


def test_nothing_is_found_among_nothing() -> None:
    assert copies([], near_bits=3) == {}

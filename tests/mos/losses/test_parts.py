"""Losses that are on disk."""

from pathlib import Path

import pyarrow as pa

from mos.losses.parts import MEASURED, MeasuredParts


def part(*rows: tuple[int, float | None]) -> pa.Table:
    values = [{"address": a, "loss": loss, "reason": "no_latent" if loss is None else None} for a, loss in rows]
    return pa.Table.from_pylist(values, MEASURED)


def test_parts_come_back_by_address_each_sample_once(tmp_path: Path):
    parts = MeasuredParts(tmp_path / "parts")
    assert parts.read().equals(MEASURED.empty_table())
    parts.write(part((7, 0.5), (9, None)))
    parts.write(part((1, 0.25), (7, 0.5)))
    assert parts.read().to_pylist() == part((1, 0.25), (7, 0.5), (9, None)).to_pylist()


def test_a_part_that_was_cut_short_is_done_again(tmp_path: Path):
    parts = MeasuredParts(tmp_path)
    for first in (1, 5):
        parts.write(part((first, 1.0), (first + 1, 2.0)))
    paths = sorted(tmp_path.iterdir())
    for size in (0, 10, paths[0].stat().st_size - 1):
        paths[0].write_bytes(paths[0].read_bytes()[:size])
        assert parts.read()["address"].to_pylist() == [5, 6]
        assert not paths[0].exists()
        parts.write(part((1, 1.0), (2, 2.0)))
    assert len(parts.read()) == 4

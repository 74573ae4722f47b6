"""Hours and dollars of one stage, worked out by hand from round speeds: a second of tower, two of training a sample."""

from dataclasses import replace

import pytest

from mos.planning.machine import GpuMachine
from mos.planning.sources import SourceCost, StageLoad, TableShare, source_cost

MACHINE = GpuMachine(
    train_tflops=1, tower_tflops=1, read_gb_per_s=1, train_hour=2, encode_hour=3, storage_gb_month=0.73
)
"""A GB costs a tenth of a cent an hour."""
LOAD = StageLoad(
    name="stage1",
    contexts=1000,
    draws=3600,
    state_bytes=1e9,
    tower_flops=1e12,
    train_flops=2e12,
    workers=2,
    encoders=4,
    producers=1,
)
"""Two hours of training, over which an hour's worth of states is read and encoded."""
TERABYTE = TableShare(new=3600, held_bytes=1e12)


def cached(load: StageLoad = LOAD, share: TableShare = TERABYTE, machine: GpuMachine = MACHINE) -> SourceCost:
    return source_cost("cache", load, machine, share)


def streamed(load: StageLoad = LOAD, machine: GpuMachine = MACHINE) -> SourceCost:
    return source_cost("stream", load, machine, TableShare())


def test_a_table_is_encoded_once_and_kept_while_it_fills_and_trains():
    cost = cached()
    assert (cost.encode_hours, cost.train_hours, cost.wall_hours) == pytest.approx((1, 2, 1))
    assert cost.tower_flops == pytest.approx(3600e12)
    assert cost.bytes_per_s == pytest.approx(0.5e9)
    assert (cost.wait_hours, cost.tower_hours, cost.encoders_to_keep_up, cost.lead_bytes) == (0, 0, 0, 0)
    # An hour of training, and a quarter of an hour of four encoders, over which the table is half full.
    assert cost.storage_dollars == pytest.approx(1000 * 0.001 * (1 + 0.25 / 2))
    assert cost.dollars == pytest.approx(1.125 + 1 * 3 + 2 * 2)


def test_rows_that_are_there_cost_no_encoding():
    cost = cached(share=TableShare(new=0, held_bytes=1e12))
    assert (cost.encode_hours, cost.tower_flops) == (0, 0)
    assert cost.dollars == pytest.approx(1 + 4)


def test_a_stream_encodes_every_read_and_keeps_a_lead():
    cost = streamed()
    assert (cost.encode_hours, cost.train_hours, cost.wait_hours) == pytest.approx((1, 2, 0))
    assert cost.lead_bytes == cost.bytes_held == 4e9
    assert cost.dollars == pytest.approx(4 * 0.001 + 1 * 3 + 2 * 2)
    assert (cost.encoders_to_keep_up, cost.short_of_producers) == (pytest.approx(1), False)


def test_a_lead_is_at_most_what_the_stage_reads():
    assert streamed(replace(LOAD, lead_bytes=1e15)).lead_bytes == 3600e9
    assert streamed(replace(LOAD, draws=2, reads_per_draw=0.5)).lead_bytes == 1e9


def test_a_tower_in_the_worker_takes_its_time_and_reads_nothing():
    cost = source_cost("recompute", replace(LOAD, padding=1.5), MACHINE, TableShare())
    assert (cost.tower_hours, cost.train_hours, cost.wall_hours) == pytest.approx((1.5, 3.5, 1.75))
    assert cost.tower_flops == pytest.approx(1.5 * 3600e12)
    assert (cost.encode_hours, cost.wait_hours, cost.bytes_per_s, cost.bytes_held) == (0, 0, 0, 0)
    assert cost.dollars == pytest.approx(7)


def test_one_producer_keeps_four_workers_waiting():
    cost = streamed(replace(LOAD, workers=4))
    assert (cost.wait_hours, cost.train_hours, cost.wall_hours) == pytest.approx((2, 4, 1))
    assert (cost.encoders_to_keep_up, cost.short_of_producers) == (pytest.approx(2), True)
    assert streamed(replace(LOAD, workers=4, producers=2)).wait_hours == pytest.approx(0)


@pytest.mark.parametrize("cost_of", [cached, streamed])
def test_slow_reading_is_waited_for_and_no_producer_helps(cost_of):
    cost = cost_of(machine=MACHINE.model_copy(update={"read_gb_per_s": 0.25}))
    assert (cost.wait_hours, cost.train_hours) == pytest.approx((2, 4))
    assert cost.bytes_per_s == pytest.approx(0.5e9)
    assert cost.encoders_to_keep_up == (pytest.approx(0.5) if cost.source == "stream" else 0)
    assert not cost.short_of_producers


def test_dropped_captions_are_not_read():
    load = replace(LOAD, reads_per_draw=0.5)
    assert (load.reads, load.reads_per_context) == (1800, 1.8)
    assert streamed(load).encode_hours == pytest.approx(0.5)
    assert source_cost("recompute", load, MACHINE, TableShare()).tower_hours == pytest.approx(0.5)
    assert replace(LOAD, contexts=0).reads_per_context == 3600


def test_rows_held_for_later_stages_are_paid_for_whatever_the_source():
    free, held = (source_cost("recompute", LOAD, MACHINE, TableShare(0, kept)) for kept in (0, 1e12))
    assert held.dollars - free.dollars == pytest.approx(1000 * 0.001 * held.wall_hours)
    assert held.bytes_held == 1e12

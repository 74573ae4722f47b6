"""The batch plan: nothing lost, nothing repeated, one bucket a batch, the same at any place one starts from."""

import tracemalloc
from collections import Counter

import numpy as np
import pytest

from mos.loader.cells import sort_into_cells
from mos.loader.plan import BatchPlan, make_plan, permutation_end


def random_plan(seed: int, **options) -> tuple[BatchPlan, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    num_rows = int(rng.integers(1, 400))
    bucket = rng.choice(int(rng.integers(1, 7)), num_rows)
    source = rng.integers(0, int(rng.integers(1, 4)), num_rows)
    return (
        make_plan(sort_into_cells(bucket, source), batch_size=int(rng.integers(1, 40)), seed=seed, **options),
        bucket,
        source,
    )


@pytest.mark.parametrize("seed", range(30))
def test_every_row_is_drawn_once_an_epoch_and_waits_if_its_batch_is_not_full(seed):
    plan, bucket, _ = random_plan(seed)
    drawn = Counter()
    for epoch in range(5):
        batches = plan.epoch(epoch)
        assert (bucket[batches.rows] == batches.buckets[:, None]).all()
        drawn.update(batches.rows.ravel().tolist())
        waiting = [plan.waiting(number, epoch + 1) for number in plan.buckets]
        assert all(len(rows) < plan.batch_size for rows in waiting)
        total = drawn + Counter(np.concatenate(waiting).tolist())
        assert total == dict.fromkeys(range(len(bucket)), epoch + 1)


@pytest.mark.parametrize("seed", range(10))
def test_an_epoch_repeats_only_rows_that_were_carried_into_it(seed):
    plan, _, _ = random_plan(seed)
    for epoch in range(1, 4):
        carried = Counter(np.concatenate([plan.waiting(number, epoch) for number in plan.buckets]).tolist())
        fresh = Counter(plan.epoch(epoch).rows.ravel().tolist()) - carried
        assert all(count == 1 for count in fresh.values())


@pytest.mark.parametrize("seed", range(10))
def test_steps_are_located_without_walking_there(seed):
    plan, _, _ = random_plan(seed)
    walked = [(epoch, place) for epoch in range(6) for place in range(len(plan.epoch(epoch)))]
    assert [plan.locate(step) for step in range(len(walked))] == walked
    epoch, place = plan.locate(10**9)
    assert plan.first_step(epoch) + place == 10**9


@pytest.mark.parametrize("seed", range(10))
def test_ratios_hold_in_every_prefix_of_epochs_and_passes_are_complete(seed):
    ratios = {0: 3.0, 1: 1.0}
    rng = np.random.default_rng(seed)
    source = rng.integers(0, 3, 300)
    bucket = rng.integers(0, 4, 300)
    plan = make_plan(sort_into_cells(bucket, source), batch_size=8, seed=seed, ratios=ratios)
    drawn = Counter()
    for epoch in range(8):
        drawn.update(plan.epoch(epoch).rows.ravel().tolist())
        total = drawn + Counter(np.concatenate([plan.waiting(b, epoch + 1) for b in plan.buckets]).tolist())
        by_source = [sum(count for row, count in total.items() if source[row] == s) for s in range(3)]
        assert by_source[2] == 0
        assert by_source[0] == pytest.approx(3 * by_source[1], abs=16)
        assert sum(by_source) == pytest.approx((epoch + 1) * (source < 2).sum(), abs=8)
    for cell in plan.cells:
        counts = [total[row] for row in cell.rows.tolist()]
        assert max(counts) - min(counts) <= 1


def test_seed_and_epoch_change_the_order_and_nothing_else_does():
    bucket, source = np.arange(200) % 3, np.zeros(200, dtype=int)
    one, again, other = (make_plan(sort_into_cells(bucket, source), batch_size=4, seed=seed) for seed in (7, 7, 8))
    assert np.array_equal(one.epoch(3).rows, again.epoch(3).rows)
    assert not np.array_equal(one.epoch(3).rows, one.epoch(2).rows)
    assert not np.array_equal(one.epoch(3).rows, other.epoch(3).rows)


def test_the_order_is_pinned():
    plan = make_plan(sort_into_cells(np.arange(12) % 2, np.zeros(12, dtype=int)), batch_size=4, seed=0)
    assert plan.epoch(0).rows.tolist() == [[5, 7, 1, 9], [4, 0, 8, 2]]


@pytest.mark.parametrize(("size", "count"), [(1, 1), (2, 1), (7, 7), (1000, 1), (70_000, 999), (5_000_000, 2048)])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_end_of_a_permutation_is_what_numpy_ends_with(size, count, seed):
    whole = np.random.Generator(np.random.Philox(seed)).permutation(np.arange(size, dtype=np.int32))
    end = permutation_end(np.random.Generator(np.random.Philox(seed)), size, count)
    assert end.tolist() == whole[-count:].tolist()
    labels = np.arange(size) // 3
    np.random.Generator(np.random.Philox(seed)).shuffle(labels)
    assert (end // 3).tolist() == labels[-count:].tolist()


@pytest.mark.parametrize("ratios", [None, {0: 3.0, 1: 1.0, 2: 0.7}])
def test_what_waits_is_the_end_of_the_queue_whichever_way_it_is_computed(ratios, monkeypatch):
    rng = np.random.default_rng(5)
    bucket, source = rng.integers(0, 3, 9_000), rng.integers(0, 3, 9_000)
    plan = make_plan(sort_into_cells(bucket, source), batch_size=23, seed=3, ratios=ratios)
    short = [plan.waiting(number, epoch).tolist() for number in plan.buckets for epoch in range(6)]
    monkeypatch.setattr("mos.loader.plan.SHORT_END", 10**9)
    assert short == [plan.waiting(number, epoch).tolist() for number in plan.buckets for epoch in range(6)]


@pytest.mark.slow
def test_ten_million_rows_are_planned_in_bounded_memory():
    rng = np.random.default_rng(0)
    bucket, source = rng.integers(0, 11, 10_000_000).astype(np.int16), rng.integers(0, 3, 10_000_000).astype(np.int16)
    tracemalloc.start()
    plan = make_plan(sort_into_cells(bucket, source), batch_size=1024, seed=0)
    epoch = plan.epoch(100)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(epoch) > 9_700
    assert peak < 2**30


def test_a_plan_without_rows_has_no_steps():
    plan = make_plan(
        sort_into_cells(np.zeros(3, dtype=int), np.zeros(3, dtype=int)), batch_size=2, seed=0, ratios={5: 1.0}
    )
    assert plan.cells == ()
    with pytest.raises(ValueError, match="no rows"):
        plan.locate(0)

import numpy as np
import pytest
import torch

from mos.states.quantise import dequantise
from mos.tables.payloads import LatentTable, RowCache, StateTable
from tests.mos.tables.sample_tables import make_tables


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return make_tables(tmp_path_factory.mktemp("payloads"))


def test_rows_come_in_the_order_asked_for_and_may_repeat(tables):
    latents = LatentTable(tables.latents, RowCache(0))
    in_order = latents.read(range(tables.latents.rows))
    rows = np.random.default_rng(0).integers(tables.latents.rows, size=30).tolist()
    for row, latent in zip(rows, latents.read(rows), strict=True):
        assert torch.equal(latent, in_order[row])
    assert latents.read([]) == []


@pytest.mark.parametrize("cache_bytes", [0, 3000, 10**6])
def test_what_was_read_does_not_change_under_later_reads(tables, cache_bytes):
    states = StateTable(tables.states, RowCache(cache_bytes))
    reference = [state.clone() for state in StateTable(tables.states, RowCache(0)).read(range(tables.states.rows))]
    parts = np.array_split(np.random.default_rng(1).permutation(tables.states.rows), 7)
    held = [(part.tolist(), states.read(part.tolist())) for part in parts]
    for rows, read in held + [(rows, states.read(rows)) for rows, _ in held]:
        assert all(torch.equal(state.codes, reference[row].codes) for row, state in zip(rows, read, strict=True))


def test_the_cache_keeps_the_first_rows_and_nothing_beyond_its_bound(tables):
    cache = RowCache(10_000)
    latents = LatentTable(tables.latents, cache)
    latents.read([0])
    latents.read(range(tables.latents.rows))
    assert 6_000 < cache.held_bytes <= 10_000
    assert cache.get((tables.latents.uri, 0)) is not None
    assert cache.get((tables.latents.uri, tables.latents.rows - 1)) is None


def test_fewer_layers_are_read_than_the_table_holds(tables):
    whole, some = (StateTable(tables.states, RowCache(0), layers) for layers in (None, (0, 3)))
    for states, read in zip(whole.read([2, 0, 5]), some.read([2, 0, 5]), strict=True):
        assert torch.equal(dequantise(read), dequantise(states)[:, [0, 3]])
    with pytest.raises(ValueError, match="not all of"):
        StateTable(tables.states, RowCache(0), (0, 9))

"""Losses in a few numbers."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from mos.loader.join import build_index
from mos.losses.parts import MEASURED
from mos.losses.sample import LeftOut
from mos.losses.summary import summarise
from mos.states.keys import sample_contexts
from mos.tables.views import View
from tests.mos.tables.sample_tables import RESOLUTION, make_tables


def test_every_sample_is_counted_once_with_a_loss_or_a_reason(tmp_path):
    index = build_index(make_tables(tmp_path, failed=3), View(RESOLUTION), tmp_path / "index")
    address = np.sort(index.address)
    losses = np.arange(len(address), dtype=np.float32)
    rows = pa.table(
        [
            pa.array(address),
            pa.array(losses, mask=losses < 2),
            pa.array([LeftOut.STATES_NOT_FINITE.value] * 2 + [None] * (len(losses) - 2)),
        ],
        MEASURED,
    )
    summary = summarise(index, rows)
    assert summary.left_out == {LeftOut.NO_LATENT: 3, LeftOut.STATES_NOT_FINITE: 2}
    assert summary.every is not None
    assert summary.every.num + sum(summary.left_out.values()) == 40
    assert summary.every.mean == pytest.approx(losses[2:].mean())
    assert sum(part.num for part in summary.by_source.values()) == summary.every.num
    assert summary.every.quantiles[1] == np.median(losses[2:])
    with pytest.raises(AssertionError, match="measured once"):
        summarise(index, rows.slice(1))


def test_samples_without_states_are_told_from_those_without_a_latent(tmp_path):
    tables = make_tables(tmp_path)
    lost = sample_contexts("caption 3", None, False)[0]
    states = tables.states.open()
    states.delete(f"context_key = '{lost}'")
    known = replace(tables, states=replace(tables.states, version=states.version))
    index = build_index(known, View(RESOLUTION), tmp_path / "index")
    assert (index.num_left_out, index.num_without_states) == (2, 2)  # pairs 3 and 33 share their caption

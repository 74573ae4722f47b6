"""Losses of samples by an actor's own hand: the same to the last bit however the work is cut."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from safetensors.torch import save_file

from mos.loader.index import EncodedTables
from mos.loader.join import build_index
from mos.losses.parts import MeasuredParts
from mos.losses.sample import LeftOut
from mos.tables.views import View
from mos.workers import WorkerResources
from operators.measure_losses import TASKS, MeasureLosses
from tests.mos.loader.test_builder import damaged, nan_first, zeroed
from tests.mos.sampling.tiny_export import TINY, random_model, run_of
from tests.mos.tables.sample_tables import CHANNELS, DIM, NUM_STATES, RESOLUTION, make_tables

MODEL = TINY.model_copy(update={"latent_channels": CHANNELS, "state_dim": DIM, "state_layers": NUM_STATES - 1})


@pytest.fixture
def tables(tmp_path: Path) -> EncodedTables:
    return make_tables(tmp_path / "tables", num_pairs=20, num_edits=6)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    folder.mkdir()
    save_file(random_model(MODEL).state_dict(), folder / "model.safetensors")
    about = {"tower": {"type": "minilm"}, "vae": {"type": "pixel"}, "run": run_of(RESOLUTION)}
    (folder / "config.json").write_text(json.dumps({"model": MODEL.model_dump(mode="json"), **about}))
    return folder


def tasks(tables: EncodedTables) -> pa.Table:
    index = build_index(tables, View(RESOLUTION, tasks=("generate", "edit")), Path(tables.samples.uri).parent / "index")
    return pa.table([pa.array(column) for column in (index.address, index.state, index.latent, index.reference)], TASKS)


def measure(export: Path, tables: EncodedTables, folder: Path, size: int, cpus: int = 1, turn: int = 1) -> pa.Table:
    actor = MeasureLosses(str(export), tables, folder, 3, WorkerResources(cpus=cpus))
    rows = tasks(tables)
    for start in [*range(0, len(rows), size)][::turn]:
        part = rows.slice(start, size)
        told = actor(part.take([*range(len(part))][::turn])).to_pylist()[0]
        assert (told["num"], told["left_out"]) == (len(part), 0)
    return MeasuredParts(folder).read()


@pytest.mark.parametrize(("size", "cpus", "turn"), [(1, 1, 1), (7, 2, 1), (26, 1, -1), (5, 2, -1)])
def test_the_cut_of_the_work_changes_no_bit(tables, export, tmp_path, size, cpus, turn):
    expected = measure(export, tables, tmp_path / "whole", 26)
    assert expected["loss"].null_count == 0
    assert len(set(expected["loss"].to_pylist())) == 26
    assert measure(export, tables, tmp_path / "cut", size, cpus, turn).equals(expected)


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [("latents", nan_first, LeftOut.LATENT_NOT_FINITE), ("states", zeroed, LeftOut.STATES_NOT_FINITE)],
)
def test_a_damaged_row_is_left_out_with_its_reason(tables, export, tmp_path, kind, change, reason):
    rows = tasks(tables)
    row = rows["latent" if kind == "latents" else "state"][3].as_py()
    bad = damaged(tmp_path, tables, kind, [row], change)
    told = MeasureLosses(str(export), bad, tmp_path / "parts", 3, WorkerResources())(rows).to_pylist()[0]
    found = MeasuredParts(tmp_path / "parts").read()
    reasons = found["reason"].drop_null().to_pylist()
    assert set(reasons) == {reason}
    assert told["left_out"] == len(reasons) == found["loss"].null_count
    assert told["sum"] == pytest.approx(sum(found["loss"].drop_null().to_pylist()), rel=1e-6)

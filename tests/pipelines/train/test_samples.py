"""The sets of samples of a stage: numbered, joined again when states come from elsewhere, decided for each epoch."""

from dataclasses import replace
from pathlib import Path

from mos.feeding.config import RecomputeStates
from pipelines.run.steps import Run
from pipelines.run.views import view_of
from pipelines.train.driver import prepare
from pipelines.train.job import encoded_tables
from pipelines.train.samples import StageSamples
from tests.pipelines.growing_run import ADDED, BEGAN_WITH, begun, curate_more


def test_a_newer_set_keeps_the_numbers_of_earlier_contexts_and_stands_by_itself(tmp_path: Path):
    config, job = begun(tmp_path / "run")
    job = replace(job, states=RecomputeStates())
    prepare(job, config)
    samples = StageSamples(job)
    curate_more(config)
    curated, encoded = Run(config).newest_encoded()
    tables = encoded_tables(curated.outputs, encoded.outputs)
    index = samples.join(1, tables, view_of(config, "stage1"))
    assert (samples.newest(), len(index)) == (0, BEGAN_WITH + ADDED)
    samples.add(1, tables, curated.fingerprint)
    assert (samples.newest(), samples.tables(1), samples.curations()) == (1, tables, [curated.fingerprint])
    assert samples.tables(0) == job.tables != tables
    first, both = samples.contexts(0), samples.contexts(1)
    assert both.slice(0, len(first)).equals(first)
    assert set(both["version"].to_pylist()[len(first) :]) == {tables.samples.version}
    assert len(both) == len(first) + ADDED
    keys = both["context_key"].to_pylist()
    assert len(set(keys)) == len(keys)
    assert samples.index(1).state.max() == len(both) - 1

    cached = replace(job, states=begun(tmp_path / "other")[1].states)
    prepare(cached, config)
    rows = tables.states.open().to_table(columns=["context_key"])["context_key"].to_pylist()
    numbered, stored = index.state.tolist(), StageSamples(cached).index(1).state.tolist()
    assert [keys[number] for number in numbered] == [rows[row] for row in stored]


def test_what_was_taken_is_told_in_order(tmp_path: Path):
    config, job = begun(tmp_path / "run")
    samples = StageSamples(job)
    segments = samples.segments()
    assert segments.at(0).samples == 0
    curate_more(config)
    curated, encoded = Run(config).newest_encoded()
    tables = encoded_tables(curated.outputs, encoded.outputs)
    samples.join(1, tables, view_of(config, "stage1"))
    assert segments.at(5).samples == 0
    samples.add(1, tables, curated.fingerprint)
    assert (segments.at(9).samples, segments.at(10).samples) == (0, 1)
    assert [*samples.taken()] == [{"samples": 1, "epoch": 2, "step": 10}]
    kept = replace(job, stage=job.stage.model_copy(update={"refresh": False}))
    again = StageSamples(kept).segments()
    assert [again.at(step).samples for step in (0, 9, 10, 40)] == [0, 0, 1, 1]

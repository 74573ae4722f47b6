"""The loss of a stage on each sample, as a column that a later stage chooses by: what holds, what is refused."""

import time
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pytest

from mos.errors import UserError
from mos.losses.parts import MEASURED, MeasuredParts
from mos.losses.sample import LeftOut
from mos.tables.lance import TableVersion, latest_version
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run
from pipelines.train.driver import prepare, train_stage
from pipelines.train.job import make_job
from pipelines.train.losses import Progress, StageLosses, measure_losses, tasks_of
from tests.pipelines.growing_run import curate_more
from tests.pipelines.measured_run import NUM, STAGE2, finish_encode, finish_stage, measured_config

BY_LOSS = STAGE2 % "loss_stage1 < 1.5 AND caption_words > 1"


def put_down(config: RunConfig, stage: str, lowest: float = 1.0) -> StageLosses:
    """Losses of a stage as its actors would leave them: rising by a tenth from sample to sample."""
    losses = StageLosses(Run(config), stage)
    tasks = tasks_of(losses.index(losses.folder / "index"), MEASURED.empty_table())
    values = pa.array([lowest + 0.1 * number for number in range(len(tasks))], pa.float32())
    losses.parts.write(pa.table([tasks["address"], values, pa.nulls(len(tasks), pa.string())], MEASURED))
    return losses


def samples_of(config: RunConfig, stage: str) -> TableVersion:
    return make_job(Run(config).step(stage), Run(config)).tables.samples


def column(samples: TableVersion, name: str) -> list[float | None]:
    return [None if loss is None else round(loss, 3) for loss in samples.open().to_table()[name].to_pylist()]


def test_a_later_stage_trains_on_what_its_filter_keeps_and_nothing_else_runs_again(tmp_path: Path):
    config = measured_config(tmp_path, BY_LOSS)
    curated, encoded = (asdict(Run(config).require(name)) for name in ("curate", "encode"))
    record = measure_losses(put_down(config, "stage1"))
    assert [asdict(Run(config).require(name)) for name in ("curate", "encode")] == [curated, encoded]
    assert Run(config).is_finished("stage1")
    assert record.outputs["every"]["num"] == NUM
    job = make_job(Run(config).step("stage2"), Run(config))
    assert asdict(job.tables.samples) == record.outputs["samples"]
    assert len(prepare(job, config)) == 5  # 1.0, 1.1, ... 1.4
    assert asdict(samples_of(config, "stage1")) == curated["outputs"]["samples"]
    assert Path(record.outputs["picture"]).read_bytes().startswith(b"\x89PNG")


def test_a_filter_over_losses_asks_the_encode_step_for_nothing_else(tmp_path: Path):
    config = measured_config(tmp_path, STAGE2 % "caption_words > 1")
    chosen = config.changed(("stage2.filter=loss_stage1 < 1.5 AND caption_words > 1",))
    assert Run(config).step("encode").fingerprint == Run(chosen).step("encode").fingerprint
    assert Run(config).step("stage1").fingerprint == Run(chosen).step("stage1").fingerprint
    assert Run(config).step("stage2").fingerprint != Run(chosen).step("stage2").fingerprint


def test_what_was_measured_is_found_again_and_does_not_touch_the_table(tmp_path: Path):
    config = measured_config(tmp_path)
    first = measure_losses(put_down(config, "stage1"))
    version = latest_version(config.samples_uri())
    again = measure_losses(StageLosses(Run(config), "stage1"))
    assert again.fingerprint == first.fingerprint
    assert again.outputs["samples"] == first.outputs["samples"]
    assert latest_version(config.samples_uri()) == version


def test_newer_weights_are_measured_anew_and_pinned_columns_stay(tmp_path: Path):
    config = measured_config(tmp_path, BY_LOSS)
    old = measure_losses(put_down(config, "stage1"))
    begun = Run(config).step("stage2").fingerprint
    finish_stage(config, "stage1", seed=1, identity="trained for longer")
    assert StageLosses(Run(config), "stage1").find() is None
    with pytest.raises(UserError, match=r"loss_stage1, which no version .* run `python pipelines/losses.py .* first"):
        samples_of(config, "stage2")
    new = measure_losses(put_down(config, "stage1", lowest=2.0))
    assert Run(config).step("stage2").fingerprint != begun
    assert column(samples_of(config, "stage2"), "loss_stage1")[:2] == [2.0, 2.1]
    assert column(TableVersion(**old.outputs["samples"]), "loss_stage1")[:2] == [1.0, 1.1]
    assert column(latest_version(config.samples_uri()), "loss_stage1")[:2] == [2.0, 2.1]
    assert new.outputs["folder"] != old.outputs["folder"]


def test_a_filter_may_name_the_losses_of_several_stages_measured_in_any_order(tmp_path: Path):
    stage3 = STAGE2.replace("stage2", "stage3") % "loss_stage1 < 1.5 AND loss_stage2 > 3.15"
    config = measured_config(tmp_path, STAGE2 % "", stage3)
    finish_stage(config, "stage2", seed=1)
    measure_losses(put_down(config, "stage2", lowest=3.0))
    with pytest.raises(UserError, match=r"stage3.filter names loss_stage1, loss_stage2, which no version"):
        samples_of(config, "stage3")
    measure_losses(put_down(config, "stage1"))
    samples = samples_of(config, "stage3")
    assert column(samples, "loss_stage2")[:2] == [3.0, 3.1]
    assert len(prepare(make_job(Run(config).step("stage3"), Run(config)), config)) == 3


def test_samples_of_a_newer_curation_stay_the_newest(tmp_path: Path):
    config = measured_config(tmp_path, BY_LOSS)
    losses = put_down(config, "stage1")
    curate_more(config)
    newest = Run(config).require("curate").outputs["samples"]
    measure_losses(losses)
    assert latest_version(config.samples_uri()).rows == newest["rows"] == NUM + 4
    assert samples_of(config, "stage2").rows == NUM  # stage1 is not trained on the others
    assert "loss_stage1" not in latest_version(config.samples_uri()).open().schema.names


def test_the_same_samples_curated_again_get_the_column_again(tmp_path: Path):
    config = measured_config(tmp_path, BY_LOSS)
    measure_losses(put_down(config, "stage1"))
    base = TableVersion(**Run(config).require("curate").outputs["samples"])
    dataset = base.open()
    dataset.restore()
    moved = TableVersion(base.uri, dataset.version, base.rows)
    Run(config).step("curate").finish({"identity": str(NUM), "samples": asdict(moved)})
    assert Run(config).is_finished("stage1")
    assert StageLosses(Run(config), "stage1").find() is None
    assert measure_losses(put_down(config, "stage1")).outputs["base"] == asdict(moved)


def test_samples_without_encodings_and_without_a_number_are_counted(tmp_path: Path):
    config = measured_config(tmp_path)
    losses = StageLosses(Run(config), "stage1")
    tasks = tasks_of(losses.index(losses.folder / "index"), MEASURED.empty_table())
    values, reasons = [1.0] * (len(tasks) - 1) + [None], [None] * (len(tasks) - 1) + [str(LeftOut.LOSS_NOT_FINITE)]
    losses.parts.write(pa.table([tasks["address"], pa.array(values, pa.float32()), pa.array(reasons)], MEASURED))
    outputs = measure_losses(losses).outputs
    assert outputs["left_out"] == {"loss_not_finite": 1}
    assert outputs["every"]["num"] == NUM - 1
    written = TableVersion(**outputs["samples"]).open()
    assert written.count_rows("loss_stage1 IS NULL") == 1


@pytest.mark.parametrize(
    ("filter", "message"),
    [
        (
            "loss_stage2 < 1",
            "names loss_stage2, but stage2 does not come before stage2: name the loss of stage1",
        ),
        ("loss_edit < 1", "but edit does not come before stage2"),
    ],
)
def test_a_filter_that_names_a_loss_of_later_is_refused(tmp_path: Path, filter: str, message: str):
    config = measured_config(tmp_path, STAGE2 % filter)
    with pytest.raises(UserError, match=message):
        Run(config).step("stage2")


def test_an_unfinished_stage_is_refused(tmp_path: Path):
    config = measured_config(tmp_path, STAGE2 % "")
    with pytest.raises(UserError, match="step 'stage2' is not finished for this config"):
        StageLosses(Run(config), "stage2")


def test_states_that_are_in_no_table_are_refused(tmp_path: Path):
    config = measured_config(tmp_path).changed(("stage1.states={type='stream'}",))
    finish_encode(config)
    with pytest.raises(UserError, match=r"set stage1.states.type = 'cache' and run `python pipelines/encode.py"):
        StageLosses(Run(config), "stage1")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_stage_measures_what_its_filter_names_before_it_trains(tmp_path: Path, local_ray, capsys):
    config = measured_config(tmp_path, STAGE2 % "loss_stage1 < 99")
    train_stage("stage2", Run(config), Namespace(force=False))
    told = capsys.readouterr().out
    assert f"losses: {NUM}/{NUM} samples" in told
    assert f"stage2: {NUM} samples" in told
    assert Run(config).is_finished("stage2")
    assert StageLosses(Run(config), "stage1").find() is not None
    assert len(MeasuredParts(StageLosses(Run(config), "stage1").parts.folder).read()) == NUM


def test_its_speed_is_that_of_all_parts_but_the_first(monkeypatch, capsys):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    progress = Progress(40)
    for at, left_out in ((160.0, 0), (165.0, 1), (170.0, 0)):
        clock[0] = at
        progress.advance(pa.table({"num": [10], "sum": [5.0], "left_out": [left_out]}))
    progress.close()
    first, _, _, last = capsys.readouterr().out.splitlines()
    assert first == "losses: 10/40 samples, mean 0.5000"
    assert last == "losses: 30/40 samples, mean 0.5172, 2.0 samples/s, 5 s left"

"""Losses by sample as a job, on a real Ray: whoever measures, however it is cut, wherever it goes on."""

from argparse import Namespace
from pathlib import Path

import pytest

from mos.errors import UserError
from mos.losses.parts import MeasuredParts
from mos.tables.lance import TableVersion, latest_version
from pipelines import losses
from pipelines.run.steps import Run
from pipelines.train.losses import StageLosses
from tests.pipelines.measured_run import NUM, measured_config

ARGS = Namespace(force=False, dry_run=False)


def column(uri: str) -> list[float]:
    return latest_version(uri).open().to_table(columns=["loss_stage1"])["loss_stage1"].to_pylist()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_losses_are_measured_once_and_the_same_for_any_workers_parts_and_stops(tmp_path: Path, local_ray, capsys):
    config = measured_config(tmp_path)
    losses.main(Run(config), Namespace(force=False, dry_run=True))
    assert f"losses: of stage1 on {NUM} samples, by source {{'test': {NUM}}}; {NUM} of them" in capsys.readouterr().out
    assert not config.folder("losses").exists()

    losses.main(Run(config), ARGS)
    told = capsys.readouterr().out
    expected = column(config.samples_uri())
    assert len(set(expected)) == NUM
    assert f"{NUM}/{NUM} samples" in told
    assert "loss_stage1 stands in version" in told
    parts = sorted(StageLosses(Run(config), "stage1").parts.folder.iterdir())
    assert len(parts) == 7  # of four samples at most

    losses.main(Run(config), ARGS)
    assert "losses: already finished" in capsys.readouterr().out

    for part in parts[2:4]:
        part.unlink()
    kept = {part: part.stat().st_mtime_ns for part in parts if part.exists()}
    Run(config).losses("stage1").ledger.forget("losses", Run(config).losses("stage1").fingerprint)
    alone = config.changed(("cluster.generate.num=1", "losses.samples_per_part=5"))
    losses.main(Run(alone), ARGS)
    assert f"losses: {NUM - 8} samples were measured before" in capsys.readouterr().out
    assert {part: part.stat().st_mtime_ns for part in kept} == kept
    assert column(config.samples_uri()) == expected

    losses.main(Run(alone), Namespace(force=True, dry_run=False))
    assert "were measured before" not in capsys.readouterr().out
    assert column(config.samples_uri()) == expected
    closely = config.changed(("losses.num_timesteps=5",))
    losses.main(Run(closely), ARGS)
    assert column(config.samples_uri()) != expected
    record = StageLosses(Run(config), "stage1").find()
    assert record is not None
    first = TableVersion(**record.outputs["samples"]).open().to_table()["loss_stage1"].to_pylist()
    assert first == expected
    assert len(MeasuredParts(StageLosses(Run(closely), "stage1").parts.folder).read()) == NUM


def test_a_run_without_a_finished_stage_is_told_what_to_run(tmp_path: Path):
    config = measured_config(tmp_path).changed(("stage1.batch_size=3",))
    with pytest.raises(UserError, match=r"has no finished stage: run `python pipelines/stage1.py` first"):
        losses.main(Run(config), ARGS)
    with pytest.raises(UserError, match="step 'stage1' is not finished for this config"):
        losses.main(Run(config.changed(("losses.stage=stage1",))), ARGS)
    with pytest.raises(UserError, match=r"has no \[stage3\] section"):
        losses.main(Run(config.changed(("losses.stage=stage3",))), ARGS)

import io
import shutil
import tarfile
from pathlib import Path

import pytest

from mos.autoencoder.config import CodecConfig
from mos.checkpoints import SHAPES
from mos.errors import UserError
from mos.identity import HOW, HOW_FAR, kind_of
from mos.training.checkpoint_format import MARKER
from mos.training.stage import StageConfig
from mos.training.start import NewWeights
from pipelines.run.config import RunConfig, load_run
from pipelines.run.steps import (
    CODE_VERSIONS,
    STEPS,
    Run,
    configured_steps,
    start_note,
    upstream,
)
from pipelines.run.views import view_of


def add_shard(config: RunConfig, name: str) -> None:
    """A tar of no interest under the run's shards."""
    path = config.folder("shards", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("a.txt"), io.BytesIO(b""))


def finish(config: RunConfig, *names: str, identity: str = "same") -> None:
    """Record steps as if their jobs had run."""
    for name in names:
        Run(config).step(name).finish({"identity": f"{name}-{identity}"})


@pytest.fixture
def config(small_run) -> RunConfig:
    config = small_run()
    for kind in ("pairs", "edits"):
        add_shard(config, f"{kind}-00000.tar")
    return config


def changed(config: RunConfig, **sections: dict) -> RunConfig:
    """The run with some fields of some sections replaced."""
    updates = {name: getattr(config, name).model_copy(update=fields) for name, fields in sections.items()}
    return config.model_copy(update=updates)


def test_every_step_is_a_script_with_a_code_version(clone: Path):
    assert set(CODE_VERSIONS) == set(STEPS)
    assert all((clone / f"pipelines/{name}.py").is_file() for name in STEPS)


def test_steps_follow_the_config(clone: Path, config: RunConfig):
    assert configured_steps(config) == tuple(name for name in STEPS if name != "codec")
    codec = config.model_copy(update={"codec": CodecConfig(resolution=32, steps=1)})
    assert configured_steps(codec) == STEPS
    assert upstream("codec", codec) == ("curate",)
    assert upstream("encode", codec) == ("curate", "codec")
    photos = load_run(clone / "pipelines/configs/photos.toml")
    assert configured_steps(photos) == ("curate", "encode", "stage1", "stage2", "edit", "sample", "evaluate")
    assert upstream("curate", photos) == ()
    assert upstream("edit", photos) == ("encode", "stage2")
    assert upstream("stage2", photos) == ("encode", "stage1")


def test_an_unfinished_upstream_step_is_named_with_its_remedy(config: RunConfig):
    with pytest.raises(UserError, match=r"step 'shapes' is not finished .*python pipelines/shapes.py"):
        Run(config).step("curate")
    finish(config, "shapes", "curate")
    with pytest.raises(UserError, match=r"step 'encode' is not finished .*python pipelines/encode.py"):
        Run(config).step("stage1")


def test_finished_work_is_found_until_forced(config: RunConfig, capsys: pytest.CaptureFixture[str]):
    finish(config, "shapes")
    step = Run(config).step("shapes")
    assert step.already_finished()
    assert "shapes: already finished" in capsys.readouterr().out
    assert not step.already_finished(force=True)


def test_a_fingerprint_covers_what_decides_the_outputs(config: RunConfig):
    finish(config, "shapes", "curate", "encode", "stage1")
    before = {name: Run(config).step(name).fingerprint for name in ("stage1", "stage2")}
    slower = changed(config, stage1={"log_every": 1, "checkpoint_every": 7}, encode={"images_per_batch": 1})
    assert {name: Run(slower).step(name).fingerprint for name in before} == before
    larger = changed(config, stage1={"batch_size": 7})
    assert Run(larger).step("stage1").fingerprint != before["stage1"]
    with pytest.raises(UserError, match="step 'stage1' is not finished"):
        Run(larger).step("stage2")


def test_new_raw_data_concern_the_next_curation_alone(config: RunConfig):
    finish(config, "shapes", "curate", "encode", "stage1")
    add_shard(config, "pairs-00001.tar")
    assert Run(config).step("curate").find() is None
    assert Run(config).is_finished("stage1")
    assert Run(config).step("stage1").find() is not None


def test_a_new_curation_of_the_same_samples_repeats_nothing(config: RunConfig):
    finish(config, "shapes", "curate", "encode", "stage1")
    add_shard(config, "pairs-00001.tar")
    finish(config, "curate")
    assert Run(config).step("stage1").find() is not None


def test_a_trained_model_stays_usable_while_newer_samples_wait(config: RunConfig, capsys: pytest.CaptureFixture[str]):
    finish(config, "shapes", "curate", "encode", *config.stages())
    drawn = Run(config).step("sample").fingerprint
    add_shard(config, "pairs-00001.tar")
    finish(config, "curate", identity="other")
    run = Run(config)
    with pytest.raises(UserError, match="step 'encode' is not finished"):
        run.step("stage1")
    assert run.is_finished("edit")
    assert run.require("encode").outputs["identity"] == "encode-same"
    assert run.require("curate").outputs["identity"] == "curate-other"
    assert run.step("sample").fingerprint == drawn
    assert "the newest samples are not trained on yet" in capsys.readouterr().out


def begin(config: RunConfig, name: str) -> None:
    """A stage's folder with a checkpoint in it."""
    folder = config.folder("checkpoints", name, Run(config).step(name).short, "step-000000003")
    folder.mkdir(parents=True)
    (folder / MARKER).touch()


def test_a_stage_that_has_begun_keeps_its_samples(config: RunConfig, capsys: pytest.CaptureFixture[str]):
    finish(config, "shapes", "curate", "encode")
    begun = Run(config).step("stage1")
    begin(config, "stage1")
    add_shard(config, "pairs-00001.tar")
    finish(config, "curate", identity="other")
    run = Run(config)
    step = run.step("stage1")
    assert step.fingerprint == begun.fingerprint
    assert run.require_for(step, "encode").outputs["identity"] == "encode-same"
    said = capsys.readouterr().out
    assert "stage1: keeps the samples it began with; newer ones wait (stage1.refresh = true takes them" in said
    with pytest.raises(UserError, match="step 'encode' is not finished"):
        run.step("stage1", anew=True)
    finish(config, "encode", identity="other")  # of the newer samples
    again = Run(config)
    assert again.step("stage1").fingerprint == begun.fingerprint
    anew = again.step("stage1", anew=True)
    assert anew.fingerprint != begun.fingerprint
    assert again.require_for(anew, "encode").outputs["identity"] == "encode-other"


def test_a_later_stage_takes_the_newest_samples_that_the_one_before_it_has_seen(config: RunConfig):
    finish(config, "shapes", "curate", "encode")
    begin(config, "stage1")
    finish(config, "stage1")
    before = Run(config).step("stage2")
    add_shard(config, "pairs-00001.tar")
    finish(config, "curate", "encode", identity="other")
    assert Run(config).step("stage2").fingerprint == before.fingerprint
    Run(config).step("stage1", anew=True).finish({"identity": "stage1-other"})
    run = Run(config)
    assert run.step("stage2").fingerprint != before.fingerprint
    assert run.require_for(run.step("stage2"), "stage1").outputs["identity"] == "stage1-other"


def test_raw_data_that_come_back_are_the_current_ones_again(config: RunConfig):
    finish(config, "shapes", "curate")
    add_shard(config, "pairs-00001.tar")
    finish(config, "curate", identity="other")
    config.folder("shards", "pairs-00001.tar").unlink()
    assert Run(config).require("curate").outputs["identity"] == "curate-other"
    assert Run(config).step("curate").already_finished()
    assert Run(config).require("curate").outputs["identity"] == "curate-same"


@pytest.mark.parametrize("change", [{"max_upscale": 9.0}, {"sources": ()}], ids=str)
def test_a_curation_of_another_config_is_not_taken(config: RunConfig, change: dict):
    finish(config, "shapes", "curate", "encode")
    with pytest.raises(UserError, match="step 'curate' is not finished"):
        Run(changed(config, curate=change)).require("encode")


def test_what_is_missing_first_is_named_first(config: RunConfig):
    finish(config, "shapes", "curate", "encode", "stage1")
    fewer = changed(config, shapes={"num_scenes": 7})
    with pytest.raises(UserError, match="step 'shapes' is not finished"):
        Run(fewer).require("stage1")


def test_a_named_stage_needs_no_later_one(config: RunConfig):
    finish(config, "shapes", "curate", "encode", "stage1")
    Run(changed(config, sample={"stage": "stage1"})).step("sample")
    with pytest.raises(UserError, match="step 'stage2' is not finished"):
        Run(config).step("sample")


OTHER_WAYS = {
    "steps": 9,
    "checkpoint_every": 7,
    "micro_batch_size": 1,
    "activation_checkpointing": True,
    "max_nonfinite_steps": 99,
    "spikes": {"times": 9.0},
    "hung_after_s": 9.0,
    "engine": {"reshard_after_forward": False, "blocks_per_unit": 5, "compile": True, "mesh": {"replicate": 2}},
    "loader": {"prefetch_batches": 9},
    "states": {"type": "recompute"},
    "log_every": 3,
    "sample_every": 3,
    "keep_checkpoints": 9,
    "keep_checkpoints_every": 1000,
    "held_out_every": 4,
    "held_out_samples": 9,
    "async_checkpoint": True,
    "checkpoint_patience": 9,
    "refresh": True,
    "num_sample_images": 3,
}


def other_way(config: RunConfig, setting: str) -> RunConfig:
    """The same run with one setting of its first stage changed."""
    stage, value = config.stage("stage1").model_dump(), OTHER_WAYS[setting]
    stage[setting] = {**stage[setting], **value} if isinstance(value, dict) and setting == "engine" else value
    return config.model_copy(update={"stage1": StageConfig.model_validate(stage)})


@pytest.mark.parametrize("setting", OTHER_WAYS)
def test_how_and_how_far_a_stage_is_trained_do_not_name_it(config: RunConfig, setting: str):
    finish(config, "shapes", "curate", "encode")
    other = other_way(config, setting)
    if setting == "states":
        finish(other, "encode")  # it writes no states then
    assert other != config
    assert Run(other).step("stage1").fingerprint == Run(config).step("stage1").fingerprint


def test_every_way_of_training_was_tried():
    settings = StageConfig.model_fields
    assert {name for name in settings if kind_of(settings[name]) in (HOW, HOW_FAR)} == OTHER_WAYS.keys() - {"engine"}


@pytest.mark.parametrize(
    "change", [{"batch_size": 3}, {"ema_decay": 0.5}, {"filter": "contrast > 0.5"}, {"caption_dropout": 0.5}], ids=str
)
def test_what_changes_the_numbers_names_another_stage(config: RunConfig, change: dict):
    finish(config, "shapes", "curate", "encode")
    other = changed(config, stage1=change)
    finish(other, "encode")
    assert Run(other).step("stage1").fingerprint != Run(config).step("stage1").fingerprint


def test_another_filter_or_new_samples_of_one_stage_leave_the_others_alone(config: RunConfig):
    finish(config, "shapes", "curate")
    seen = {"stage1": "one", "stage2": "two", "sample": "drawn", "evaluate": "drawn"}
    Run(config).step("encode").finish({"identity": "all", "seen_by": seen})
    stricter = changed(config, stage2={"filter": "contrast > 0.9", "start": NewWeights()})
    with pytest.raises(UserError, match="step 'encode' is not finished for this config"):
        Run(stricter).step("stage1")
    Run(stricter).step("encode").finish({"identity": "fewer", "seen_by": seen | {"stage2": "fewer"}})
    assert Run(stricter).step("stage1").fingerprint == Run(config).step("stage1").fingerprint
    fewer = Run(stricter).step("stage2").fingerprint
    Run(stricter).step("encode").finish({"identity": "fewer", "seen_by": seen})
    assert Run(stricter).step("stage2").fingerprint != fewer


def test_samples_that_are_held_out_name_other_stages_and_the_same_encoding(config: RunConfig):
    finish(config, "shapes", "curate", "encode")
    held_out = config.changed(["held_out=0.1"])
    assert Run(held_out).step("encode").fingerprint == Run(config).step("encode").fingerprint
    assert Run(held_out).step("stage1").fingerprint != Run(config).step("stage1").fingerprint
    assert view_of(held_out, "stage1").filter != view_of(config, "stage1").filter == config.stage("stage1").filter


def test_a_stage_stands_on_the_losses_that_its_filter_names(config: RunConfig):
    finish(config, "shapes", "curate", "encode", "stage1", "stage2")
    chosen = config.changed(["stage3.filter=loss_stage1 < 0.8", "stage3.start={type='new'}"])
    assert upstream("stage3", chosen) == ("encode", "stage1")
    assert upstream("stage3", config.changed(["stage3.filter=loss_stage1 < 0.8"])) == ("encode", "stage1", "stage2")
    finish(chosen, "encode")
    stage3 = Run(chosen).step("stage3")
    losses = Run(chosen).losses("stage1", stage3)
    assert losses.fingerprint == Run(chosen).losses("stage1").fingerprint != Run(chosen).losses("stage2").fingerprint
    assert losses.curation == stage3.curation
    closer = chosen.changed(["losses.num_timesteps=16"])
    assert Run(closer).step("stage3").fingerprint != stage3.fingerprint
    for other in ("losses.samples_per_part=1", "losses.stage=stage2"):
        assert Run(chosen.changed([other])).step("stage3").fingerprint == stage3.fingerprint
    assert Run(closer).step("stage2").fingerprint == Run(config).step("stage2").fingerprint
    finish(closer, "stage3")
    assert Run(closer).step("stage3").already_finished()


def test_a_stage_that_ended_earlier_than_asked_is_not_finished(config: RunConfig):
    finish(config, "shapes", "curate", "encode", "stage1")
    asked = config.stage("stage1").steps
    longer, shorter = (changed(config, stage1={"steps": asked + change}) for change in (5, -5))
    assert Run(longer).step("stage1").find() is None
    with pytest.raises(UserError, match=rf"step 'stage1' is finished to update {asked} of {asked + 5}: run `python"):
        Run(longer).require("stage1")
    assert Run(shorter).require("stage1").outputs["steps"] == asked
    assert Run(shorter).step("stage2").fingerprint == Run(config).step("stage2").fingerprint


def test_a_stage_with_weights_of_its_own_needs_no_stage_before_it(config: RunConfig, tmp_path: Path):
    finish(config, "shapes", "curate", "encode")
    given, new = (
        config.changed([f"stage2.start={start}"]) for start in (f"{{type='weights', path='{SHAPES}'}}", "{type='new'}")
    )
    assert upstream("stage2", given) == upstream("stage2", new) == ("encode",)
    assert upstream("stage3", given) == ("encode", "stage2")
    shutil.copytree(SHAPES, tmp_path / "moved")
    moved = config.changed([f"stage2.start={{type='weights', path='{tmp_path / 'moved'}'}}"])
    assert Run(moved).step("stage2").fingerprint == Run(given).step("stage2").fingerprint
    assert Run(new).step("stage2").fingerprint != Run(given).step("stage2").fingerprint
    gone = given.stage("stage2").start.model_copy(update={"path": str(tmp_path / "gone")})
    shutil.copytree(SHAPES, gone.folder)
    kept = changed(config, stage2={"start": gone})
    note = start_note(kept, gone)
    note.parent.mkdir(parents=True)
    note.write_text(gone.identity())
    fingerprint = Run(kept).step("stage2").fingerprint
    shutil.rmtree(gone.folder)
    assert Run(kept).step("stage2").fingerprint == fingerprint
    nowhere = config.changed(["stage2.start={type='weights', path='/nowhere'}"])
    with pytest.raises(UserError, match=r"start.path = '/nowhere' holds neither an export"):
        Run(nowhere).step("stage2")

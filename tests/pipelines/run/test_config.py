from pathlib import Path

import pytest

from mos.checkout import CLONE
from mos.errors import UserError
from mos.model.mos import ModelConfig
from mos.model.presets import DEMO, MOS_L, MOS_S
from mos.precision import fast_dtype
from pipelines.run.config import RunConfig, load_run
from pipelines.run.steps import _deciding_parts

CONFIGS = sorted((CLONE / "pipelines/configs").glob("*.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_loads_and_agrees_with_itself(path: Path):
    config = load_run(path)
    assert Path(config.root).is_absolute()
    assert set(config.resolutions()) <= set(config.curate.resolutions)
    assert config.curate.token_px == config.model.patch * {12: 2, 8: 8, 48: 16}[config.model.latent_channels]
    for name in config.stages():
        per_rank, remainder = divmod(config.stage(name).batch_size, config.cluster.train.num)
        assert not remainder
        assert per_rank % (config.stage(name).micro_batch_size or per_rank) == 0


def test_the_first_line_of_every_config_says_what_it_is_for():
    assert CONFIGS
    assert all(path.read_text(encoding="utf-8").startswith("# ") for path in CONFIGS)


def test_root_stands_in_the_base_and_fills_every_value(clone: Path, tmp_path: Path):
    config = load_run(clone / "pipelines/configs/demo.toml", ("root=here",), tmp_path)
    assert config.root == str(tmp_path / "here")
    assert config.curate.sources[0].paths == (f"{tmp_path}/here/shards/pairs-*.tar",)
    assert config.samples_uri() == f"{tmp_path}/here/tables/samples.lance"
    assert config.folder("checkpoints", "stage1") == tmp_path / "here/checkpoints/stage1"


def test_resolving_twice_changes_nothing(small_run):
    config = small_run()
    assert config.resolved(Path("/elsewhere")) == config


def test_tables_may_stand_elsewhere(small_run):
    config = small_run("tables=s3://bucket/run/")
    assert config.latents_uri("pixel-1") == "s3://bucket/run/latents/pixel-1.lance"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("curate.token_pixels=4", "unknown key 'curate.token_pixels'"),
        ("stage1.steps=0", r"'stage1.steps' = 0 is refused"),
        ("encode.tower.type=bert", "encode.tower"),
        ("stage1.sources={ shapes = inf }", r"'stage1\.sources\.shapes' = inf is refused"),
        ("stage1.sources={ shapes = nan }", r"'stage1\.sources\.shapes' = nan is refused"),
        ("stage1.sources={ shapes = 0 }", "mixing ratio of source 'shapes' is 0"),
        ("stage1.sources={ shapes = -1 }", "mixing ratio of source 'shapes' is -1"),
        ("stage1.sources.shapes=true", "a bool is no number"),
        ("stage1.optimizer.lr=inf", r"'stage1\.optimizer\.lr' = inf is refused"),
        ("curate.image.max_aspect=inf", r"'curate\.image\.max_aspect' = inf is refused"),
        ("curate.max_upscale=nan", r"'curate\.max_upscale' = nan is refused"),
        ("curate.shard.max_ratio=-inf", r"'curate\.shard\.max_ratio' = -inf is refused"),
        ("curate.image.extra_formats=['heic']", r"extra_formats\.0' = 'heic' is refused"),
        ("shapes.broken_share=nan", r"'shapes\.broken_share' = nan is refused"),
        ("shapes.weights={ counting = inf }", r"'shapes\.weights\.counting' = inf is refused"),
        ("shapes.weights={ counting = 0 }", "one of them must be positive"),
        ("cluster.train.cpus=inf", r"'cluster\.train\.cpus' = inf is refused"),
        ("root=s3://bucket/run", r"root = 's3://bucket/run' is not a folder"),
        ("steps", "not of the form"),
    ],
)
def test_mistakes_end_in_one_sentence(override: str, sentence: str, clone: Path):
    with pytest.raises(UserError, match=sentence) as caught:
        load_run(clone / "pipelines/configs/demo.toml", (override,))
    assert "\n" not in str(caught.value)


def test_a_run_without_a_stage_says_so(clone: Path):
    config = load_run(clone / "pipelines/configs/photos.toml")
    with pytest.raises(UserError, match=r"has no \[stage3\] section"):
        config.stage("stage3")


@pytest.mark.parametrize(("name", "preset"), [("demo", DEMO), ("mos_s", MOS_S), ("mos_l", MOS_L)])
def test_a_config_trains_the_model_that_its_preset_names(name: str, preset: ModelConfig):
    assert load_run(CLONE / f"pipelines/configs/{name}.toml").model == preset


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("encode.actors.max_actors=3", "'encode.actors.max_actors' = 3 is refused: it is called max today"),
        ("encode.actors.threads_per_actor=3", "it is called cpus today"),
        ("encode.actors.gpus_per_actor=1", "it is called gpus today"),
        ("curate.alignment={path='clip', num_actors=2}", "it is called actors.num today"),
        ("stage1.states={type='stream', max_actors=2}", "it is called producers.max today"),
        ("stage1.states={type='stream', producers={min=3, max=2}}", "max = 2 is less than min = 3"),
    ],
)
def test_a_key_that_was_renamed_is_answered_with_its_name_of_today(override: str, sentence: str, small_run):
    with pytest.raises(UserError) as caught:
        small_run(override)
    assert sentence in str(caught.value)


def test_every_field_is_documented():
    assert all(field.description for name, field in RunConfig.model_fields.items() if name in ("name", "root", "seed"))


def test_auto_becomes_what_this_machine_is_good_for(small_run):
    config = small_run("cluster.num_cpus=16")
    assert (config.cluster.train.num, config.cluster.train.cpus, config.cluster.generate.num) == (4, 4, 16)
    assert config.encode.actors.max == 16
    precisions = {config.stage(name).engine.precision.compute for name in config.stages()}
    assert precisions == {fast_dtype("cpu")}


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("cluster=5", "'cluster' = 5"),
        ("cluster.num_cpus=abc", "'cluster.num_cpus' = 'abc'"),
        ("cluster.num_cpus=9.5", "'cluster.num_cpus' = 9.5"),
        ("cluster.num_cpus=inf", "'cluster.num_cpus' = inf"),
        ("cluster.num_cpus=0", "'cluster.num_cpus' = 0"),
        ("cluster.train.cpus=0", "'cluster.train.cpus' = 0"),
        ("cluster.train.cpus=many", "'cluster.train.cpus' = 'many'"),
        ("cluster.train.num=-1", "'cluster.train.num' = -1"),
        ("cluster.train=7", "'cluster.train' = 7"),
        ("encode.actors.cpus=0", "'encode.actors.cpus' = 0"),
        ("encode.actors.cpus=x", "'encode.actors.cpus' = 'x'"),
        ("encode.actors.min=x", "'encode.actors.min' = 'x'"),
        ("stage1.batch_size=x", "'stage1.batch_size' = 'x'"),
    ],
)
def test_what_auto_is_reckoned_from_is_refused_by_its_name(override: str, named: str, small_run):
    with pytest.raises(UserError) as caught:
        small_run(override)
    assert named in str(caught.value)


def test_a_number_in_place_of_auto_leaves_the_other_to_the_machine(small_run):
    config = small_run("cluster.num_cpus=8", "cluster.train.num=2")
    assert (config.cluster.train.num, config.cluster.train.cpus) == (2, 4)


def test_gpus_train_in_bfloat16_whatever_the_driver_has(small_run):
    config = small_run("cluster.train={num=1, cpus=1, gpus=1}")
    assert config.stage("stage1").engine.precision.compute == fast_dtype("cuda")


def test_precision_is_part_of_what_a_stage_is_and_the_number_of_workers_is_not(small_run):
    def stage1(*overrides: str) -> str:
        config = small_run(*overrides).model_copy(update={"curate": None, "encode": None, "shapes": None})
        return str(_deciding_parts("stage1", config))

    one, other = (stage1(f"stage1.engine.precision.compute={name}") for name in ("float32", "bfloat16"))
    assert one != other
    assert stage1() in (one, other)
    assert stage1("cluster.train={num=1, cpus=1}") == stage1("cluster.train={num=2, cpus=3}")


def test_what_was_settled_here_holds_on_another_machine(small_run, monkeypatch):
    here = small_run("stage1.engine.precision.compute=auto")
    monkeypatch.setattr("mos.precision.fast_dtype", lambda device: "float16 of another machine")
    there = small_run(*here.resolved_overrides())
    assert [there.stage(name).engine for name in there.stages()] == [here.stage(name).engine for name in here.stages()]
    assert there.encode.tower == here.encode.tower

"""A search for mixing ratios as one job: real Ray Train, several at a time, nothing trained twice."""

import tomllib
from argparse import Namespace
from pathlib import Path

import pytest

from mos.ablation.mixing import MixConfig
from mos.errors import UserError
from mos.model.exported import WEIGHTS
from pipelines import mix
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run
from tests.pipelines.train.test_cases import ONE
from tests.pipelines.trained_run import encoded_run, stage

ARGS = Namespace(force=False)
ALONE = ("stage2", "stage3", "stage4", "edit")
SEARCH = {"sources": {"b": [3], "a": [1, 3]}, "proxy": ["stage1.steps=2"], "held_out": 0.3, "passes": 8, "jobs": 2}


def searching(small_run, *overrides: str, **settings: object) -> RunConfig:
    mixed = stage("stage1")
    mixed = (*(text for text in mixed if "sources" not in text), "stage1.sources={a=1.0, b=1.0}")
    config = encoded_run(small_run, *mixed, *ONE, *overrides, without=ALONE)
    return config.model_copy(update={"mix": MixConfig.model_validate({**SEARCH, **settings})})


def test_what_cannot_be_searched_is_said_in_a_sentence(small_run):
    with pytest.raises(UserError, match=r"config 'small' has no \[mix\] section"):
        mix.main(Run(small_run()), ARGS)
    config = searching(small_run)
    others = config.model_copy(update={"mix": MixConfig.model_validate({"sources": {"a": [1, 2], "c": [1]}})})
    with pytest.raises(UserError, match=r"mix.sources names \['a', 'c'\], stage1.sources \['a', 'b'\]: name the same"):
        mix.main(Run(others), ARGS)
    with pytest.raises(UserError, match=r"mix.proxy, at a 1, b 3: unknown key 'stage1.step'"):
        mix.main(Run(searching(small_run, proxy=["stage1.step=2"])), ARGS)


def test_a_source_with_too_few_held_out_samples_is_named_before_anything_is_trained(small_run):
    config = searching(small_run, held_out=0.05, passes=1)
    with pytest.raises(
        UserError, match=r"held-out samples of a, b fill no batch of 16 .* raise mix.held_out or mix.pa"
    ):
        mix.main(Run(config), ARGS)
    assert not config.folder("checkpoints").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_mixes_are_trained_once_measured_by_source_and_chosen(local_ray, small_run, capsys):
    config = searching(small_run, seeds=[0])
    mix.main(Run(config), ARGS)
    told = capsys.readouterr().out
    assert "mix: 2 mixes of stage1, 1 seed each" in told
    assert "mix: 2 cases, 2 at a time" in told
    folder = config.folder("mix")
    assert {path.name for path in folder.iterdir()} == {"mixes.json", "mixes.md", "mixes.png", "chosen.toml"}
    chosen = tomllib.loads((folder / "chosen.toml").read_text(encoding="utf-8"))
    assert chosen["stage1"]["sources"] in ({"a": 1.0, "b": 3.0}, {"a": 3.0, "b": 3.0})
    assert (folder / "chosen.toml").read_text(encoding="utf-8") in told
    exports = {path: path.stat().st_mtime_ns for path in config.folder("checkpoints").rglob(Path(WEIGHTS).name)}
    assert len(exports) == 2

    before = (folder / "mixes.json").read_bytes()
    mix.main(Run(config), ARGS)
    assert (folder / "mixes.json").read_bytes() == before
    wider = searching(small_run, sources={"a": [1, 3, 9], "b": [3]}, seeds=[0])
    mix.main(Run(wider), ARGS)
    after = {path: path.stat().st_mtime_ns for path in config.folder("checkpoints").rglob(Path(WEIGHTS).name)}
    assert after.items() > exports.items()
    assert len(after) == 3

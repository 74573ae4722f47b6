"""Variants of a stage as jobs: real Ray Train, side by side, measured on samples that none has seen."""

from pathlib import Path

import pytest
import torch

from mos.ablation.config import AblateConfig
from mos.errors import UserError
from mos.loader.batch import Batch
from mos.loader.join import build_index
from pipelines.run.steps import Run
from pipelines.run.views import held_out_view, view_of
from pipelines.train.cases import Case, measured_batches, on_one_curation, variant_cases
from pipelines.train.job import StageJob, make_job
from tests.pipelines.trained_run import encoded_run, stage

SETTINGS = AblateConfig.model_validate(
    {
        "seeds": [0, 1],
        "variants": {"mos": [], "last": ["model.fusion={type='self_attention'}"]},
        "comparisons": [{"claim": "routing helps", "source": "table 3", "better": "mos", "worse": "last"}],
        "samplers": {"guided": {}},
        "held_out": 0.3,
        "passes": 4,
        "prompts_per_category": 0,
    }
)
ONE = ("cluster.train={num=1, cpus=1}", "stage1.micro_batch_size=4")


def job_of(case: Case) -> StageJob:
    run = Run(case.config)
    return make_job(run.step(case.stage), run)


def batches_of(case: Case, settings: AblateConfig, folder: Path) -> list[Batch]:
    tables = job_of(case).tables
    index = build_index(tables, held_out_view(case.config, case.stage), folder / "index")
    return [batch for batch, _ in measured_batches(index, tables, case, settings)]


@pytest.fixture
def config(small_run):
    return encoded_run(small_run, *stage("stage1"), *ONE, without=("stage2", "stage3", "stage4", "edit"))


def test_a_case_is_the_run_with_a_variant_a_seed_and_without_what_is_held_out(config, tmp_path):
    cases = variant_cases(config, SETTINGS)
    assert [str(case) for case in cases] == ["mos, seed 0", "last, seed 0", "mos, seed 1", "last, seed 1"]
    assert [case.config.seed for case in cases] == [0, 0, 1, 1]
    assert len({case.folder for case in cases}) == 4
    tables = make_job(Run(config).step("stage1"), Run(config)).tables
    everything = build_index(tables, view_of(config, "stage1"), tmp_path / "everything")
    trained = build_index(tables, view_of(cases[0].config, "stage1"), tmp_path / "trained")
    batches = batches_of(cases[0], SETTINGS, tmp_path)
    held_out = sum(len(batch) for batch in batches)
    assert 0 < held_out <= 4 * (len(everything) - len(trained))
    assert all(batch.exploration is None and batch.weight is None for batch in batches)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.dims=3"], "ablate.variants.other: unknown key 'model.dims'"),
        (["encode.state_format=int4"], r"ablate.variants.other changes \['encode'\], which all variants share"),
        (["stage1.filter=contrast > 0.1"], "ablate.variants.other has a filter of its own"),
        (["model.num_blocks=2"], "ablate.variants.other is the same as mos"),
    ],
)
def test_a_variant_that_cannot_be_compared_is_named(config, overrides, message):
    settings = AblateConfig.model_validate({"variants": {"mos": [], "other": overrides}, "samplers": {"guided": {}}})
    with pytest.raises(UserError, match=message):
        variant_cases(config, settings)


def test_states_that_are_missing_are_named_before_anything_is_trained(config):
    cases = on_one_curation(variant_cases(config, SETTINGS), anew=False)
    assert {case.curation for case in cases} == {Run(config).require("curate").fingerprint}
    other = {"variants": {"mos": [], "keys": ["encode.tower.type=minilm_keys_values"]}, "samplers": {"guided": {}}}
    others = variant_cases(config, AblateConfig.model_validate(other))
    with pytest.raises(UserError, match=r"variant keys: .*encode.py.*, with encode.tower.type=minilm_keys"):
        on_one_curation(others, anew=False)


def test_a_stage_with_others_before_it_and_too_few_samples_are_named(config, small_run, tmp_path):
    with pytest.raises(UserError, match=r"ablate.stage = 'stage2' has stage1 before it"):
        variant_cases(small_run(), SETTINGS.model_copy(update={"stage": "stage2"}))
    few = SETTINGS.model_copy(update={"held_out": 0.1, "passes": 1})
    case = variant_cases(config, few)[0]
    with pytest.raises(UserError, match=r"held-out samples fill no batch of 16: raise ablate.held_out"):
        batches_of(case, few, tmp_path)


def test_noise_and_timesteps_are_the_same_for_every_case(config, tmp_path):
    first, *others = [batches_of(case, SETTINGS, tmp_path) for case in variant_cases(config, SETTINGS)]
    assert len({float(t) for batch in first for t in batch.timesteps}) == sum(len(batch) for batch in first)
    for batches in others:
        assert all(torch.equal(a.noise, b.noise) for a, b in zip(first, batches, strict=True))
        assert all(torch.equal(a.timesteps, b.timesteps) for a, b in zip(first, batches, strict=True))

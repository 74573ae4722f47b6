"""Variants of a stage as one job: real Ray Train, side by side, trained once, compared."""

from argparse import Namespace

import pytest

from mos.errors import UserError
from mos.model.exported import WEIGHTS
from pipelines import ablate
from pipelines.run.steps import Run
from pipelines.train.cases import measure_case, run_cases, variant_cases
from tests.pipelines.train.test_cases import ONE, SETTINGS
from tests.pipelines.trained_run import encoded_run, stage


def test_a_run_without_variants_says_what_it_lacks(small_run):
    with pytest.raises(UserError, match=r"config 'small' has no \[ablate\] section"):
        ablate.main(Run(small_run()), Namespace(force=False))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_cases_are_trained_once_measured_and_compared(local_ray, small_run, capsys):
    alone = ("stage2", "stage3", "stage4", "edit")
    config = encoded_run(small_run, *stage("stage1"), *ONE, without=alone).model_copy(update={"ablate": SETTINGS})
    ablate.main(Run(config), Namespace(force=False))
    told = capsys.readouterr().out
    assert "4 cases, 4 at a time" in told
    assert "ablate: mos - last [table 3]: loss" in told
    folder = config.folder("ablation")
    assert {path.name for path in folder.iterdir()} == {"cases.json", "verdicts.json", "tables.md", "comparisons.png"}
    cases = variant_cases(config, SETTINGS)
    checkpoints = {case.folder: (case.folder / "export" / WEIGHTS).stat().st_mtime_ns for case in cases}
    again = run_cases(cases, SETTINGS)
    assert {path: (path / "export" / WEIGHTS).stat().st_mtime_ns for path in checkpoints} == checkpoints
    assert again == [measure_case(case, SETTINGS) for case in cases]
    assert len({figures.loss for figures in again}) == 4
    assert again[0].num_params > again[1].num_params

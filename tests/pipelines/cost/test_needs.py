"""What the published sizes need is what the page says, and fits the machines that their configs name."""

from pathlib import Path

import pytest

from mos.planning.recommend import recommend
from pipelines.cost.figures import limits_of, stage_figures
from pipelines.cost.needs import COLUMNS, StageNeeds, needs_markdown, stage_needs
from pipelines.run.config import load_run

CLONE = Path(__file__).resolve().parents[3]
DEVICE_BYTES = 80e9
"""Of an H100, which the training nodes of cluster/*.yaml have."""


def needs_of(name: str) -> list[StageNeeds]:
    config = load_run(CLONE / "pipelines" / "configs" / f"{name}.toml")
    machine = config.plan.machine_for(config.cluster.train.gpus)
    figures = {stage: stage_figures(config, stage) for stage in config.stages()}
    recommended = recommend([figure.load for figure in figures.values()], machine, limits_of(config))
    return stage_needs(config, figures, recommended)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mos_s", "mos_l"])
def test_the_page_has_the_table_and_every_stage_fits(name: str) -> None:
    needs = needs_of(name)
    page = (CLONE / "docs" / "full-size.md").read_text(encoding="utf-8")
    assert needs_markdown(needs) in page, f"run plan.py pipelines/configs/{name}.toml --needs, and put its table there"
    assert [stage.stage for stage in needs] == ["stage1", "stage2", "stage3", "stage4", "edit"]
    for stage in needs:
        assert stage.device.total < 0.9 * DEVICE_BYTES
        assert stage.disk_bytes < 500e12
        assert stage.source == "stream" or stage.read_bytes_per_s < 1.5e9


def test_a_stage_is_one_line_of_all_columns() -> None:
    (needs, *_) = needs_of("demo")
    assert len(needs.cells()) == len(COLUMNS)
    assert needs.cells()[0] == "stage1"
    assert needs.device.total == pytest.approx(
        needs.device.weights
        + needs.device.moments
        + needs.device.average
        + needs.device.gathered
        + needs.device.activations
    )

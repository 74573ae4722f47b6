"""What each stage of a run trains on, as a view of the samples table."""

from mos.tables.views import View
from pipelines.run.config import RunConfig


def view_of(config: RunConfig, name: str) -> View:
    """The samples of one stage."""
    stage = config.stage(name)
    return View(stage.resolution, stage.filter, stage.tasks, tuple(stage.sources))

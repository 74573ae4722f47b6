"""What each stage of a run trains on, as a view of the samples table."""

from mos.tables.views import View, split
from pipelines.run.config import RunConfig


def view_of(config: RunConfig, name: str) -> View:
    """The samples that one stage trains on."""
    view = encoded_view(config, name)
    return split(view, config.held_out)[0] if config.held_out else view


def held_out_view(config: RunConfig, name: str) -> View:
    """The samples of one stage that none trains on; `held_out` is not 0."""
    return split(encoded_view(config, name), config.held_out)[1]


def measured_views(config: RunConfig) -> dict[str, View]:
    """Those of the stages that measure a held-out loss; its states stand in the table, whatever the stage trains on."""
    measured = (name for name in config.stages() if config.held_out and config.stage(name).held_out_every)
    return {name: held_out_view(config, name) for name in measured}


def encoded_view(config: RunConfig, name: str) -> View:
    """Both: the samples whose encodings one stage asks for."""
    stage = config.stage(name)
    return View(stage.resolution, stage.filter, stage.tasks, tuple(stage.sources))


def encoded_views(config: RunConfig) -> dict[str, View]:
    """Those of every stage."""
    return {name: encoded_view(config, name) for name in config.stages()}

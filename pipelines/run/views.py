"""What each stage of a run trains on, as a view of the samples table."""

from dataclasses import replace

from mos.losses.names import without_losses
from mos.tables.views import View, split
from pipelines.run.config import RunConfig


def view_of(config: RunConfig, name: str) -> View:
    """The samples that one stage trains on."""
    return _training(config, replace(encoded_view(config, name), filter=config.stage(name).filter))


def view_before_losses(config: RunConfig, name: str) -> View:
    """The samples that one stage may train on, as far as can be told before any loss is measured."""
    return _training(config, encoded_view(config, name))


def held_out_view(config: RunConfig, name: str) -> View:
    """The samples of one stage that none trains on, whatever their losses are; `held_out` is not 0."""
    return split(encoded_view(config, name), config.held_out)[1]


def measured_views(config: RunConfig) -> dict[str, View]:
    """Those of the stages that measure a held-out loss; its states stand in the table, whatever the stage trains on."""
    measured = (name for name in config.stages() if config.held_out and config.stage(name).held_out_every)
    return {name: held_out_view(config, name) for name in measured}


def encoded_view(config: RunConfig, name: str) -> View:
    """Both: the samples whose encodings one stage asks for, whatever their losses are."""
    stage = config.stage(name)
    return View(stage.resolution, without_losses(stage.filter), stage.tasks, tuple(stage.sources))


def encoded_views(config: RunConfig) -> dict[str, View]:
    """Those of every stage."""
    return {name: encoded_view(config, name) for name in config.stages()}


def _training(config: RunConfig, view: View) -> View:
    return split(view, config.held_out)[0] if config.held_out else view

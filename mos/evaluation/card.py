"""The model card of a checkpoint: what it is, how it was trained, what it gets right, how to draw with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mos.autoencoder.config import CodecConfig
from mos.evaluation.config import EvaluateConfig
from mos.evaluation.scores import EditScores, Scores, with_margin
from mos.sampling.export import Export
from mos.shapes.captions import PLURALS
from mos.shapes.scene import PALETTE, Background


@dataclass(frozen=True)
class TrainedStage:
    """One stage of the training."""

    name: str
    resolution: int
    """Pixels."""
    steps: int
    """Updates."""
    batch_size: int
    hours: float


def model_card(
    name: str,
    machine: str,
    export: Export,
    stages: Sequence[TrainedStage],
    scores: Scores,
    edits: EditScores | None,
    evaluate: EvaluateConfig,
) -> str:
    """Markdown, with the metadata block that model hubs read.

    Args:
        name: of the run.
        machine: what it was trained on, in words.
        export: the model that is described.
        stages: what it was trained in, in order.
        scores: its own.
        edits: the same, where it edits.
        evaluate: how the pictures were drawn that the scores are of.
    """
    environment = _environment()
    environment.filters["share"] = lambda share: "–" if share is None else f"{share:.2f}"
    environment.globals["with_margin"] = with_margin
    return environment.get_template("card.md").render(
        name=name,
        machine=machine,
        config=export.config,
        num_parameters=sum(parameter.numel() for parameter in export.model.parameters()),
        stages=stages,
        scores=scores,
        edits=edits,
        evaluate=evaluate,
        shapes=PLURALS.values(),
        colours=PALETTE,
        backgrounds=list(Background),
    )


def codec_card(name: str, machine: str, config: CodecConfig, figures: Mapping[str, Any], hours: float) -> str:
    """Markdown on a latent codec.

    Args:
        name: of the run.
        machine: what it was trained on, in words.
        config: what was trained, and how.
        figures: outputs of the codec step.
        hours: that it took.
    """
    return (
        _environment()
        .get_template("codec_card.md")
        .render(name=name, machine=machine, config=config, figures=figures, hours=hours)
    )


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("mos.evaluation", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )

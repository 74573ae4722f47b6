"""Which layers a trained router reads, by timestep and by token, and which a smaller table could do without.

A hidden state's number is its index in the tower: 0 the embedding, then the layers from 1. A model may route some of
them only. The embedding is what the router itself looks at, so every table holds it.

Dimension key
    step   denoising steps, from noise to data    token  context tokens of all prompts, one after the other
    layer  layers that the model routes           block  n generation blocks
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mos.sampling.trace import RouterTrace

COVERAGES = (0.99, 0.95, 0.9)
"""Shares of the picks for which a report names the layers."""


@dataclass(frozen=True)
class LayerUsage:
    """Shares of the router's picks, over all generation blocks."""

    by_step: Float[Tensor, "step layer"]
    """Of a step's picks; rows sum to 1."""
    by_token: Float[Tensor, "token layer"]
    """Of a token's picks over all steps; rows sum to 1."""
    timesteps: Float[Tensor, " step"]
    """t of each step, in [0, 1], 1 = noise."""
    tokens: tuple[str, ...]
    """As the tower's tokenizer writes them."""
    layers: tuple[int, ...]
    """Place in the tower of each entry of `layer`, ascending from 1."""

    @property
    def share(self) -> Float[Tensor, " layer"]:
        """Of all picks; every step counts alike."""
        return self.by_step.mean(dim=0)


@dataclass(frozen=True)
class LayerSubset:
    """A table that holds some of the hidden states, and what it would cost the router."""

    name: str
    states: tuple[int, ...]
    """Hidden states held, ascending, 0 first: as `encode.layers` takes them."""
    size: float
    """Bytes against those of the hidden states that the model reads now."""
    missed: float
    """Share of the picks that fall on layers it lacks."""
    missed_at_worst: float
    """The same at the step where most do."""

    @property
    def settings(self) -> dict[str, object]:
        """Overrides of a run on such a table, all of them: each is refused without the others."""
        routed = list(self.states[1:])
        return {
            "encode.layers": list(self.states),
            "model.routed_layers": routed,
            "model.state_layers": len(routed),
        }


def layer_usage(traces: Sequence[RouterTrace]) -> LayerUsage:
    """Usage over several pictures drawn with the same steps.

    Raises:
        ValueError: there is no trace, or they differ in steps or layers.
    """
    if not traces:
        raise ValueError("layer usage needs at least one trace")
    first = traces[0]
    for trace in traces:
        alike = trace.picked.shape[2:] == first.picked.shape[2:] and trace.layers == first.layers
        if not alike or not torch.equal(trace.timesteps, first.timesteps):
            raise ValueError("traces of different samplers or models cannot be added up")
    picked = torch.cat([trace.picked for trace in traces], dim=1).float()  # step token layer block
    return LayerUsage(
        by_step=_shares(picked.sum(dim=(1, 3))),
        by_token=_shares(picked.sum(dim=(0, 3))),
        timesteps=first.timesteps,
        tokens=tuple(token for trace in traces for token in trace.tokens),
        layers=first.layers,
    )


def covering_layers(usage: LayerUsage, coverage: float) -> tuple[int, ...]:
    """The embedding and the most picked layers, as many as it takes for this share of the picks at every step."""
    kept: list[int] = []
    for column in usage.share.argsort(descending=True).tolist():
        if float(usage.by_step[:, kept].sum(dim=1).min()) >= coverage - 1e-6:
            break
        kept.append(column)
    return (0, *(usage.layers[column] for column in sorted(kept)))


def every_second_layer(layers: tuple[int, ...]) -> tuple[int, ...]:
    """The embedding and every second of these layers, the last one among them."""
    return (0, *layers[1 - len(layers) % 2 :: 2])


def subset(usage: LayerUsage, name: str, states: tuple[int, ...]) -> LayerSubset:
    """Share of picks that a table of these hidden states would miss."""
    held = [column for column, layer in enumerate(usage.layers) if layer in states]
    missed = (1 - usage.by_step[:, held].sum(dim=1)).clamp(min=0)
    size = len(states) / (len(usage.layers) + 1)
    return LayerSubset(name, states, size, float(missed.mean()), float(missed.max()))


def suggested_subsets(usage: LayerUsage) -> list[LayerSubset]:
    """Choices of layers: those read now, tables that cover most picks, and every second layer regardless of picks."""
    whole = subset(usage, "all layers", (0, *usage.layers))
    covering = [subset(usage, f"{share:.0%} of the picks", covering_layers(usage, share)) for share in COVERAGES]
    return [whole, *covering, subset(usage, "every second layer", every_second_layer(usage.layers))]


def usage_of_words(usage: LayerUsage) -> dict[str, Float[Tensor, " layer"]]:
    """Mean usage of each distinct token, the most frequent first."""
    indices: dict[str, list[int]] = {}
    for index, token in enumerate(usage.tokens):
        indices.setdefault(token, []).append(index)
    ordered = sorted(indices.items(), key=lambda item: -len(item[1]))
    return {token: usage.by_token[where].mean(dim=0) for token, where in ordered}


def _shares(counts: Float[Tensor, "rows layer"]) -> Float[Tensor, "rows layer"]:
    return counts / counts.sum(dim=1, keepdim=True)

"""How much the size of eq. 4's weights matters to a model, and what the router learns from it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from unittest.mock import patch

import torch
from torch import Tensor

from mos.model.context import Context
from mos.model.fusion import RoutedFusion
from mos.model.mos import ModelConfig, MoS
from mos.model.routing import Routing, route

Inputs = tuple[Tensor, Tensor, Context]
"""z_t, timesteps, contexts."""


def fresh(config: ModelConfig, top_k: int) -> MoS:
    """A model as it is initialised, but for its last layer, which is zero then and would hide everything."""
    assert isinstance(config.fusion, RoutedFusion)
    router = config.fusion.router.model_copy(update={"top_k": top_k})
    model = MoS(config.model_copy(update={"fusion": RoutedFusion(router=router)}))
    model.init_weights(torch.Generator().manual_seed(0))
    torch.nn.init.normal_(model.patch_out.weight, std=0.1, generator=torch.Generator().manual_seed(1))
    return model


@torch.no_grad()
def change_by_halving(model: MoS, inputs: Inputs) -> float:
    """Relative change of the output when the weight of each token's heaviest pick is halved in all blocks."""
    halves = torch.ones(model.router.config.top_k)
    halves[0] = 0.5
    whole = model(*inputs)
    with _routed_by(lambda routing: replace(routing, picked=routing.picked * halves)):
        changed = model(*inputs)
    return float((changed - whole).norm() / whole.norm())


def gradient_shares(model: MoS, inputs: Inputs, target: Tensor) -> tuple[float, float]:
    """Root mean square of the gradients of logits that are not picked against those that are; norm of the router's
    gradient against that of all other weights."""
    seen: list[tuple[Tensor, Routing]] = []

    def watch(logits: Tensor, *rest: object) -> Routing:
        logits.retain_grad()
        seen.append((logits, route(logits, *rest)))
        return seen[0][1]

    with patch("mos.model.mos.route", watch):
        (model(*inputs) - target).square().mean().backward()
    logits, routing = seen[0]
    grads = logits.grad.transpose(2, 3)
    is_picked = torch.zeros_like(grads, dtype=torch.bool).scatter(-1, routing.index, True)
    is_real = inputs[2].layout.mask[:, :, None, None].expand_as(grads)
    picked, others = (grads[is_real & which].square().mean().sqrt() for which in (is_picked, ~is_picked))
    squares = {True: 0.0, False: 0.0}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            squares[name.startswith("router.")] += float(parameter.grad.square().sum())
    return float(others / picked), (squares[True] / squares[False]) ** 0.5


def _routed_by(change: Callable[[Routing], Routing]) -> AbstractContextManager:
    return patch("mos.model.mos.route", lambda *arguments: change(route(*arguments)))

"""What the router chose while one picture was drawn, and the views of it that paper Fig. 14 shows.

Dimension key
    step   denoising steps, from noise to data    ctx    context tokens of the prompt
    layer  m understanding layers                 block  n generation blocks
"""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mos.model.routing import Routing


@dataclass(frozen=True)
class RouterTrace:
    """Every routing decision of one picture's conditional passes."""

    weights: Float[Tensor, "step ctx layer block"]
    """Softmax over `layer`, before the selection."""
    picked: Bool[Tensor, "step ctx layer block"]
    """True at the k layers whose states were sent."""
    timesteps: Float[Tensor, " step"]
    """t of each step, in [0, 1], 1 = noise."""
    tokens: tuple[str, ...]
    """The context's tokens, as the tower's tokenizer writes them."""
    layers: tuple[int, ...]
    """Place in the tower of each entry of `layer`, ascending from 1."""

    def save(self, target: str | Path | BinaryIO) -> None:
        """Write the trace as a compressed .npz, weights in float16."""
        np.savez_compressed(
            target,
            weights=self.weights.half().numpy(),
            picked=self.picked.numpy(),
            timesteps=self.timesteps.numpy(),
            tokens=np.array(self.tokens, dtype=np.str_),
            layers=np.array(self.layers),
        )

    @classmethod
    def load(cls, source: str | Path | BinaryIO) -> Self:
        """Read what `save` wrote; a file without layers, as it once wrote them, is of a tower's first ones."""
        with np.load(source, allow_pickle=False) as arrays:
            num_layers = arrays["weights"].shape[2]
            return cls(
                torch.from_numpy(arrays["weights"]).float(),
                torch.from_numpy(arrays["picked"]),
                torch.from_numpy(arrays["timesteps"]),
                tuple(str(token) for token in arrays["tokens"]),
                tuple(arrays["layers"].tolist() if "layers" in arrays else range(1, num_layers + 1)),
            )


class RouterRecorder:
    """Collects the routing of one sample of a batch, step by step."""

    def __init__(self, tokens: tuple[str, ...], layers: tuple[int, ...], sample: int = 0) -> None:
        """Keep what is added.

        Args:
            tokens: of the sample's context.
            layers: place in the tower of each layer that the model routes, `ModelConfig.hidden_states` behind the 0.
            sample: its place in the batch.
        """
        self.tokens = tokens
        self.layers = layers
        self.sample = sample
        self._weights: list[Tensor] = []
        self._picked: list[Tensor] = []
        self._timesteps: list[float] = []

    def add(self, t: float, routing: Routing) -> None:
        """Keep one step; padding behind the sample's own tokens is left out."""
        num_tokens = len(self.tokens)
        weights = routing.weights[self.sample, :num_tokens].float().cpu()
        index = routing.index[self.sample, :num_tokens].cpu().transpose(1, 2)  # ctx k block
        self._weights.append(weights)
        self._picked.append(torch.zeros_like(weights, dtype=torch.bool).scatter(1, index, True))
        self._timesteps.append(t)

    def finish(self) -> RouterTrace:
        """The trace of all steps added."""
        times = torch.tensor(self._timesteps)
        return RouterTrace(torch.stack(self._weights), torch.stack(self._picked), times, self.tokens, self.layers)


def nearest_step(trace: RouterTrace, t: float) -> int:
    """The step whose timestep is closest to t."""
    return int((trace.timesteps - t).abs().argmin())


def layer_profile(trace: RouterTrace) -> Float[Tensor, "step layer"]:
    """Average weight of each understanding layer over all tokens and blocks; each step sums to 1 (Fig. 14, row 2)."""
    return trace.weights.mean(dim=(1, 3))


def token_maps(trace: RouterTrace, t: float = 1.0) -> Float[Tensor, "ctx layer block"]:
    """Each token's layer-by-block weights at the step nearest to t; columns sum to 1 (Fig. 14, row 3)."""
    return trace.weights[nearest_step(trace, t)]


def routing_entropy(trace: RouterTrace) -> Float[Tensor, " step"]:
    """Mean entropy of a token's weights for one block, as a share of log m: 0 is one layer, 1 is all alike."""
    weights = trace.weights
    if weights.shape[2] == 1:
        return torch.zeros(len(weights))
    entropy = -torch.xlogy(weights, weights).sum(dim=2).mean(dim=(1, 2))
    return entropy / torch.log(torch.tensor(float(weights.shape[2])))


def last_layer_share(trace: RouterTrace) -> Float[Tensor, " step"]:
    """Weight of the tower's last layer, the one most models condition on; 1/m is indifference."""
    return layer_profile(trace)[:, -1]


def token_divergence(trace: RouterTrace) -> Float[Tensor, " step"]:
    """Jensen-Shannon divergence between the tokens' weights, mean over blocks, in bits: 0 if all tokens route alike."""
    weights = trace.weights
    center = weights.mean(dim=1, keepdim=True)
    entropy_of_mean = -torch.xlogy(center, center).sum(dim=2).mean(dim=(1, 2))
    mean_of_entropy = -torch.xlogy(weights, weights).sum(dim=2).mean(dim=(1, 2))
    return (entropy_of_mean - mean_of_entropy).clamp(min=0) / torch.log(torch.tensor(2.0))

"""MiniLM read at the keys and values of its attention: the unit of interaction of Mixture of Transformers.

Dimension key
    batch  rows of one forward pass       ctx  tokens, padded on the right       dim  2 * width of the tower
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mos.encoders.batches import PassShape
from mos.encoders.prompts import Prompter
from mos.encoders.text_tower import TextTower


class KeysValuesTower(TextTower):
    """State i is [K_i | V_i], all heads of layer i; state 0, the router's view, is the embedding, twice."""

    def __init__(self, model: Any, prompter: Prompter, shape: PassShape, tower_id: str) -> None:
        super().__init__(model, prompter, shape, tower_id)
        self.dim *= 2

    def _read(self, hidden_states: tuple[Tensor, ...]) -> tuple[Float[Tensor, "batch ctx dim"], ...]:
        """Keys and values of every layer, which are linear in the hidden state before it."""
        embedding = hidden_states[0]
        attentions = [layer.attention.self for layer in self._model.encoder.layer]
        read = [
            torch.cat([attention.key(before), attention.value(before)], dim=-1)
            for attention, before in zip(attentions, hidden_states[:-1], strict=True)
        ]
        return torch.cat([embedding, embedding], dim=-1), *read

"""Text-only understanding towers: MiniLM (BertModel) and the LlamaModel family.

Dimension key
    batch  rows of one forward pass, see mos.encoders.batches
    ctx    tokens, padded on the right
    layer  m + 1 states, see mos.encoders.understanding
    dim    width of the tower
"""

from collections.abc import Sequence
from typing import Any, Self

import torch
from jaxtyping import BFloat16, Float
from PIL import Image
from torch import Tensor

from mos.encoders.batches import Pass, PassShape, pad_tokens, plan_passes
from mos.encoders.prompts import Prompter
from mos.encoders.understanding import Encoded, LlamaConfig, MiniLMConfig, MiniLMKeysValuesConfig
from mos.encoders.weights import Checkpoint, load_frozen
from mos.errors import UserError


class TextTower:
    """A frozen language model, read at every layer."""

    sees_images = False

    def __init__(self, model: Any, prompter: Prompter, shape: PassShape, tower_id: str) -> None:
        self._model = model
        self._prompter = prompter
        self._shape = shape
        self.tower_id = tower_id
        self.num_layers = int(model.config.num_hidden_layers)
        self.dim = int(model.config.hidden_size)

    @classmethod
    def of(
        cls, config: MiniLMConfig | MiniLMKeysValuesConfig | LlamaConfig, model: Any, tokenizer: Any, tower_id: str
    ) -> Self:
        """The tower that a config makes of a model and its tokenizer."""
        template = config.template if isinstance(config, LlamaConfig) else "{text}"
        return cls(model, Prompter(tokenizer, template, config.max_tokens), config.pass_shape, tower_id)

    def plan(self, texts: Sequence[str], with_image: Sequence[bool]) -> list[list[int]]:
        """Contexts that share a forward pass, see `Tower.plan`."""
        return [one.indices for one in self._passes(self._token_ids(texts))]

    def cut(self, text: str) -> tuple[str, str]:
        """Part of a text that is read, and the rest, see `Tower.cut`."""
        return self._prompter.cut(text)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], images: Sequence[Image.Image | None] | None = None) -> list[Encoded]:
        """Hidden states of all layers, see `Tower.encode`."""
        if images is not None and any(image is not None for image in images):
            raise UserError(f"tower {self.tower_id} reads text only: choose internvl or perceptionlm to show it images")
        token_ids = self._token_ids(texts)
        encoded: dict[int, Encoded] = {}
        for one in self._passes(token_ids):
            ids, mask = pad_tokens([token_ids[index] for index in one.rows], one.length, self._prompter.pad_id)
            output = self._model(
                input_ids=ids.to(self._model.device),
                attention_mask=mask.to(self._model.device),
                output_hidden_states=True,
            )
            encoded |= unpad(stack_layers(self._read(output.hidden_states)), one, token_ids, self._prompter)
        return [encoded[index] for index in range(len(texts))]

    def _read(self, hidden_states: tuple[Tensor, ...]) -> tuple[Float[Tensor, "batch ctx dim"], ...]:
        """What is kept of each layer: its hidden states themselves."""
        return hidden_states

    def _token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        return self._prompter.token_ids([self._prompter.render(text) for text in texts])

    def _passes(self, token_ids: list[list[int]]) -> list[Pass]:
        return plan_passes([len(ids) for ids in token_ids], [None] * len(token_ids), self._shape)


def stack_layers(hidden_states: tuple[Float[Tensor, "batch ctx dim"], ...]) -> BFloat16[Tensor, "batch ctx layer dim"]:
    """The tuple that transformers returns, as one bf16 tensor."""
    return torch.stack([layer.to(torch.bfloat16) for layer in hidden_states], dim=2)


def unpad(
    states: BFloat16[Tensor, "batch ctx layer dim"], one: Pass, token_ids: list[list[int]], prompter: Prompter
) -> dict[int, Encoded]:
    """The contexts of a pass by index, without padding and copies."""
    return {
        index: Encoded(states[row, : len(token_ids[index])].clone(), prompter.spell(token_ids[index]))
        for row, index in enumerate(one.indices)
    }


def load_text_model(config: MiniLMConfig | MiniLMKeysValuesConfig | LlamaConfig, checkpoint: Checkpoint) -> Any:
    """The language model of a tower, on the CPU.

    Raises:
        UserError: the weights are missing, incomplete or of another architecture.
    """
    from transformers import BertModel, LlamaModel

    dtype = getattr(torch, config.dtype)
    match config:
        case MiniLMConfig() | MiniLMKeysValuesConfig():  # with the pooler that no tower reads, to be saved complete
            return load_frozen(BertModel, checkpoint, dtype)
        case LlamaConfig():
            return load_frozen(LlamaModel, checkpoint, dtype)

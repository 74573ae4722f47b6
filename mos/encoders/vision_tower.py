"""Understanding towers that read an image and a text: InternVL and PerceptionLM.

An image is one square tile at the vision encoder's own size, as both families see an image's thumbnail; the
generation side works from latents, so tiles for small print would only lengthen the context.

Dimension key
    batch   rows of one forward pass, see mos.encoders.batches; all of them have an image or none has
    ctx     tokens, padded on the right
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

from mos.encoders.batches import Pass, PassShape, pad_tokens, plan_passes
from mos.encoders.prompts import IMAGE_LABEL, Prompter
from mos.encoders.text_tower import stack_layers, unpad
from mos.encoders.understanding import Encoded, InternVLConfig, PerceptionLMConfig
from mos.encoders.weights import Checkpoint, load_frozen
from mos.errors import UserError


@dataclass(frozen=True)
class ImageRules:
    """Processing of an image by one family of towers: pixels and tokens."""

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
        """Placeholder of an image in the prompt."""
        return self.around[0] + self.token * self.num_tokens + self.around[1]


class VisionTower:
    """A frozen vision-language model, read at every layer of its language side."""

    sees_images = True

    def __init__(self, model: Any, prompter: Prompter, rules: ImageRules, shape: PassShape, tower_id: str) -> None:
        self._model = model
        self._prompter = prompter
        self._rules = rules
        self._shape = shape
        self.tower_id = tower_id
        self.num_layers = int(model.config.text_config.num_hidden_layers)
        self.dim = int(model.config.text_config.hidden_size)

    @classmethod
    def of(cls, config: InternVLConfig | PerceptionLMConfig, model: Any, tokenizer: Any, tower_id: str) -> Self:
        """The tower that a config makes of a model and its tokenizer."""
        prompter = Prompter(tokenizer, config.template, config.max_tokens)
        rules = _image_rules(config, model.config, prompter)
        return cls(model, prompter, rules, config.pass_shape, tower_id)

    def plan(self, texts: Sequence[str], with_image: Sequence[bool]) -> list[list[int]]:
        """Contexts that share a forward pass, see `Tower.plan`."""
        return [one.indices for one in self._passes(self._token_ids(texts, with_image), with_image)]

    def cut(self, text: str) -> tuple[str, str]:
        """Part of a text that is read, and the rest, see `Tower.cut`."""
        return self._prompter.cut(text)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], images: Sequence[Image.Image | None] | None = None) -> list[Encoded]:
        """Hidden states of all language layers, image tokens included, see `Tower.encode`."""
        shown = [None] * len(texts) if images is None else list(images)
        with_image = [image is not None for image in shown]
        token_ids = self._token_ids(texts, with_image)
        encoded: dict[int, Encoded] = {}
        for one in self._passes(token_ids, with_image):
            ids, mask = pad_tokens([token_ids[index] for index in one.rows], one.length, self._prompter.pad_id)
            output = self._model(
                input_ids=ids.to(self._model.device),
                attention_mask=mask.to(self._model.device),
                output_hidden_states=True,
                **self._pixels([shown[index] for index in one.rows]),
            )
            encoded |= unpad(stack_layers(output.hidden_states), one, token_ids, self._prompter)
        contexts = (encoded[index] for index in range(len(texts)))
        return [Encoded(context.states, self._label(context.tokens)) for context in contexts]

    def _token_ids(self, texts: Sequence[str], with_image: Sequence[bool]) -> list[list[int]]:
        prompts = [
            self._prompter.render(text, self._rules.prompt if shown else "")
            for text, shown in zip(texts, with_image, strict=True)
        ]
        return self._prompter.token_ids(prompts)

    def _passes(self, token_ids: list[list[int]], with_image: Sequence[bool]) -> list[Pass]:
        return plan_passes([len(ids) for ids in token_ids], with_image, self._shape)

    def _pixels(self, images: Sequence[Image.Image | None]) -> dict[str, Tensor]:
        """The model's `pixel_values`, one tile for each row; nothing if no row has an image."""
        shown = [image for image in images if image is not None]
        if not shown:
            return {}
        tiles = {id(image): normalise(image, self._rules) for image in shown}
        pixels = torch.stack([tiles[id(image)] for image in shown]).to(self._model.device, self._model.dtype)
        return {"pixel_values": pixels[:, None] if self._rules.tile_axis else pixels}

    def _label(self, tokens: list[str]) -> list[str]:
        return [IMAGE_LABEL if token == self._rules.token else token for token in tokens]


def normalise(image: Image.Image, rules: ImageRules) -> Float[Tensor, "3 height width"]:
    """One image as the vision encoder reads it: resized to its square, mean and deviation removed."""
    height, width = rules.size_px
    resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    values = (np.asarray(resized, dtype=np.float32) / 255 - rules.mean) / rules.std
    return torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)


def load_vision_model(config: InternVLConfig | PerceptionLMConfig, checkpoint: Checkpoint) -> Any:
    """The vision-language model of a tower, on the CPU.

    Raises:
        UserError: weights or a package are missing, or the weights are of another architecture.
    """
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

"""A CLIP-family checkpoint as a measuring device: unit-length embeddings of images and captions."""

import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mos.errors import UserError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""RGB statistics every CLIP was trained with unless its `preprocessor_config.json` says otherwise."""


class Clip:
    """Embeds images and captions with a frozen model.

    Dimension key
        batch  pictures or captions    dim  shared embedding width
    """

    def __init__(self, path: str, device: str) -> None:
        from transformers import AutoModel, AutoTokenizer  # half a second, for curation without scorers

        folder = Path(path).expanduser()
        if not (folder / "config.json").is_file():
            raise UserError(f"scorer path {path} holds no config.json: name the folder of a CLIP checkpoint")
        self.device = device
        options = {"trust_remote_code": False, "local_files_only": True}
        self.model = AutoModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **options)
        self.model.eval().requires_grad_(False).to(device)
        self._tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        self.side_px = int(self.model.config.vision_config.image_size)
        self._mean, self._std = _statistics(folder)

    @torch.inference_mode()
    def embed_images(self, pictures: list[Image.Image]) -> Float[Tensor, "batch dim"]:
        """Unit-length embeddings of RGB pictures: shorter side to the model's size, centre crop."""
        pixels = np.stack([_crop(picture, self.side_px) for picture in pictures]).astype(np.float32) / 255
        pixels = (pixels - self._mean) / self._std
        values = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device)  # b channel height width
        return _unit(self.model.get_image_features(pixel_values=values))

    @torch.inference_mode()
    def embed_captions(self, captions: list[str]) -> Float[Tensor, "batch dim"]:
        """Unit-length embeddings of captions, cut to the model's window."""
        window = int(self.model.config.text_config.max_position_embeddings)
        tokens = self._tokenizer(captions, padding=True, truncation=True, max_length=window, return_tensors="pt")
        inputs = {name: tokens[name].to(self.device) for name in ("input_ids", "attention_mask")}
        return _unit(self.model.get_text_features(**inputs))


def _unit(features: object) -> Float[Tensor, "batch dim"]:
    """Transformers 5 returns an output object whose pooled state is the projected embedding."""
    tensor = features if isinstance(features, Tensor) else features.pooler_output  # type: ignore[attr-defined]
    return torch.nn.functional.normalize(tensor.float(), dim=-1).cpu()


def _crop(picture: Image.Image, side: int) -> np.ndarray:
    scale = side / min(picture.size)
    size = max(side, round(picture.width * scale)), max(side, round(picture.height * scale))
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return np.asarray(picture.crop((left, top, left + side, top + side)))


def _statistics(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    path = folder / "preprocessor_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    mean, std = config.get("image_mean", CLIP_MEAN), config.get("image_std", CLIP_STD)
    return np.asarray(mean, np.float32), np.asarray(std, np.float32)

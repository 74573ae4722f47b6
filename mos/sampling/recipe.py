"""What a picture was drawn from, written into its PNG, so that it can be drawn again."""

from os import PathLike
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import Field, ValidationError

from mos.config import StrictConfig
from mos.errors import UserError
from mos.fingerprint import file_digest, fingerprint
from mos.model.exported import weight_files
from mos.sampling.config import SamplerConfig
from mos.sampling.export import read_export_config

KEY = "mos"
"""Of the PNG's text chunk."""


class Recipe(StrictConfig):
    """All that decides a picture, and no place of this machine."""

    prompt: str
    negative_prompt: str
    seed: int = Field(ge=0, lt=2**64)
    height: int = Field(ge=1)
    """Pixels."""
    width: int = Field(ge=1)
    """Pixels."""
    sampler: SamplerConfig
    model: str
    """Fingerprint of the weights and of the tower and codec they were trained with."""
    source: str | None = None
    """SHA-256 of the file of the picture that was edited."""

    def png_info(self) -> PngInfo:
        """The text chunk that holds it, for `Image.save(path, pnginfo=...)`."""
        info = PngInfo()
        info.add_itxt(KEY, self.model_dump_json())
        return info


def read_recipe(path: str | PathLike) -> Recipe:
    """The recipe in a picture.

    Raises:
        UserError: it is no picture, or holds none.
    """
    try:
        with Image.open(path) as image:
            image.load()
            text = getattr(image, "text", {}).get(KEY)
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(
            f"{path} is no picture that can be read ({error}): name a PNG that sample.py has written"
        ) from error
    if text is None:
        raise UserError(
            f"{path} holds no recipe: name a PNG as sample.py has written it; programs that save it again may "
            f"leave that out. To edit it, pass source={path} and a prompt"
        )
    try:
        return Recipe.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"the recipe in {path} is of another version ({error.errors()[0]['msg']})") from error


def model_fingerprint(folder: str | PathLike) -> str:
    """Equal for exports that draw the same pictures: weights, tower and codec, wherever they stand.

    Raises:
        UserError: the folder holds no export.
    """
    config = read_export_config(folder)
    parts = [part.model_dump(mode="json", exclude={"path", "revision"}) for part in (config.tower, config.vae)]
    ids = [config.run.get(name) for name in ("tower_id", "codec_id")]
    try:
        weights = [file_digest(path) for path in weight_files(Path(folder))]
    except (OSError, ValueError) as error:
        raise UserError(f"weights of {folder} cannot be read ({error}): name another export") from error
    return fingerprint(weights=weights, parts=parts, ids=ids)

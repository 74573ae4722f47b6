"""Encoded bytes -> an upright 8-bit sRGB picture, or a `Rejected`: the header is judged before a pixel is decoded."""

import io
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image, ImageCms
from pydantic import Field

from mos.config import StrictConfig
from mos.images.formats import ExtraFormat, decoders, how_to_read, sniff, suffixes_of
from mos.images.orientation import find_orientation
from mos.images.reasons import Reason, Rejected

# Sizes and damage are judged here; in a large run the decoders' lines about them would drown all others.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageLimits(StrictConfig):
    """Limits of an image; the defaults let through nearly anything a camera makes."""

    max_bytes: int = Field(64 * 2**20, gt=0)
    """Encoded size."""
    max_pixels: int = Field(64_000_000, gt=0)
    """Width times height, judged from the header."""
    min_side_px: int = Field(16, ge=1)
    """Shorter side."""
    max_aspect: float = Field(10.0, ge=1)
    """Longer side over shorter side."""
    extra_formats: tuple[ExtraFormat, ...] = ()
    """Formats read besides JPEG, PNG and WebP; of a TIFF with several pages the first is its first frame."""
    animated: Literal["refuse", "first_frame"] = "refuse"
    """What becomes of a picture with several frames (GIF, APNG, WebP, AVIF, TIFF)."""

    def formats(self) -> tuple[str, ...]:
        """The decoders that are used, by Pillow's names."""
        return decoders(self.extra_formats)

    def suffixes(self) -> frozenset[str]:
        """Extensions of the files that are opened as pictures, in lower case."""
        return suffixes_of(self.formats())


@dataclass(frozen=True)
class ImageHeader:
    """Header of a picture; sizes are upright, after EXIF orientation."""

    width: int
    height: int
    format: str
    mode: str
    orientation: int
    """EXIF, 1 to 8; 1 where absent or nonsense."""


def decode_image(data: bytes, limits: ImageLimits, max_side_px: int | None = None) -> Image.Image:
    """Decode to mode RGB: upright, in sRGB, transparency laid on white.

    A JPEG may be decoded at a half, quarter or eighth where that is still at least `max_side_px`; the whole stream is
    read all the same, so damage is found.

    Args:
        data: JPEG, PNG or WebP bytes, or those of another format that the limits allow.
        limits: what the header is held to.
        max_side_px: reduce so that the longer side is at most this.

    Raises:
        Rejected: the bytes are no image of an allowed format, size or shape, or they are damaged.
    """
    return decode_with_header(data, limits, max_side_px)[1]


def decode_opened(image: Image.Image, limits: ImageLimits) -> Image.Image:
    """As `decode_image`, of a picture that Pillow has opened or made: as the file would decode that it came from.

    Raises:
        Rejected: as for that file.
    """
    if image.format is not None and image.format not in ("MPO", *limits.formats()):
        raise Rejected(Reason.IMAGE_FORMAT_REFUSED, f"{image.format}: {how_to_read(image.format)}")
    return _decode_judged(image, limits, None)[1]


def decode_with_header(
    data: bytes, limits: ImageLimits, max_side_px: int | None = None
) -> tuple[ImageHeader, Image.Image]:
    """As `decode_image`, with the header: its size is that of the picture before any reduction."""
    with _open(data, limits) as image:
        return _decode_judged(image, limits, max_side_px)


def _decode_judged(image: Image.Image, limits: ImageLimits, max_side_px: int | None) -> tuple[ImageHeader, Image.Image]:
    """An opened picture held to the limits, decoded, reduced and put upright."""
    size = image.size
    _judge(image, _header(image, size), limits)
    if max_side_px is not None:
        image.draft(None, _within(size, max_side_px))
    picture = _decode(image)
    header = _header(image, image.size if image.format == "TIFF" else size)  # Pillow turns a TIFF itself
    if max_side_px is not None and max(picture.size) > max_side_px:
        picture = picture.resize(_within(picture.size, max_side_px), Image.Resampling.BOX, reducing_gap=2.0)
    if header.orientation in _UPRIGHT:
        picture = picture.transpose(_UPRIGHT[header.orientation])
    picture.info = {}  # of the file: whoever reads the picture again would turn it once more
    return header, picture


def _open(data: bytes, limits: ImageLimits) -> Image.Image:
    """Identify the format and read the header."""
    if not data:
        raise Rejected(Reason.IMAGE_EMPTY, "0 bytes")
    if len(data) > limits.max_bytes:
        raise Rejected(Reason.MEMBER_TOO_LARGE, f"{len(data)} bytes, at most {limits.max_bytes}")
    name = sniff(data)
    if name not in limits.formats():
        raise _refusal(data, name)
    try:
        return Image.open(io.BytesIO(data), formats=limits.formats())
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Rejected(Reason.IMAGE_TOO_MANY_PIXELS, _short(error)) from error
    except Exception as error:  # on damaged bytes a decoder raises whatever its code meets first
        raise _damage(error) from error


def _header(image: Image.Image, size: tuple[int, int]) -> ImageHeader:
    """Header of an opened image; `size` is as stored."""
    orientation = find_orientation(image)
    width, height = size if orientation < 5 else size[::-1]
    return ImageHeader(width, height, str(image.format), image.mode, orientation)


def _judge(image: Image.Image, header: ImageHeader, limits: ImageLimits) -> None:
    """Hold the header against the limits."""
    width, height = header.width, header.height
    size = f"{width}x{height} px"
    if width * height > limits.max_pixels:
        raise Rejected(Reason.IMAGE_TOO_MANY_PIXELS, f"{size}, at most {limits.max_pixels} pixels")
    if min(width, height) < limits.min_side_px:
        raise Rejected(Reason.IMAGE_TOO_SMALL, f"{size}, sides at least {limits.min_side_px}")
    if max(width, height) > limits.max_aspect * min(width, height):
        raise Rejected(Reason.IMAGE_TOO_ELONGATED, f"{size}, at most 1:{limits.max_aspect:g}")
    if limits.animated == "refuse" and (num_frames := _num_frames(image)) > 1:
        remedy = 'curate.image.animated = "first_frame" takes the first'
        raise Rejected(Reason.IMAGE_ANIMATED, f"{num_frames} frames: {remedy}")


def _num_frames(image: Image.Image) -> int:
    """Frames of a picture; an MPO is a JPEG followed by more views of the same scene, hence one."""
    try:
        animated = image.format != "MPO" and getattr(image, "is_animated", False)
        return int(getattr(image, "n_frames", 2)) if animated else 1
    except Exception as error:
        raise _damage(error) from error


def _decode(image: Image.Image) -> Image.Image:
    """The pixels as RGB."""
    try:
        image.load()
        return _to_srgb(image)
    except Rejected:
        raise
    except Exception as error:
        raise _damage(error) from error


def _to_srgb(image: Image.Image) -> Image.Image:
    """Any pixel format to RGB, with the embedded colour profile applied and transparency on white."""
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        return Image.fromarray(_high_byte(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        return _on_white(image.convert("RGBA"))
    profile = image.info.get("icc_profile")
    if image.mode in ("RGB", "CMYK") and isinstance(profile, bytes):
        transform = _to_srgb_transform(profile, image.mode)
        if transform is not None:
            return transform.apply(image)
    if image.mode not in ("RGB", "RGBX", "L", "1", "P", "CMYK", "YCbCr", "LAB"):
        raise Rejected(Reason.IMAGE_MODE_REFUSED, f"mode {image.mode}")
    return image.convert("RGB")


def _high_byte(values: np.ndarray) -> np.ndarray:
    """16-bit grey to 8 bits, the upper byte."""
    return (np.clip(values.astype(np.int32), 0, 0xFFFF) >> 8).astype(np.uint8)


def _on_white(image: Image.Image) -> Image.Image:
    if image.getchannel("A").getextrema()[1] == 0:
        raise Rejected(Reason.IMAGE_TRANSPARENT, "alpha is 0 everywhere")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


@lru_cache(maxsize=32)
def _to_srgb_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from an embedded profile to sRGB; None where it is sRGB already or damaged.

    A damaged profile says nothing about the pixels, which are then taken as sRGB: what browsers do.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if mode == "RGB" and "srgb" in (source.profile.profile_description or "").lower():
            return None
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _refusal(data: bytes, name: str | None) -> Rejected:
    """A known format gets its name and what to do, anything else is unrecognised."""
    if name is None:
        return Rejected(Reason.IMAGE_UNRECOGNISED, f"starts with {data[:16]!r}")
    return Rejected(Reason.IMAGE_FORMAT_REFUSED, f"{name}: {how_to_read(name)}")


def _damage(error: Exception) -> Rejected:
    """Sort what Pillow says into the codes."""
    text = str(error).lower()
    if "text chunk" in text or "text memory" in text or "decompressed data too large" in text:
        return Rejected(Reason.IMAGE_METADATA_BOMB, _short(error))
    if "truncated" in text or "unexpected end" in text or "premature" in text or isinstance(error, EOFError):
        return Rejected(Reason.IMAGE_TRUNCATED, _short(error))
    return Rejected(Reason.IMAGE_CORRUPT, _short(error))


def _within(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The size scaled so that its longer side is `side`, never enlarged."""
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__

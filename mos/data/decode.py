"""Encoded bytes -> an upright 8-bit sRGB picture, or a `Rejected`: the header is judged before a pixel is decoded."""

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError
from pydantic import Field

from mos.config import StrictConfig
from mos.data.reasons import Reason, Rejected

FORMATS = ("JPEG", "PNG", "WEBP")
"""The only decoders ever given foreign bytes."""

# Both are judged here, by the limits and by falling back to upright; in a large run the lines would drown all others.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", message="Corrupt EXIF data", module="PIL")

ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_KNOWN = (
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"BM", "BMP"),
    (b"SIMPLE  =", "FITS"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"%PDF", "PDF"),
)


class ImageLimits(StrictConfig):
    """What an image may be; the defaults let through nearly anything a camera makes."""

    max_bytes: int = Field(64 * 2**20, gt=0)
    """Encoded size."""
    max_pixels: int = Field(64_000_000, gt=0)
    """Width times height, judged from the header."""
    min_side_px: int = Field(16, ge=1)
    """Shorter side."""
    max_aspect: float = Field(10.0, ge=1)
    """Longer side over shorter side."""


@dataclass(frozen=True)
class ImageHeader:
    """What the first bytes say; sizes are upright, after EXIF orientation."""

    width: int
    height: int
    format: str
    mode: str
    orientation: int
    """EXIF, 1 to 8; 1 where absent or nonsense."""


def read_header(data: bytes, limits: ImageLimits) -> ImageHeader:
    """Judge an image by its header alone, without decoding a pixel.

    Raises:
        Rejected: the bytes are no image of an allowed format, size or shape.
    """
    with _open(data, limits) as image:
        return _judge(image, limits)


def decode_image(data: bytes, limits: ImageLimits, max_side_px: int | None = None) -> Image.Image:
    """Decode to mode RGB: upright, in sRGB, transparency laid on white.

    A JPEG may be decoded at a half, quarter or eighth where that is still at least `max_side_px`; the whole stream is
    read all the same, so damage is found.

    Args:
        data: JPEG, PNG or WebP bytes.
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
    if image.format not in (None, "MPO", *FORMATS):
        raise Rejected(Reason.IMAGE_FORMAT_REFUSED, str(image.format))
    header = _judge(image, limits)
    _load(image)
    picture = _to_srgb(image)
    return picture.transpose(_UPRIGHT[header.orientation]) if header.orientation in _UPRIGHT else picture


def decode_with_header(
    data: bytes, limits: ImageLimits, max_side_px: int | None = None
) -> tuple[ImageHeader, Image.Image]:
    """As `decode_image`, with the header: its size is that of the picture before any reduction."""
    with _open(data, limits) as image:
        header = _judge(image, limits)
        if max_side_px is not None:
            image.draft(None, _within(image.size, max_side_px))
        _load(image)
        picture = _to_srgb(image)
    if max_side_px is not None and max(picture.size) > max_side_px:
        picture = picture.resize(_within(picture.size, max_side_px), Image.Resampling.BOX, reducing_gap=2.0)
    if header.orientation in _UPRIGHT:
        picture = picture.transpose(_UPRIGHT[header.orientation])
    return header, picture


def _open(data: bytes, limits: ImageLimits) -> Image.Image:
    """Identify the format and read the header."""
    if not data:
        raise Rejected(Reason.IMAGE_EMPTY, "0 bytes")
    if len(data) > limits.max_bytes:
        raise Rejected(Reason.MEMBER_TOO_LARGE, f"{len(data)} bytes, at most {limits.max_bytes}")
    if not _is_allowed(data):
        raise _refusal(data)
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Rejected(Reason.IMAGE_TOO_MANY_PIXELS, _short(error)) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, struct.error, zlib.error, IndexError) as error:
        raise _damage(error) from error


def _judge(image: Image.Image, limits: ImageLimits) -> ImageHeader:
    """Hold the header against the limits."""
    orientation = _orientation(image)
    width, height = image.size if orientation < 5 else image.size[::-1]
    size = f"{width}x{height} px"
    if width * height > limits.max_pixels:
        raise Rejected(Reason.IMAGE_TOO_MANY_PIXELS, f"{size}, at most {limits.max_pixels} pixels")
    if min(width, height) < limits.min_side_px:
        raise Rejected(Reason.IMAGE_TOO_SMALL, f"{size}, sides at least {limits.min_side_px}")
    if max(width, height) > limits.max_aspect * min(width, height):
        raise Rejected(Reason.IMAGE_TOO_ELONGATED, f"{size}, at most 1:{limits.max_aspect:g}")
    # An MPO is a JPEG followed by more views of the same scene: its first frame is the photograph.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise Rejected(Reason.IMAGE_ANIMATED, f"{getattr(image, 'n_frames', 2)} frames")
    return ImageHeader(width, height, str(image.format), image.mode, orientation)


def _load(image: Image.Image) -> None:
    """Decode the pixels."""
    try:
        image.load()
    except (OSError, SyntaxError, ValueError, struct.error, zlib.error, IndexError, EOFError, MemoryError) as error:
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
    if image.mode not in ("RGB", "L", "1", "P", "CMYK", "YCbCr", "LAB"):
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


def _orientation(image: Image.Image) -> int:
    """EXIF orientation from the header; 1 where there is none, it is damaged or out of range.

    `image.getexif()` would decode a whole PNG to look for a late chunk.
    """
    raw = image.info.get("exif")
    if not isinstance(raw, bytes):
        return 1
    try:
        exif = Image.Exif()
        exif.load(raw)
        value = exif.get(ORIENTATION_TAG, 1)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error, AttributeError):
        return 1
    return value if isinstance(value, int) and value in _UPRIGHT else 1


def _is_allowed(data: bytes) -> bool:
    return data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")


def _refusal(data: bytes) -> Rejected:
    """A known format gets its name, anything else is unrecognised."""
    head = data[:1024].lstrip().lower()
    if data[4:8] == b"ftyp":
        return Rejected(Reason.IMAGE_FORMAT_REFUSED, f"ISO media {data[8:12]!r}")
    if head.startswith((b"<svg", b"<?xml")) and b"<svg" in head:
        return Rejected(Reason.IMAGE_FORMAT_REFUSED, "SVG")
    for magic, name in _KNOWN:
        if data.startswith(magic):
            return Rejected(Reason.IMAGE_FORMAT_REFUSED, name)
    return Rejected(Reason.IMAGE_UNRECOGNISED, f"starts with {data[:16]!r}")


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

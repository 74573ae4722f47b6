"""Formats of pictures: their names, extensions and first bytes, which of them are read, and what to do about others."""

from functools import cache
from typing import Literal, get_args

FORMATS = ("JPEG", "PNG", "WEBP")
"""The decoders that foreign bytes are given to without being asked for."""
ExtraFormat = Literal["avif", "bmp", "gif", "tiff"]
"""Formats whose decoders a config may add."""
SUFFIXES = {
    "JPEG": ("jpg", "jpeg", "jpe", "jfif"),
    "PNG": ("png", "apng"),
    "WEBP": ("webp",),
    "AVIF": ("avif",),
    "BMP": ("bmp", "dib"),
    "GIF": ("gif",),
    "TIFF": ("tif", "tiff"),
}
"""Extensions by format, in lower case."""
PICTURE_SUFFIXES = frozenset(suffix for group in SUFFIXES.values() for suffix in group) | frozenset(
    {"heic", "heif", "ico", "j2k", "jp2", "jxl", "psd", "svg", "tga"}
)
"""Extensions of files that are meant as pictures, read here or not."""
_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
    (b"8BPS", "PSD"),
    (b"SIMPLE  =", "FITS"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"%PDF", "PDF"),
)


def sniff(data: bytes) -> str | None:
    """The name of the format that the first bytes belong to; None where they belong to none that is known."""
    head = data[:1024].lstrip().lower()
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        brands = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
        return "AVIF" if b"avif" in brands or b"avis" in brands else f"ISO media {data[8:12]!r}"
    if head.startswith((b"<svg", b"<?xml")) and b"<svg" in head:
        return "SVG"
    return next((name for magic, name in _MAGIC if data.startswith(magic)), None)


@cache
def decoders(extra: tuple[ExtraFormat, ...]) -> tuple[str, ...]:
    """Pillow's names of the formats that are read when some are added."""
    return FORMATS + tuple(name.upper() for name in extra)


@cache
def suffixes_of(formats: tuple[str, ...]) -> frozenset[str]:
    """Every extension of some formats, in lower case."""
    return frozenset(suffix for name in formats for suffix in SUFFIXES[name])


def how_to_read(format: str) -> str:
    """Remedy for a picture in a format that is not read: a setting, or a conversion.

    Args:
        format: its name or an extension of it, in any case.
    """
    names = {suffix: name for name, group in SUFFIXES.items() for suffix in group}
    name = names.get(format.lower(), format).lower()
    if name in get_args(ExtraFormat):
        return f'curate.image.extra_formats = ["{name}"] allows it'
    return "convert it to PNG, JPEG or WebP"

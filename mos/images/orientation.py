"""How a stored picture must be turned to be upright: EXIF wherever files keep it, and XMP where EXIF is silent."""

import re

from PIL import Image

ORIENTATION_TAG = 0x0112
_XMP_ORIENTATION = re.compile(rb"""tiff:Orientation(?:\s*=\s*["']|\s*>)\s*([1-8])\b""")
_XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"


def find_orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none, it is damaged or out of range.

    Read from what Pillow knows already: `image.getexif()` would decode a whole PNG to look for a late chunk. A TIFF
    is always 1, because Pillow turns it while it decodes; an AVIF turns by its own boxes, which Pillow shows as EXIF.
    """
    if image.format == "TIFF":
        return 1
    for raw in _exif_blocks(image):
        value = _in_exif(raw)
        if value is not None:
            return value
    if image.format == "AVIF":
        return 1
    return next((int(found[1]) for xmp in _xmp_packets(image) if (found := _XMP_ORIENTATION.search(xmp))), 1)


def _exif_blocks(image: Image.Image) -> list[bytes]:
    """EXIF of its own chunk or segment first, then of the text chunks that ImageMagick writes into a PNG."""
    blocks = [image.info.get("exif"), _raw_profile(image, "exif"), _raw_profile(image, "APP1")]
    return [block for block in blocks if isinstance(block, bytes) and not block.startswith(_XMP_HEADER)]


def _xmp_packets(image: Image.Image) -> list[bytes]:
    packets = [image.info.get("xmp"), _raw_profile(image, "xmp"), _raw_profile(image, "APP1")]
    return [packet for packet in packets if isinstance(packet, bytes)]


def _raw_profile(image: Image.Image, name: str) -> bytes | None:
    """ImageMagick's text chunk `Raw profile type <name>`: an empty line, a name, a length, then hex digits."""
    text = image.info.get(f"Raw profile type {name}")
    if not isinstance(text, str):
        return None
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return None


def _in_exif(raw: bytes) -> int | None:
    """The orientation in an EXIF block; None where it has none, and 1 where that makes no sense."""
    try:
        exif = Image.Exif()
        exif.load(raw)
        value = exif.get(ORIENTATION_TAG)
    except Exception:  # a damaged block says nothing, and a parser raises whatever its code meets first
        return None
    if value is None:
        return None
    return value if isinstance(value, int) and 1 <= value <= 8 else 1

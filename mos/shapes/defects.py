"""Broken and odd samples, as collections from the web have them: a sound record in, a broken or odd one out.

Every defect must end in a reject of curation (a near duplicate: where near duplicates are looked for) and every
oddity must survive it.
"""

import io
import json
import struct
import zlib
from dataclasses import replace
from enum import StrEnum

from PIL import Image

from mos.shapes.records import Member, Record

HTML = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>Not Found</body></html>\n"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><circle cx=".5" cy=".5" r=".4" fill="red"/></svg>\n'
NOISE = bytes((31 * k * k + 7 * k + 5) % 251 for k in range(700))
CLAIMED_PX = 60_000
"""Sides that an oversized header claims: 10.8 GB as RGB, in a file of 70 bytes."""
STRIP_PX = 16
"""Height of a picture of extreme aspect."""
EXIF_ORIENTATION = 0x0112
EXIF_TURN_RIGHT = 6
"""The stored picture must be turned right by a quarter to be upright."""


class PairDefect(StrEnum):
    """Defects of a text-image pair."""

    EMPTY_IMAGE = "empty_image"
    ONE_BYTE_IMAGE = "one_byte_image"
    NOISE_IMAGE = "noise_image"
    HTML_IMAGE = "html_image"
    SVG_IMAGE = "svg_image"
    GIF_IMAGE = "gif_image"
    ANIMATED_IMAGE = "animated_image"
    TRUNCATED_JPEG = "truncated_jpeg"
    TRUNCATED_PNG = "truncated_png"
    CORRUPT_PNG = "corrupt_png"
    OVERSIZED_HEADER = "oversized_header"
    TINY_IMAGE = "tiny_image"
    EXTREME_ASPECT = "extreme_aspect"
    TRANSPARENT_IMAGE = "transparent_image"
    MISSING_IMAGE = "missing_image"
    LINKED_IMAGE = "linked_image"
    TWO_IMAGES = "two_images"
    MISSING_CAPTION = "missing_caption"
    PICKLED_CAPTION = "pickled_caption"
    EMPTY_CAPTION = "empty_caption"
    BLANK_CAPTION = "blank_caption"
    EMOJI_CAPTION = "emoji_caption"
    ENDLESS_CAPTION = "endless_caption"
    NUMBER_CAPTION = "number_caption"
    NUL_CAPTION = "nul_caption"
    SURROGATE_CAPTION = "surrogate_caption"
    LATIN1_CAPTION = "latin1_caption"
    BAD_JSON = "bad_json"
    LIST_JSON = "list_json"
    NAN_JSON = "nan_json"
    DEEP_JSON = "deep_json"
    EXACT_DUPLICATE = "exact_duplicate"
    NEAR_DUPLICATE = "near_duplicate"


class EditDefect(StrEnum):
    """Defects of an edit triple."""

    MISSING_SOURCE = "missing_source"
    MISSING_TARGET = "missing_target"
    TRUNCATED_TARGET = "truncated_target"
    UNCHANGED_TARGET = "unchanged_target"
    EMPTY_INSTRUCTION = "empty_instruction"


class Oddity(StrEnum):
    """Unusual pictures that a good reader shows exactly as they were meant."""

    CMYK_JPEG = "cmyk_jpeg"
    PROGRESSIVE_JPEG = "progressive_jpeg"
    TURNED_JPEG = "turned_jpeg"
    PALETTE_PNG = "palette_png"
    ALPHA_PNG = "alpha_png"


def broken_pair(defect: PairDefect, record: Record, earlier: Record) -> Record:
    """A pair with a defect.

    Args:
        defect: What to break.
        record: A sound pair: an image, then its sidecar.
        earlier: A sound pair that stands before it, which duplicates repeat.
    """
    image, sidecar = record.members
    picture = Image.open(io.BytesIO(image.data)).convert("RGB")
    match defect:
        case PairDefect.EXACT_DUPLICATE:
            return replace(record, members=earlier.members)
        case PairDefect.NEAR_DUPLICATE:
            twin = Image.open(io.BytesIO(earlier.members[0].data)).convert("RGB")
            return replace(record, members=(Member("webp", _encoded(twin, "WEBP", lossless=True)), earlier.members[1]))
        case PairDefect.MISSING_IMAGE:
            return replace(record, members=(sidecar,))
        case PairDefect.MISSING_CAPTION:
            return replace(record, members=(image,))
        case PairDefect.TWO_IMAGES:
            return replace(record, members=(_png(picture), _jpeg(picture), sidecar))
        case _ if defect in _SIDECARS:
            return replace(record, members=(image, _SIDECARS[defect]))
        case _:
            return replace(record, members=(_broken_image(defect, picture), sidecar))


def broken_edit(defect: EditDefect, record: Record) -> Record:
    """An edit triple with a defect.

    Args:
        defect: What to break.
        record: A sound triple: source, target, sidecar.
    """
    source, target, sidecar = record.members
    match defect:
        case EditDefect.MISSING_SOURCE:
            members: tuple[Member, ...] = (target, sidecar)
        case EditDefect.MISSING_TARGET:
            members = (source, sidecar)
        case EditDefect.TRUNCATED_TARGET:
            members = (source, _cut(target), sidecar)
        case EditDefect.UNCHANGED_TARGET:
            members = (source, replace(target, data=source.data), sidecar)
        case EditDefect.EMPTY_INSTRUCTION:
            members = (source, target, _json({"instruction": ""}))
    return replace(record, members=members)


def odd_pair(oddity: Oddity, record: Record) -> Record:
    """A pair whose picture is stored in an unusual but sound way."""
    image, sidecar = record.members
    picture = Image.open(io.BytesIO(image.data)).convert("RGB")
    match oddity:
        case Oddity.CMYK_JPEG:
            image = _jpeg(picture.convert("CMYK"))
        case Oddity.PROGRESSIVE_JPEG:
            image = _jpeg(picture, progressive=True)
        case Oddity.TURNED_JPEG:
            exif = Image.Exif()
            exif[EXIF_ORIENTATION] = EXIF_TURN_RIGHT
            image = _jpeg(picture.transpose(Image.Transpose.ROTATE_90), exif=exif)
        case Oddity.PALETTE_PNG:
            image = _png(picture.quantize(64))
        case Oddity.ALPHA_PNG:
            image = _png(picture.convert("RGBA"))
    return replace(record, members=(image, sidecar))


def _broken_image(defect: PairDefect, picture: Image.Image) -> Member:
    match defect:
        case PairDefect.EMPTY_IMAGE:
            return Member("png", b"")
        case PairDefect.ONE_BYTE_IMAGE:
            return Member("jpg", b"\xff")
        case PairDefect.NOISE_IMAGE:
            return Member("jpg", NOISE)
        case PairDefect.HTML_IMAGE:
            return Member("jpg", HTML)
        case PairDefect.SVG_IMAGE:
            return Member("png", SVG)
        case PairDefect.GIF_IMAGE:
            return Member("png", _encoded(picture, "GIF"))
        case PairDefect.ANIMATED_IMAGE:
            frames = [picture.rotate(angle) for angle in (90, 180)]
            return Member("webp", _encoded(picture, "WEBP", save_all=True, append_images=frames, duration=100))
        case PairDefect.TRUNCATED_JPEG:
            return _cut(_jpeg(picture))
        case PairDefect.TRUNCATED_PNG:
            return _cut(_png(picture))
        case PairDefect.CORRUPT_PNG:
            return _flipped(_png(picture))
        case PairDefect.OVERSIZED_HEADER:
            return Member("png", _claiming_png(CLAIMED_PX, CLAIMED_PX))
        case PairDefect.TINY_IMAGE:
            return _png(picture.resize((4, 4)))
        case PairDefect.EXTREME_ASPECT:
            return _png(picture.resize((20 * STRIP_PX, STRIP_PX)))
        case PairDefect.TRANSPARENT_IMAGE:
            clear = picture.convert("RGBA")
            clear.putalpha(0)
            return _png(clear)
        case PairDefect.LINKED_IMAGE:
            return Member("png", link_to="/etc/hostname")
        case _:
            raise AssertionError(f"{defect} breaks no image")


def _encoded(picture: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def _png(picture: Image.Image) -> Member:
    return Member("png", _encoded(picture, "PNG"))


def _jpeg(picture: Image.Image, quality: int = 95, **options: object) -> Member:
    return Member("jpg", _encoded(picture, "JPEG", quality=quality, subsampling=0, **options))


def _cut(image: Member) -> Member:
    """The first 60%."""
    return replace(image, data=image.data[: len(image.data) * 3 // 5])


def _flipped(image: Member) -> Member:
    """One bit of the pixel data wrong, so that its checksum fails."""
    data = bytearray(image.data)
    data[image.data.index(b"IDAT") + 10] ^= 0x10
    return replace(image, data=bytes(data))


def _claiming_png(width: int, height: int) -> bytes:
    """A PNG whose header is in order and whose pixels are not there."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 16)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _json(value: object) -> Member:
    return Member("json", json.dumps(value).encode())


_SIDECARS: dict[PairDefect, Member] = {
    PairDefect.PICKLED_CAPTION: Member("pkl", b"\x80\x04\x8c\x0ca red circle\x94."),
    PairDefect.EMPTY_CAPTION: _json({"caption": ""}),
    PairDefect.BLANK_CAPTION: Member("txt", " \t\n\u200b\u3000".encode()),
    PairDefect.EMOJI_CAPTION: Member("txt", "\U0001f534\U0001f7e6\u2b50".encode()),
    PairDefect.ENDLESS_CAPTION: Member("txt", b"a red circle and " * 4000),
    PairDefect.NUMBER_CAPTION: _json({"caption": 17}),
    PairDefect.NUL_CAPTION: _json({"caption": "a red\0circle"}),
    PairDefect.SURROGATE_CAPTION: Member("json", rb'{"caption": "a red circle \ud83d"}'),
    PairDefect.LATIN1_CAPTION: Member("txt", "un caf\u00e9 bleu".encode("latin-1")),
    PairDefect.BAD_JSON: Member("json", b'{"caption": "a red circle"'),
    PairDefect.LIST_JSON: _json(["a red circle"]),
    PairDefect.NAN_JSON: Member("json", b'{"caption": "a red circle", "score": NaN}'),
    PairDefect.DEEP_JSON: Member("json", b'{"caption": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
}
"""Sidecars that no reader can take a caption from."""

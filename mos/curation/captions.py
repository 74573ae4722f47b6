"""Raw caption bytes and JSON -> a clean caption and a meta object, or a `Rejected`."""

import codecs
import json
import unicodedata
from collections.abc import Sequence
from typing import Any, NoReturn

from pydantic import Field

from mos.config import StrictConfig
from mos.images.reasons import Reason, Rejected

# Byte order mark, zero-width space, word joiner, soft hyphen, and the marks that reorder text on screen. Zero-width
# joiners stay: emoji and several scripts need them.
_INVISIBLE = dict.fromkeys(
    [0xFEFF, 0x200B, 0x2060, 0x00AD, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
)

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks, and the encodings they name."""


class CaptionLimits(StrictConfig):
    """Limits of a caption, after cleaning."""

    min_chars: int = Field(1, ge=1)
    max_chars: int = Field(8192, ge=1)
    """Towers truncate to their own window; this only keeps out what is no caption."""
    max_json_bytes: int = Field(1 << 20, ge=2)
    """Size of a sample's JSON."""


def clean_caption(text: str, limits: CaptionLimits) -> str:
    """NFC, white space runs as one space, invisible marks removed.

    Raises:
        Rejected: the caption is empty, too short or long, not Unicode text, or has no letter or digit.
    """
    if len(text) > 4 * limits.max_chars:
        raise Rejected(Reason.CAPTION_TOO_LONG, f"{len(text)} characters, at most {limits.max_chars}")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise Rejected(Reason.CAPTION_NOT_UNICODE, "a lone surrogate")
    caption = _visible(text)
    if not caption.isprintable():
        control = next((character for character in caption if unicodedata.category(character) == "Cc"), None)
        if control is not None:
            raise Rejected(Reason.CAPTION_CONTROL, f"U+{ord(control):04X}")
    if not caption:
        raise Rejected(Reason.CAPTION_EMPTY, f"{len(text)} characters, none visible")
    if len(caption) < limits.min_chars:
        raise Rejected(Reason.CAPTION_TOO_SHORT, f"{len(caption)} characters, at least {limits.min_chars}")
    if len(caption) > limits.max_chars:
        raise Rejected(Reason.CAPTION_TOO_LONG, f"{len(caption)} characters, at most {limits.max_chars}")
    if not any(character.isalnum() for character in caption):
        raise Rejected(Reason.CAPTION_WITHOUT_WORDS, repr(caption[:80]))
    return caption


def decode_text(data: bytes, limits: CaptionLimits) -> str:
    """The bytes of a caption to text.

    Raises:
        Rejected: too many bytes for any caption, or not in the encoding of their byte order mark, else UTF-8.
    """
    if len(data) > 4 * limits.max_chars:
        raise Rejected(Reason.CAPTION_TOO_LONG, f"{len(data)} bytes, at most {limits.max_chars} characters")
    return decode_marked(data)


def decode_marked(data: bytes, errors: str = "strict") -> str:
    """Bytes to text by the byte order mark they begin with, which is left out; UTF-8 where there is none.

    Args:
        data: the bytes.
        errors: what becomes of bytes that do not decode, as for `bytes.decode`.

    Raises:
        Rejected: they do not decode.
    """
    mark, encoding = next((pair for pair in _MARKS if data.startswith(pair[0])), (b"", "utf-8"))
    try:
        return data[len(mark) :].decode(encoding, errors)
    except UnicodeDecodeError as error:
        start = len(mark) + error.start
        detail = f"byte {start}: {data[start : start + 4]!r} is not {encoding}"
        raise Rejected(Reason.CAPTION_NOT_UTF8, detail) from error


def parse_object(data: bytes, limits: CaptionLimits) -> dict[str, Any]:
    """The JSON object in some bytes.

    Raises:
        Rejected: too large, not UTF-8, not JSON, not an object, `NaN` or `Infinity` in it, or nested too deep.
    """
    if len(data) > limits.max_json_bytes:
        raise Rejected(Reason.JSON_TOO_LARGE, f"{len(data)} bytes, at most {limits.max_json_bytes}")
    try:
        value = _DECODER.decode(decode_marked(data))
    except RecursionError as error:
        raise Rejected(Reason.JSON_TOO_DEEP, "nested beyond the parser's cap") from error
    except ValueError as error:
        raise Rejected(Reason.JSON_INVALID, str(error)[:200]) from error
    if not isinstance(value, dict):
        raise Rejected(Reason.JSON_NOT_OBJECT, f"a {type(value).__name__}")
    return value


def take_caption(record: dict[str, Any], keys: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The first of `keys` under which the object has text, and the object without it.

    Where none has text, the verdict is on the first that is there.

    Raises:
        Rejected: none of the keys is there, or none holds a string.
    """
    present = [key for key in keys if key in record]
    strings = [key for key in present if isinstance(record[key], str)]
    for key in [*filter(lambda key: not is_blank(record[key]), strings), *strings[:1]]:
        return record[key], {name: value for name, value in record.items() if name != key}
    if not present:
        raise Rejected(Reason.CAPTION_MISSING, f"none of {list(keys)} in {sorted(record)[:8]}")
    raise Rejected(Reason.CAPTION_NOT_TEXT, f"{present[0]!r} is a {type(record[present[0]]).__name__}")


def is_blank(text: str) -> bool:
    """True if nothing of a text can be seen."""
    return not _visible(text)


def _visible(text: str) -> str:
    """NFC, white space runs as one space, invisible marks removed."""
    if text.isascii():
        return " ".join(text.split())
    return " ".join(unicodedata.normalize("NFC", text).translate(_INVISIBLE).split())


def _refuse_constant(name: str) -> NoReturn:
    raise Rejected(Reason.JSON_NOT_FINITE, name)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)

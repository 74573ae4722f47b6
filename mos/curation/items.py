"""One candidate sample on its way through curation, and the columns it travels in."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mos.curation.captions import CaptionLimits, clean_caption, decode_text, is_blank, parse_object, take_caption
from mos.curation.file_names import TEXT_SUFFIXES, suffix
from mos.curation.sources import EditsSource, SourceConfig
from mos.images.formats import PICTURE_SUFFIXES, how_to_read
from mos.images.reasons import Reason, Rejected

ITEMS = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("unit", pa.int32(), nullable=False),  # index of the unit it was read from
        pa.field("order", pa.int64(), nullable=False),  # unit << 32 | place inside the unit: decides between copies
        pa.field("image", pa.large_binary()),
        pa.field("reference", pa.large_binary()),
        pa.field("caption", pa.string()),
        pa.field("meta", pa.string()),
        pa.field("reason", pa.string()),  # null while the item is still in
        pa.field("detail", pa.string()),
    ]
)
"""What the reader writes. An item with a reason has lost its bytes and only travels to be counted."""


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True)
class Item:
    """A candidate, or the verdict on one."""

    key: str
    image: bytes | None = None
    reference: bytes | None = None
    caption: str | None = None
    meta: str | None = None
    """JSON object of what else the source knew."""
    refusal: Rejected | None = None
    place: int = 0
    """Among the samples of its unit, by where each begins."""

    @property
    def num_bytes(self) -> int:
        """Encoded bytes of its images."""
        return len(self.image or b"") + len(self.reference or b"")


def assemble(
    key: str,
    parts: Mapping[str, bytes],
    refused: Sequence[str],
    source: SourceConfig,
    limits: CaptionLimits,
    place: int = 0,
) -> Item:
    """Make a candidate of the files that share a key.

    Args:
        key: the key.
        parts: bytes by component (`jpg`, `source.png`, `json`), whitelisted extensions only.
        refused: components with other extensions. They were not read; they do no harm to a sample that is complete
            without them.
        source: what the components mean.
        limits: of captions.
        place: see `Item`.

    Raises:
        Rejected: a part is missing, stands twice, or its text is refused.
    """
    images = {name: data for name, data in parts.items() if suffix(name) not in TEXT_SUFFIXES}
    if isinstance(source, EditsSource):
        image = _only(images, source.target_key, Reason.IMAGE_MISSING, refused)
        reference = _only(images, source.source_key, Reason.REFERENCE_MISSING, refused)
    else:
        image, reference = _only(images, None, Reason.IMAGE_MISSING, refused), None
    caption, record = _text(parts, refused, source, limits)
    return Item(key, image, reference, clean_caption(caption, limits), to_meta(record), place=place)


def refuse(items: pa.Table, refusals: Mapping[int, Rejected]) -> pa.Table:
    """The same rows, those named by index refused: reason and detail set, their bytes dropped at once."""
    if not refusals:
        return items
    for name, value in (("reason", lambda r: str(r.reason)), ("detail", lambda r: r.detail)):
        column = items.column(name).to_pylist()
        for index, refusal in refusals.items():
            column[index] = value(refusal)
        items = _replace(items, name, pa.array(column, pa.string()))
    is_out = items.column("reason").is_valid()
    for name in ("image", "reference"):
        items = _replace(items, name, pc.if_else(is_out, pa.scalar(None, pa.large_binary()), items.column(name)))
    return items


def set_scores(items: pa.Table, name: str, scores: Mapping[int, float]) -> pa.Table:
    """Fill a score column by row index; a row whose score is not finite is refused: no filter could place it."""
    column = items.column(name).to_pylist()
    refusals: dict[int, Rejected] = {}
    for row, score in scores.items():
        if math.isfinite(score):
            column[row] = score
        else:
            refusals[row] = Rejected(Reason.SCORE_NOT_FINITE, f"{name} = {score}")
    return refuse(_replace(items, name, pa.array(column, pa.float32())), refusals)


def still_in(items: pa.Table) -> list[int]:
    """Indices of the rows that nothing has refused so far."""
    return [index for index, reason in enumerate(items.column("reason").to_pylist()) if reason is None]


def _replace(items: pa.Table, name: str, column: pa.Array | pa.ChunkedArray) -> pa.Table:
    index = items.schema.get_field_index(name)
    return items.set_column(index, items.schema.field(index), column)


def to_meta(record: Mapping[str, Any]) -> str | None:
    """The JSON of what is left of an object, None if nothing is.

    Raises:
        Rejected: a number too large for JSON's readers became infinite, or a string is not Unicode.
    """
    if not record:
        return None
    try:
        text = _ENCODER.encode(record)
        text.encode()
    except UnicodeEncodeError as error:
        raise Rejected(Reason.CAPTION_NOT_UNICODE, "a lone surrogate in the JSON") from error
    except ValueError as error:
        raise Rejected(Reason.JSON_NOT_FINITE, str(error)) from error
    return text


def _only(images: Mapping[str, bytes], role: str | None, missing: Reason, refused: Sequence[str]) -> bytes:
    """The one image of a role; `role` None: the one image there is."""
    named = [name for name in images if role is None or name.rpartition(".")[0] == role]
    if len(named) > 1:
        raise Rejected(Reason.IMAGE_AMBIGUOUS, f"{', '.join(sorted(named))}")
    if not named:
        raise _absent(missing, "no image" if role is None else f"no {role} image", refused)
    return images[named[0]]


def _text(
    parts: Mapping[str, bytes], refused: Sequence[str], source: SourceConfig, limits: CaptionLimits
) -> tuple[str, dict[str, Any]]:
    """Caption and the rest of the JSON; a `.txt` with anything in it comes before a key of the JSON."""
    text = next((data for name, data in parts.items() if suffix(name) == "txt"), None)
    encoded = next((data for name, data in parts.items() if suffix(name) == "json"), None)
    record = {} if encoded is None else parse_object(encoded, limits)
    if text is not None:
        caption = decode_text(text, limits)
        if not is_blank(caption) or not any(isinstance(record.get(key), str) for key in source.caption_keys):
            return caption, record
    elif encoded is None:
        raise _absent(Reason.CAPTION_MISSING, "no .txt and no .json", refused)
    return take_caption(record, source.caption_keys)


def _absent(reason: Reason, detail: str, refused: Sequence[str]) -> Rejected:
    """A part is missing; if another extension stands in its place, that is why."""
    if not refused:
        return Rejected(reason, detail)
    names = ", ".join(sorted(refused)[:8])
    pictures = [suffix(name) for name in refused if suffix(name) in PICTURE_SUFFIXES]
    remedy = f": {how_to_read(pictures[0])}" if pictures and reason != Reason.CAPTION_MISSING else ""
    return Rejected(Reason.MEMBER_TYPE_REFUSED, f"{detail}, but {names}{remedy}")

"""Defects against the curation's own reader: each is refused for a reason of its own kind, each oddity is read."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mos.curation.config import CurateConfig
from mos.curation.items import Item
from mos.curation.shards import read_unit
from mos.curation.sources import EditsSource, SourceConfig, WebDatasetSource, list_units
from mos.images.decode import decode_image
from mos.images.reasons import Reason, Rejected
from mos.shapes.dataset import ShapesConfig, edit_record, pair_record
from mos.shapes.defects import EditDefect, Oddity, PairDefect, broken_edit, broken_pair, odd_pair
from mos.shapes.records import Record, write_shard

CONFIG = ShapesConfig()
JSON_PAIRS = [r for r in (pair_record(CONFIG, index) for index in range(10)) if r.members[1].suffix == "json"]
EARLIER, RECORD = JSON_PAIRS[:2]
EDIT = edit_record(CONFIG, 0)

PAIR_REASONS = {
    PairDefect.EMPTY_IMAGE: Reason.IMAGE_EMPTY,
    PairDefect.ONE_BYTE_IMAGE: Reason.IMAGE_UNRECOGNISED,
    PairDefect.NOISE_IMAGE: Reason.IMAGE_UNRECOGNISED,
    PairDefect.HTML_IMAGE: Reason.IMAGE_UNRECOGNISED,
    PairDefect.SVG_IMAGE: Reason.IMAGE_FORMAT_REFUSED,
    PairDefect.GIF_IMAGE: Reason.IMAGE_FORMAT_REFUSED,
    PairDefect.ANIMATED_IMAGE: Reason.IMAGE_ANIMATED,
    PairDefect.TRUNCATED_JPEG: Reason.IMAGE_TRUNCATED,
    PairDefect.TRUNCATED_PNG: Reason.IMAGE_TRUNCATED,
    PairDefect.CORRUPT_PNG: Reason.IMAGE_CORRUPT,
    PairDefect.OVERSIZED_HEADER: Reason.IMAGE_TOO_MANY_PIXELS,
    PairDefect.TINY_IMAGE: Reason.IMAGE_TOO_SMALL,
    PairDefect.EXTREME_ASPECT: Reason.IMAGE_TOO_ELONGATED,
    PairDefect.TRANSPARENT_IMAGE: Reason.IMAGE_TRANSPARENT,
    PairDefect.MISSING_IMAGE: Reason.IMAGE_MISSING,
    PairDefect.LINKED_IMAGE: Reason.MEMBER_NOT_REGULAR,
    PairDefect.TWO_IMAGES: Reason.IMAGE_AMBIGUOUS,
    PairDefect.MISSING_CAPTION: Reason.CAPTION_MISSING,
    PairDefect.PICKLED_CAPTION: Reason.MEMBER_TYPE_REFUSED,
    PairDefect.EMPTY_CAPTION: Reason.CAPTION_EMPTY,
    PairDefect.BLANK_CAPTION: Reason.CAPTION_EMPTY,
    PairDefect.EMOJI_CAPTION: Reason.CAPTION_WITHOUT_WORDS,
    PairDefect.ENDLESS_CAPTION: Reason.CAPTION_TOO_LONG,
    PairDefect.NUMBER_CAPTION: Reason.CAPTION_NOT_TEXT,
    PairDefect.NUL_CAPTION: Reason.CAPTION_CONTROL,
    PairDefect.SURROGATE_CAPTION: Reason.CAPTION_NOT_UNICODE,
    PairDefect.LATIN1_CAPTION: Reason.CAPTION_NOT_UTF8,
    PairDefect.BAD_JSON: Reason.JSON_INVALID,
    PairDefect.LIST_JSON: Reason.JSON_NOT_OBJECT,
    PairDefect.NAN_JSON: Reason.JSON_NOT_FINITE,
    PairDefect.DEEP_JSON: Reason.JSON_TOO_DEEP,
}
EDIT_REASONS = {
    EditDefect.MISSING_SOURCE: Reason.REFERENCE_MISSING,
    EditDefect.MISSING_TARGET: Reason.IMAGE_MISSING,
    EditDefect.TRUNCATED_TARGET: Reason.IMAGE_TRUNCATED,
    EditDefect.EMPTY_INSTRUCTION: Reason.CAPTION_EMPTY,
}


def read_back(record: Record, source: SourceConfig, path: Path) -> Item:
    """The one item that curation makes of a record, its pictures decoded."""
    write_shard(path, [record])
    config = CurateConfig(sources=(source,), resolutions=(32,), token_px=4, image={"min_side_px": 8, "max_aspect": 4.0})
    (unit,) = list_units(config.sources, path.parent)
    (item,) = read_unit(unit, source, config)
    if item.refusal is None:
        try:
            for data in (item.image, item.reference):
                if data is not None:
                    decode_image(data, config.image)
        except Rejected as refusal:
            return Item(item.key, refusal=refusal)
    return item


def read_pair(record: Record, folder: Path) -> Item:
    path = folder / "pairs.tar"
    return read_back(record, WebDatasetSource(type="webdataset", name="pairs", paths=(str(path),)), path)


def read_edit(record: Record, folder: Path) -> Item:
    path = folder / "edits.tar"
    return read_back(record, EditsSource(type="edits", name="edits", paths=(str(path),)), path)


def pixels(data: bytes | None) -> np.ndarray:
    assert data is not None
    return np.asarray(decode_image(data, CurateConfig.model_fields["image"].default), dtype=int)


@pytest.mark.parametrize(("defect", "reason"), PAIR_REASONS.items())
def test_a_broken_pair_is_refused_for_its_own_reason(defect: PairDefect, reason: Reason, tmp_path: Path) -> None:
    refusal = read_pair(broken_pair(defect, RECORD, EARLIER), tmp_path).refusal
    assert refusal is not None
    assert refusal.reason == reason


@pytest.mark.parametrize(("defect", "reason"), EDIT_REASONS.items())
def test_a_broken_edit_is_refused_for_its_own_reason(defect: EditDefect, reason: Reason, tmp_path: Path) -> None:
    refusal = read_edit(broken_edit(defect, EDIT), tmp_path).refusal
    assert refusal is not None
    assert refusal.reason == reason


def test_the_other_defects_are_sound_items_that_repeat_something(tmp_path: Path) -> None:
    earlier = read_pair(EARLIER, tmp_path)
    exact = read_pair(broken_pair(PairDefect.EXACT_DUPLICATE, RECORD, EARLIER), tmp_path)
    assert exact.key != earlier.key
    assert (exact.image, exact.caption) == (earlier.image, earlier.caption)
    near = read_pair(broken_pair(PairDefect.NEAR_DUPLICATE, RECORD, EARLIER), tmp_path)
    assert near.image != earlier.image
    assert near.caption == earlier.caption
    np.testing.assert_array_equal(pixels(near.image), pixels(earlier.image))
    unchanged = read_edit(broken_edit(EditDefect.UNCHANGED_TARGET, EDIT), tmp_path)
    assert unchanged.image == unchanged.reference
    tested = {*PAIR_REASONS, *EDIT_REASONS, PairDefect.EXACT_DUPLICATE, PairDefect.NEAR_DUPLICATE}
    assert tested | {EditDefect.UNCHANGED_TARGET} == {*PairDefect, *EditDefect}


@pytest.mark.parametrize("oddity", Oddity)
def test_an_odd_pair_is_read_as_the_same_picture(oddity: Oddity, tmp_path: Path) -> None:
    record = odd_pair(oddity, RECORD)
    item = read_pair(record, tmp_path)
    assert item.refusal is None
    assert item.image != RECORD.members[0].data
    assert np.abs(pixels(item.image) - pixels(RECORD.members[0].data)).mean() < 3


def test_the_oversized_header_is_small_and_in_order() -> None:
    image, _ = broken_pair(PairDefect.OVERSIZED_HEADER, RECORD, EARLIER).members
    assert len(image.data) < 100
    Image.MAX_IMAGE_PIXELS, limit = None, Image.MAX_IMAGE_PIXELS
    try:
        assert Image.open(io.BytesIO(image.data)).size == (60_000, 60_000)
    finally:
        Image.MAX_IMAGE_PIXELS = limit

"""Measures and names of items on pictures of a few pixels, worked out by hand."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest

from mos.curation.items import ITEMS
from operators.measure_image import MEASURED, MeasureImage

POINT = [[0, 0, 0, 0], [0, 255, 0, 0], [0, 0, 0, 0]]
"""One white pixel: the Laplacian inside is -4 at it and 1 beside it, which vary by 2.5 about their mean."""
HALVES = [[0, 255], [0, 255]]


def item(luma: list[list[int]], caption: str = "a cat", **columns) -> dict:
    """An item as it comes from the decoder."""
    pixels = np.array(luma, np.uint8)
    fixed = {"image": b"image", "reference": None, "reason": None, "detail": None}
    size = {"width": 640, "height": 320, "luma": pixels.tobytes(), "luma_width": pixels.shape[1]}
    return {**fixed, **size, "caption": caption, **columns}


REFUSED = {**item(POINT), **dict.fromkeys(("image", "caption", "width", "height", "luma", "luma_width"))} | {
    "reason": "image_empty"
}


def measured(*items: dict) -> list[dict]:
    return MeasureImage()(decoded(*items)).to_pylist()


def decoded(*items: dict) -> pa.Table:
    columns = [ITEMS.field(name) for name in ("image", "reference", "caption", "reason", "detail")]
    sizes = [pa.field(name, pa.int32()) for name in ("width", "height", "luma_width")]
    return pa.Table.from_pylist(list(items), pa.schema([*columns, *sizes, pa.field("luma", pa.large_binary())]))


def test_scores_are_those_of_the_luma_row_by_row() -> None:
    point, upright, halves = measured(item(POINT), item(np.transpose(POINT).tolist()), item(HALVES))
    assert point["sharpness"] == pytest.approx(6.25)
    assert upright["sharpness"] == pytest.approx(6.25)
    assert point["contrast"] == pytest.approx((11 / 144) ** 0.5)
    assert (halves["sharpness"], halves["contrast"], halves["entropy"]) == (0, 0.5, 1)


def test_aspect_and_caption_are_measured_as_they_are() -> None:
    [row] = measured(item(HALVES, " two  grey-green wörds ", width=300, height=400))
    assert row["aspect"] == 0.75
    assert (row["caption_length"], row["caption_words"]) == (23, 3)


def test_names_are_hashes_of_the_bytes_and_of_the_caption() -> None:
    plain, other_case, edit, copy = measured(
        item(HALVES, "a cat"), item(HALVES, "A Cat"), item(HALVES, "a cat", reference=b"before"), item(HALVES, "a cat")
    )
    assert plain["image_hash"] == hashlib.sha256(b"image").hexdigest()
    assert plain["reference_hash"] is None
    assert edit["reference_hash"] == hashlib.sha256(b"before").hexdigest()
    assert plain["sample_id"] == copy["sample_id"]
    assert len({row["sample_id"] for row in (plain, other_case, edit)}) == 3
    assert plain["pair"] == other_case["pair"] != edit["pair"]
    assert plain["phash"] == edit["phash"]


def test_refused_items_stay_in_their_places_without_measures() -> None:
    before, refused, after = measured(item(POINT, "one"), REFUSED, item(HALVES, "and two"))
    assert (before["caption_words"], after["caption_words"]) == (1, 2)
    assert all(refused[name] is None for name in MEASURED.names)
    assert refused["reason"] == "image_empty"


def test_a_part_of_a_block_is_measured_as_the_whole_is() -> None:
    block = decoded(REFUSED, item(POINT, "one"), item(HALVES, "and two"))
    whole = MeasureImage()(block)
    assert MeasureImage()(block.slice(1)).to_pylist() == whole.slice(1).to_pylist()
    assert MeasureImage()(pa.concat_tables([block.slice(2), block.slice(0, 2)])).to_pylist()[0] == whole.to_pylist()[2]


@pytest.mark.parametrize("items", [[], [REFUSED], [item(POINT)]], ids=["none", "refused", "one"])
def test_columns_are_the_same_whatever_a_block_holds(items: list[dict]) -> None:
    table = MeasureImage()(decoded(*items))
    assert table.num_rows == len(items)
    assert "luma" not in table.column_names
    assert "luma_width" not in table.column_names
    assert table.select(MEASURED.names).schema == MEASURED
    assert table.column("aesthetic").null_count == table.column("alignment").null_count == len(items)

import json

import pyarrow as pa
import pytest

from mos.curation.captions import CaptionLimits
from mos.curation.items import ITEMS, Item, assemble, refuse, set_scores, still_in, to_meta
from mos.curation.sources import EditsSource, SourceConfig, WebDatasetSource
from mos.images.reasons import Reason, Rejected

TARS = WebDatasetSource(name="tars", paths=("*.tar",), caption_keys=("long", "caption"))
EDITS = EditsSource(name="edits", paths=("*.tar",), source_key="before", target_key="after")
TOLD = b'{"instruction": "make it blue", "id": 7}'


def made(parts: dict[str, bytes], source: SourceConfig = TARS, refused: tuple[str, ...] = ()) -> Item:
    return assemble("k", parts, refused, source, CaptionLimits())


def verdict(parts: dict[str, bytes], source: SourceConfig = TARS, refused: tuple[str, ...] = ()) -> Rejected:
    with pytest.raises(Rejected) as caught:
        made(parts, source, refused)
    return caught.value


def items(*reasons: Reason | None) -> pa.Table:
    """Rows with bytes, those with a reason refused before; two score columns beside the reader's."""
    rows = [
        {"source": "s", "shard": "s.tar", "key": str(place), "task": "edit", "unit": 0, "order": place}
        | {"image": b"image", "reference": b"reference", "reason": reason and str(reason), "caption": "a cat"}
        for place, reason in enumerate(reasons)
    ]
    schema = ITEMS.append(pa.field("aesthetic", pa.float32())).append(pa.field("alignment", pa.float32()))
    return pa.Table.from_pylist(rows, schema=schema)


@pytest.mark.parametrize(
    ("parts", "caption", "meta"),
    [
        ({"jpg": b"x", "txt": b" a  cat\n"}, "a cat", None),
        ({"jpg": b"x", "json": b'{"caption": "a cat", "id": 7}'}, "a cat", '{"id": 7}'),
        ({"jpg": b"x", "json": b'{"caption": "a cat", "long": "a grey cat"}'}, "a grey cat", '{"caption": "a cat"}'),
        ({"jpg": b"x", "txt": b"a dog", "json": b'{"caption": "a cat"}'}, "a dog", '{"caption": "a cat"}'),
        ({"jpg": b"x", "txt": b" \n", "json": b'{"caption": "a cat"}'}, "a cat", None),
    ],
)
def test_a_text_comes_before_the_json_unless_nothing_of_it_can_be_seen(parts, caption, meta):
    assert made(parts) == Item("k", b"x", None, caption, meta)


def test_an_edit_is_made_of_the_images_that_its_source_names():
    parts = {"before.png": b"12", "after.jpg": b"345", "preview.jpg": b"not part of it", "json": TOLD}
    item = made(parts, EDITS)
    assert item == Item("k", b"345", b"12", "make it blue", '{"id": 7}')
    assert item.num_bytes == 5
    assert Item("k").num_bytes == 0


@pytest.mark.parametrize(
    ("parts", "source", "reason", "detail"),
    [
        ({"txt": b"a cat"}, TARS, Reason.IMAGE_MISSING, "no image"),
        ({"jpg": b"x", "png": b"y", "txt": b"a cat"}, TARS, Reason.IMAGE_AMBIGUOUS, "jpg, png"),
        ({"jpg": b"x"}, TARS, Reason.CAPTION_MISSING, "no .txt and no .json"),
        ({"jpg": b"x", "txt": b"", "json": b"{}"}, TARS, Reason.CAPTION_EMPTY, "0 characters, none visible"),
        (
            {"jpg": b"x", "json": b'{"text": "a"}'},
            TARS,
            Reason.CAPTION_MISSING,
            "none of ['long', 'caption'] in ['text']",
        ),
        ({"after.png": b"x", "json": TOLD}, EDITS, Reason.REFERENCE_MISSING, "no before image"),
        ({"before.png": b"x", "json": TOLD}, EDITS, Reason.IMAGE_MISSING, "no after image"),
        (
            {"before.png": b"x", "after.png": b"y", "after.jpg": b"z", "json": TOLD},
            EDITS,
            Reason.IMAGE_AMBIGUOUS,
            "after.jpg, after.png",
        ),
    ],
)
def test_what_a_sample_lacks_or_has_twice_is_told(parts, source, reason, detail):
    found = verdict(parts, source)
    assert (found.reason, found.detail) == (reason, detail)


@pytest.mark.parametrize(
    ("parts", "refused", "detail"),
    [
        ({"txt": b"a cat"}, ("pkl",), "no image, but pkl"),
        ({"txt": b"a cat"}, ("xyz", "heic"), "no image, but heic, xyz: convert it to PNG, JPEG or WebP"),
        ({"txt": b"a cat"}, ("tif",), 'no image, but tif: curate.image.extra_formats = ["tiff"] allows it'),
        ({"jpg": b"x"}, ("caption", "gif"), "no .txt and no .json, but caption, gif"),
    ],
)
def test_a_file_that_is_not_read_is_why_a_part_is_missing(parts, refused, detail):
    found = verdict(parts, refused=refused)
    assert (found.reason, found.detail) == (Reason.MEMBER_TYPE_REFUSED, detail)
    assert made({"jpg": b"x", "txt": b"a cat"}, refused=refused).caption == "a cat"


def test_a_refused_row_loses_its_bytes_and_no_other_row_does():
    before = items(None, Reason.CAPTION_EMPTY, None)
    after = refuse(before, {2: Rejected(Reason.IMAGE_CORRUPT, "bad data")})
    assert after.schema == before.schema
    assert after.column("reason").to_pylist() == [None, Reason.CAPTION_EMPTY, Reason.IMAGE_CORRUPT]
    assert after.column("detail").to_pylist() == [None, None, "bad data"]
    for name in ("image", "reference"):
        assert after.column(name).to_pylist() == [name.encode(), None, None]
    assert after.column("caption").to_pylist() == ["a cat"] * 3
    assert still_in(after) == [0]
    assert refuse(before, {}) is before


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_not_finite_refuses_its_row(number):
    scored = set_scores(items(None, Reason.CAPTION_EMPTY, None, None), "aesthetic", {0: 5.5, 2: number})
    assert scored.column("aesthetic").to_pylist() == [5.5, None, None, None]
    assert scored.column("alignment").to_pylist() == [None] * 4
    assert still_in(scored) == [0, 3]
    assert scored.column("detail").to_pylist() == [None, None, f"aesthetic = {number}", None]


def test_scores_of_a_second_batch_leave_the_first_ones_standing():
    scored = set_scores(set_scores(items(None, None), "alignment", {0: 0.5}), "alignment", {1: -0.25})
    assert scored.column("alignment").to_pylist() == [0.5, -0.25]


@pytest.mark.parametrize(
    ("record", "meta"), [({}, None), ({"name": "café", "n": [1, None]}, '{"name": "café", "n": [1, null]}')]
)
def test_what_is_left_of_an_object_is_kept_as_json(record, meta):
    assert to_meta(record) == meta


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"n": 1e999}', Reason.JSON_NOT_FINITE),
        ('{"n": [-1e999]}', Reason.JSON_NOT_FINITE),
        ('{"name": "\\ud800"}', Reason.CAPTION_NOT_UNICODE),
        ('{"\\udfff": 1}', Reason.CAPTION_NOT_UNICODE),
    ],
)
def test_json_that_no_reader_would_take_back_is_refused(text, reason):
    with pytest.raises(Rejected) as caught:
        to_meta(json.loads(text))
    assert caught.value.reason == reason

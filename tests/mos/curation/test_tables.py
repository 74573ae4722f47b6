import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from mos.curation.manifest import manifest_of, marks_schema
from mos.curation.tables import CurationOutputs, SampleTables, add_marks, open_sample_tables
from mos.errors import UserError
from mos.images.reasons import Notice, Reason
from mos.tables.lance import TableVersion, latest_version, read_column, write_rows
from tests.samples import RESOLUTIONS, Pair, append_samples


@pytest.fixture
def rows(tmp_path: Path) -> pa.Table:
    """Five rows of a samples table with the keys 0 to 4, of which no table knows yet."""
    pairs = [Pair(f"picture {number}") for number in range(4)] + [Pair("a small one", buckets=("24x40", None))]
    return append_samples(tmp_path / "drawn", pairs).open().to_table()


def opened(folder: Path, base: CurationOutputs | None = None) -> SampleTables:
    return open_sample_tables(str(folder / "samples.lance"), str(folder / "rejects.lance"), RESOLUTIONS, base)


SCHEMA = marks_schema(RESOLUTIONS)


def written(tables: SampleTables, rows: pa.Table, refused: Sequence[Reason | Notice] = ()) -> pa.Table:
    """The marks of a run that wrote these rows in one fragment, and refused some items before that."""
    (fragment,) = write_rows(tables.samples.uri, rows)
    columns = ("source", "shard", "key", "sample_id", "pair", "phash", *(f"bucket_{side}" for side in RESOLUTIONS))
    marks = [
        {name: row[name] for name in columns}
        | {"order": place, "place": place, "fragment": None if place else fragment}
        | {"fragment_name": json.loads(fragment)["files"][0]["path"]}
        for place, row in enumerate(rows.to_pylist())
    ]
    for reason in refused:
        place = {"source": "s", "shard": "s.tar", "key": "bad", "order": len(marks)}
        marks.append(place | {"reason": str(reason), "detail": "2"})
    return pa.Table.from_pylist(marks, schema=SCHEMA)


def added(tables: SampleTables, marks: pa.Table, settings: str = "s") -> CurationOutputs:
    with manifest_of(SCHEMA) as manifest:
        manifest.add(marks)
        manifest.refuse_copies(tables.kept, near_bits=0)
        return add_marks(tables, manifest, ["u0", "u1"], settings)


def keys(table: TableVersion) -> list[str]:
    return read_column(table, "key")


def test_a_run_adds_its_samples_and_its_rejects(tmp_path, rows):
    tables = opened(tmp_path)
    marks = written(tables, rows, [Reason.IMAGE_EMPTY, Reason.CAPTION_EMPTY, Reason.IMAGE_EMPTY])
    assert (latest_version(tables.samples.uri).rows, latest_version(tables.rejects.uri).rows) == (0, 0)
    found = added(tables, marks)
    assert (found.read, found.kept) == (8, 5)
    assert list(found.rejected.items()) == [("image_empty", 2), ("caption_empty", 1)]
    assert found.buckets == {"32": {"32x32": 4, "24x40": 1}, "48": {"48x48": 4}}
    assert (found.units, found.settings) == (["u0", "u1"], "s")
    assert keys(found.samples) == ["0", "1", "2", "3", "4"]
    assert keys(found.rejects) == ["bad"] * 3
    assert CurationOutputs.from_outputs(json.loads(json.dumps(found.outputs()))) == found


def test_copies_of_what_an_earlier_run_kept_leave_their_fragment_alone(tmp_path, rows):
    first = opened(tmp_path)
    base = added(first, written(first, rows.slice(0, 3), [Notice.SYSTEM_FILE]))
    second = opened(tmp_path, base)
    found = added(second, written(second, rows.slice(1), [Notice.LATE_MEMBER, Notice.SYSTEM_FILE, Notice.SYSTEM_FILE]))
    assert keys(found.samples) == ["0", "1", "2", "3", "4"]
    assert (found.read, found.kept, found.rejected) == (7, 5, {"duplicate_exact": 2})
    assert keys(found.rejects) == ["1", "2"]
    assert list(found.notices.items()) == [("system_file", 6), ("late_member", 2)]
    assert read_column(base.samples, "key") == ["0", "1", "2"]


def test_what_a_run_left_without_a_record_is_put_back(tmp_path, rows):
    first = opened(tmp_path)
    base = added(first, written(first, rows.slice(0, 2), [Reason.IMAGE_EMPTY]))
    lost = opened(tmp_path, base)
    expected = added(lost, written(lost, rows.slice(2), [Reason.BUCKET_NONE]))
    again = opened(tmp_path, base)
    assert (again.samples.rows, again.rejects.rows) == (2, 1)
    found = added(again, written(again, rows.slice(2), [Reason.BUCKET_NONE]))
    assert keys(found.samples) == ["0", "1", "2", "3", "4"]
    assert (found.read, found.rejected, found.identity) == (7, expected.rejected, expected.identity)


def test_without_a_record_tables_begin_empty_and_what_records_name_stays_readable(tmp_path, rows):
    first = opened(tmp_path)
    old = added(first, written(first, rows))
    assert opened(tmp_path).samples.rows == latest_version(old.samples.uri).rows == 0
    assert keys(old.samples) == ["0", "1", "2", "3", "4"]


def test_no_item_goes_missing_without_a_word(tmp_path, rows):
    tables = opened(tmp_path)
    lost = pa.Table.from_pylist(
        [{"source": "s", "shard": "s.tar", "key": "lost", "sample_id": "f" * 64, "order": 9}], schema=SCHEMA
    )
    marks = pa.concat_tables([written(tables, rows, [Reason.IMAGE_EMPTY]), lost])
    with pytest.raises(RuntimeError, match="read 7 items, but kept 5 and rejected 1"):
        added(tables, marks)


def test_of_two_runs_at_once_the_later_one_is_told_to_wait(tmp_path, rows):
    tables = opened(tmp_path)
    one, other = written(tables, rows), written(tables, rows.slice(2))
    added(tables, one)
    with pytest.raises(UserError, match="let the other curate run finish, then start this one again"):
        added(tables, other)
    assert latest_version(tables.samples.uri).rows == 5


def test_the_identity_follows_the_set_of_samples_and_the_settings_alone(tmp_path, rows):
    def identity(name: str, chosen: pa.Table, refused: Sequence[Reason] = (), settings: str = "s") -> str:
        tables = opened(tmp_path / name)
        return added(tables, written(tables, chosen, refused), settings).identity

    usual = identity("usual", rows)
    assert identity("rejects", rows, [Reason.IMAGE_EMPTY]) == usual
    assert identity("order", rows.take([4, 2, 0, 1, 3])) == usual
    assert identity("fewer", rows.slice(1)) != usual
    assert identity("settings", rows, settings="other") != usual


@pytest.mark.parametrize(
    ("settings", "units", "uri", "grows"),
    [
        ("s", ["u2", "u1", "u0"], "samples.lance", True),
        ("s", ["u0", "u1"], "samples.lance", True),
        ("s", ["u1", "u2"], "samples.lance", False),
        ("other", ["u0", "u1", "u2"], "samples.lance", False),
        ("s", ["u0", "u1", "u2"], "elsewhere.lance", False),
    ],
)
def test_tables_grow_only_under_the_same_settings_with_all_their_units(settings, units, uri, grows):
    samples, rejects = TableVersion("samples.lance", 3, 5), TableVersion("rejects.lance", 2, 1)
    base = CurationOutputs(samples, rejects, 6, 5, {"image_empty": 1}, {}, "s", ["u0", "u1"], "identity")
    assert base.can_grow_into(settings, units, uri) is grows


def test_a_nightly_run_adds_to_what_the_record_says(tmp_path, rows):
    """Counts and the identity come of both runs, as though they had been one."""
    first = opened(tmp_path / "grown")
    base = added(first, written(first, rows.slice(0, 2), [Reason.IMAGE_EMPTY]))
    second = opened(tmp_path / "grown", base)
    grown = added(second, written(second, rows.slice(2), [Reason.IMAGE_EMPTY]))
    whole = opened(tmp_path / "whole")
    once = added(whole, written(whole, rows, [Reason.IMAGE_EMPTY] * 2))
    for name in ("read", "kept", "rejected", "buckets", "identity", "sum_of_ids"):
        assert getattr(grown, name) == getattr(once, name), name
    assert base.identity != grown.identity

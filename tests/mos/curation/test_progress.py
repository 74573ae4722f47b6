import re

import pyarrow as pa
import pytest

from mos.curation.progress import Progress, print_result, print_views
from mos.images.reasons import Notice, Reason
from mos.tables.views import ViewCounts


@pytest.fixture(autouse=True)
def wide(monkeypatch) -> None:
    """A screen on which no row is broken."""
    monkeypatch.setenv("COLUMNS", "120")


def batch(unit: int, *reasons: Reason | Notice | None) -> pa.Table:
    texts = [reason and str(reason) for reason in reasons]
    return pa.table({"unit": [unit] * len(texts), "reason": pa.array(texts, pa.string())})


def cells(text: str) -> list[tuple[str, ...]]:
    """The rows of a printed table."""
    rows = [line for line in text.splitlines() if line.startswith(("│", "┃"))]
    return [tuple(cell.strip() for cell in re.split("[│┃]", row)[1:-1]) for row in rows]


def test_the_last_line_counts_units_items_and_rejects(capsys):
    progress = Progress(3)
    progress.advance(batch(0, None, Reason.IMAGE_EMPTY, None))
    progress.advance(batch(0, Reason.CAPTION_EMPTY))
    progress.advance(batch(2, None, Notice.SYSTEM_FILE, Notice.LATE_MEMBER))
    progress.close()
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"curate: 2/3 units, 5 read, 3 kept, 2 rejected, \d+ rows/s", last)


@pytest.mark.parametrize(("every", "num_lines"), [(0.0, 3), (1e9, 1)])
def test_a_line_is_printed_when_it_is_time_and_at_the_end(capsys, monkeypatch, every, num_lines):
    monkeypatch.setattr("mos.curation.progress.LINE_EVERY_S", every)
    progress = Progress(2)
    progress.advance(batch(0, None))
    progress.advance(batch(1, None))
    progress.close()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == num_lines
    assert lines[-1].startswith("curate: 2/2 units, 2 read, 2 kept, 0 rejected")


def test_a_curation_of_nothing_has_a_last_line_too(capsys):
    Progress(0).close()
    assert capsys.readouterr().out == "curate: 0/0 units, 0 read, 0 kept, 0 rejected, 0 rows/s\n"


def test_the_ledger_lists_every_reason_and_adds_up(capsys):
    rejected = {"image_empty": 30, "caption_empty": 4}
    buckets = {"32": {"32x32": 60, "40x24": 6}, "64": {}}
    print_result(100, 66, rejected, buckets, {"system_file": 12})
    printed = capsys.readouterr().out
    assert cells(printed)[1:] == [
        ("read", "100"),
        ("rejected: image_empty", "30"),
        ("rejected: caption_empty", "4"),
        ("rejected, all reasons", "34"),
        ("kept", "66"),
        ("counted apart: system_file", "12"),
    ]
    assert printed.splitlines()[-2:] == ["buckets of 32 px: 32x32 60, 40x24 6", "buckets of 64 px: none"]


def test_views_are_listed_with_their_buckets_and_sources(capsys):
    counts = ViewCounts(7, {"32x32": 5, "40x24": 2}, {"photos": 7})
    print_views({"stage1": counts, "edit": ViewCounts(0, {}, {})})
    assert cells(capsys.readouterr().out) == [
        ("stage", "rows", "buckets", "sources"),
        ("stage1", "7", "32x32 5, 40x24 2", "photos 7"),
        ("edit", "0", "none", "none"),
    ]

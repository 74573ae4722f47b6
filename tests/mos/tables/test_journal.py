"""Entries of fragments that are written and not committed: used once, oldest first, or removed."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mos.tables.append_once import WrittenFragment
from mos.tables.journal import MAX_AGE_S, Journal
from mos.tables.lance import TableVersion, pack_sizes
from tests.mos.tables.latent_rows import write


def entries(table: TableVersion) -> dict[str, Path]:
    """File of each entry, by the first key of its fragment."""
    files = Path(table.uri, "_journal").glob("*.json")
    return {json.loads(path.read_text())["keys"][0]: path for path in files}


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def noted(table: TableVersion, *keys: str) -> WrittenFragment:
    written = write(table, *keys)
    Journal(table.uri).add(written)
    return written


def test_a_table_without_a_journal_has_no_entries(table: TableVersion) -> None:
    assert Journal(table.uri).read() == []


def test_an_entry_comes_back_as_it_was_noted(table: TableVersion) -> None:
    written = write(table, "a", "b")
    whole = replace(written, packs=pack_sizes(table.uri, written.fragment))
    Journal(table.uri).add(whole)
    Journal(table.uri).add(whole)
    assert Journal(table.uri).read() == [whole]
    assert list(whole.packs.values()) == [2000]


def test_the_oldest_entry_comes_first(table: TableVersion) -> None:
    for key in "abc":
        noted(table, key)
    for now in (time.time() - 60, time.time()):
        order = Journal(table.uri).read()
        for seconds, written in enumerate(reversed(order)):
            change(entries(table)[written.keys[0]], written_at=now + seconds)
        assert Journal(table.uri).read() == order[::-1]


def test_what_is_removed_is_forgotten_and_nothing_else(table: TableVersion) -> None:
    journal, first, second = Journal(table.uri), noted(table, "a"), noted(table, "b")
    journal.remove([first, write(table, "never noted")])
    assert journal.read() == [second]
    journal.remove([first, second])
    assert journal.read() == []


@pytest.mark.parametrize("torn", ['{"fragment": "{', "", "null", "[]", "5", '{"packs": {}}'])
def test_a_torn_entry_is_removed(table: TableVersion, torn: str) -> None:
    written = noted(table, "a")
    path = Path(table.uri, "_journal", "torn.json")
    path.write_text(torn)
    assert Journal(table.uri).read() == [written]
    assert not path.exists()


def test_an_entry_that_does_not_say_how_long_its_files_are_is_removed(table: TableVersion) -> None:
    noted(table, "a")
    path = entries(table)["a"]
    entry = json.loads(path.read_text())
    del entry["packs"]
    path.write_text(json.dumps(entry))
    assert Journal(table.uri).read() == []
    assert not path.exists()


def test_entries_are_used_until_lance_may_have_taken_their_files(table: TableVersion) -> None:
    noted(table, "old")
    young = noted(table, "young")
    change(entries(table)["old"], written_at=time.time() - MAX_AGE_S - 60)
    change(entries(table)["young"], written_at=time.time() - MAX_AGE_S + 60)
    assert Journal(table.uri).read() == [young]
    assert list(entries(table)) == ["young"]

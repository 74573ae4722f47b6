"""Appending each key once: what a commit refuses, what it leaves out, who wins."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from mos.tables.append_once import KeyedAppender, keys_since, without
from mos.tables.lance import TableMovedError, TableVersion, append_fragments, latest_version, open_table, read_written
from tests.mos.tables.latent_rows import keys, write


@pytest.mark.parametrize("change", ["delete", "compact", "append"])
def test_whatever_changes_rows_is_noticed(table: TableVersion, change: str) -> None:
    for key in "ab":
        table = append_fragments(table, [write(table, key).fragment], 1)
    written = write(table, "c")
    match change:
        case "delete":
            open_table(table.uri).delete("latent_key = 'a'")
        case "compact":
            open_table(table.uri).optimize.compact_files()
        case "append":
            append_fragments(table, [write(table, "d").fragment], 1)
    with pytest.raises(TableMovedError):
        append_fragments(table, [written.fragment], 1)
    appender = KeyedAppender(table)
    assert appender.append([written]) == 1
    assert "c" in keys(appender.table)


def test_rows_of_taken_keys_are_left_out_and_the_others_kept_whole(table: TableVersion) -> None:
    mine = write(table, "a", "b", "c")
    appender = KeyedAppender(table)
    KeyedAppender(table).append([write(table, "b", "x")])
    assert appender.append([mine]) == 2
    assert sorted(keys(appender.table)) == ["a", "b", "c", "x"]
    assert appender.append([write(table, "x", "y")]) == 1  # x came before the version that it knows by now
    assert sorted(keys(appender.table)) == ["a", "b", "c", "x", "y"]
    rest = without(table.uri, mine, {"b"})
    assert rest is not None
    assert rest.keys == ("a", "c")
    assert read_written(table.uri, rest.fragment).to_pydict() == {
        "latent_key": ["a", "c"],
        "bucket": ["32x32", "32x32"],
        "payload": [1000 * b"a", 1000 * b"c"],
    }


def test_a_version_cleaned_away_means_that_all_keys_are_compared(table: TableVersion) -> None:
    base = append_fragments(table, [write(table, "a").fragment], 1)
    append_fragments(base, [write(table, "b").fragment], 1)
    later = latest_version(table.uri)
    assert keys_since(base, later) == {"b"}
    appender = KeyedAppender(base)
    open_table(table.uri).cleanup_old_versions(retain_versions=1)
    assert keys_since(base, later) == {"a", "b"}
    assert appender.append([write(table, "b")]) == 0


def test_many_writers_at_once_lose_and_double_nothing(table: TableVersion) -> None:
    wanted = [f"{number:02d}" for number in range(24)]

    def run(writer: int) -> int:
        appender, appended = KeyedAppender(table), 0
        order = wanted[6 * writer :] + wanted[: 6 * writer]
        size = 2 + writer
        for start in range(0, len(order), size):
            appended += appender.append([write(table, *order[start : start + size])])
        return appended

    with ThreadPoolExecutor(4) as pool:
        appended = list(pool.map(run, range(4)))
    assert sum(appended) == len(wanted)
    assert sorted(keys(latest_version(table.uri))) == wanted

"""Files that a pinned table has lost: deleted, or cut short, since they were committed. Asked before anything is spent.

A table's own store is believed otherwise: what is looked at is that every file is there and long enough.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import lance
import numpy as np
from lance.file import LanceFileSession

from mos.errors import UserError
from mos.tables.blob_reader import index_blobs
from mos.tables.lance import TableMovedError, TableVersion, drop_fragments, latest_version

LOOKS = 32
"""Files looked at at a time: what a network file system or an object store answers side by side."""


class LostFilesError(UserError, FileNotFoundError):
    """A table lacks a file that it had; no other try finds it."""


class Expected(NamedTuple):
    """A file that a fragment cannot be read without."""

    fragment: int
    path: str
    """In the table's folder."""
    size: int
    """Bytes at the least."""


class Lost(NamedTuple):
    """A file that is gone."""

    fragment: int
    path: str


def lost_files(table: TableVersion) -> list[Lost]:
    """Every file that is missing or too short: data files, and where all of those are there, pack files."""
    dataset = table.open()
    lost = _lost(table.uri, _data_files(dataset))
    has_payload = "payload" in dataset.schema.names
    return lost if lost or not has_payload else _lost(table.uri, _pack_files(dataset))


def refuse_lost_files(table: TableVersion, remedy: str) -> None:
    """Raise `LostFilesError` where a table has lost a file; `remedy` says what to do about it."""
    lost = lost_files(table)
    if lost:
        number = "a file is" if len(lost) == 1 else f"{len(lost)} of its files are"
        raise lost_error(table.uri, f"{number} missing or cut short, first {lost[0].path}", remedy)


def drop_lost(table: TableVersion) -> TableVersion:
    """The table as it is now without the fragments that lack a file: their rows can be encoded again."""
    while True:
        numbers = sorted({lost.fragment for lost in lost_files(table)})
        if not numbers:
            return table
        try:
            return drop_fragments(table, numbers)
        except TableMovedError:
            table = latest_version(table.uri)


def lost_error(uri: str, what: str, remedy: str) -> LostFilesError:
    """The sentence for a table that cannot be read."""
    return LostFilesError(f"table {uri} is damaged, {what}: {remedy}")


def _data_files(dataset: lance.LanceDataset) -> list[Expected]:
    return [
        Expected(fragment.fragment_id, f"data/{file.path}", file.file_size_bytes or 1)
        for fragment in dataset.get_fragments()
        for file in fragment.data_files()
        if file.base_id is None
    ]


def _pack_files(dataset: lance.LanceDataset) -> list[Expected]:
    """Each pack file up to the end of its last payload; none where only Lance knows the place of payloads."""
    index = index_blobs(dataset, "payload", ())
    if not index.in_files:
        return []
    ends = np.zeros(len(index.files), np.int64)
    np.maximum.at(ends, index.file, index.position + index.size)
    fragments = {Path(file.path).stem: f.fragment_id for f in dataset.get_fragments() for file in f.data_files()}
    return [
        Expected(fragments[path.parent.name], str(path), int(end))
        for path, end in zip(index.files, ends, strict=True)
        if end
    ]


def _lost(uri: str, files: Iterable[Expected]) -> list[Lost]:
    session = LanceFileSession(uri)

    def is_lost(file: Expected) -> bool:
        if "://" in uri:
            return not session.contains(file.path)
        try:
            return Path(uri, file.path).stat().st_size < file.size
        except FileNotFoundError:
            return True

    with ThreadPoolExecutor(LOOKS, thread_name_prefix="look-for-files") as threads:
        expected = list(files)
        return [
            Lost(file.fragment, file.path)
            for file, gone in zip(expected, threads.map(is_lost, expected), strict=True)
            if gone
        ]

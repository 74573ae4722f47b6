"""Bytes appended to a file of a running stage, for which a full disk is no reason to stop; records as JSON lines."""

import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Record = TypeVar("Record", bound=DataclassInstance)


class AppendedFile:
    """Keeps what a disk takes none of at the moment, and writes it when there is room."""

    def __init__(self, path: Path) -> None:
        """Nothing is written or made before the first bytes come."""
        self._path = path
        self._unwritten = b""

    def add(self, data: bytes) -> None:
        """Append; it is on disk when this returns, if there is room."""
        self._unwritten += data
        self.flush()

    def flush(self) -> None:
        """Try again to write what could not be written."""
        if not self._unwritten:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab", buffering=0) as file:
                while self._unwritten:
                    self._unwritten = self._unwritten[file.write(self._unwritten) :]
        except OSError:
            return


def line_of(record: "DataclassInstance") -> bytes:
    """A record as a line."""
    return f"{json.dumps(asdict(record))}\n".encode()


def records_of(lines: Iterable[bytes], kind: type["Record"]) -> list["Record"]:
    """Records of lines, without fields of a newer version; lines that are damaged are left out."""
    names, records = {field.name for field in fields(kind)}, []
    for line in lines:
        try:
            values = json.loads(line)
            records.append(kind(**{name: values[name] for name in names if name in values}))
        except (ValueError, TypeError):
            continue
    return records


def read_records(path: Path, kind: type["Record"]) -> list["Record"]:
    """All records of a file, in the order in which they were written; none where there is no file."""
    if not path.is_file():
        return []
    data = path.read_bytes()
    return records_of(data[: data.rfind(b"\n") + 1].splitlines(), kind)

"""Entries of a benchmark's files, each with the line it stands on: JSON lines, arrays and objects of JSON, CSV."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mos.errors import UserError

BLANK = " \t\r\n"
DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Entry:
    """One object, or row, of a file."""

    where: str
    """File and line."""
    fields: dict[str, Any]
    key: str = ""
    """In an object of entries."""

    def text(self, name: str) -> str:
        """A field that is a text and not empty.

        Raises:
            UserError: it is none.
        """
        value = self.fields.get(name)
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{self.where}: {self._told(name)} is no text, which each entry needs")
        return value

    def number(self, name: str) -> float:
        """A field that is a number, or a text that reads as one.

        Raises:
            UserError: it is neither.
        """
        value = self.fields.get(name)
        try:
            return float("" if isinstance(value, bool) or value is None else value)
        except (TypeError, ValueError):
            raise UserError(f"{self.where}: {self._told(name)} is no number, which each entry needs") from None

    def whole(self, name: str) -> int:
        """A field that is a whole number.

        Raises:
            UserError: it is none.
        """
        value = self.fields.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise UserError(f"{self.where}: {self._told(name)} is no whole number, which each entry needs")
        return value

    def file_name(self, name: str) -> str:
        """A field that becomes the name of a file or folder.

        Raises:
            UserError: it is none, or would lead elsewhere.
        """
        return as_file_name(self.text(name), f"{self.where}: {name!r}")

    def _told(self, name: str) -> str:
        return f"{name!r} = {self.fields[name]!r}" if name in self.fields else f"{name!r}, which is missing,"


def as_file_name(value: str, what: str) -> str:
    """The value, if it may be the name of a file.

    Raises:
        UserError: it may not; names it as `what`.
    """
    if value in ("", ".", "..") or any(letter in value for letter in "/\\\0"):
        raise UserError(f"{what} = {value!r} becomes the name of a file, which it cannot be: take slashes out")
    return value


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line of a text file that is not blank, with where it stands before it.

    Raises:
        UserError: the file is missing or is no text.
    """
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            yield f"{path}:{number}", line.rstrip("\r")


def read_figures(path: Path) -> dict[str, tuple[float, str]]:
    """Figures of an object of JSON by their keys, each with where it stands.

    Raises:
        UserError: the file is missing or is not such an object.
    """
    figures: dict[str, tuple[float, str]] = {}
    for key, value, line in _members(path, _text(path)):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{path}:{line}: {key!r} = {value!r} is no number")
        figures[key] = (float(value), f"{path}:{line}")
    return figures


def read_entries(path: Path) -> list[Entry]:
    """All entries of a file, by its ending: `.jsonl`, `.json` (an array of objects, or an object of them), `.csv`.

    Raises:
        UserError: the file is missing, empty, or not of its form; names the line.
    """
    text = _text(path)
    match path.suffix.lower():
        case ".jsonl":
            found = _lines(path, text)
        case ".json":
            found = (_entry(path, line, value, key) for key, value, line in _members(path, text))
        case ".csv":
            found = _rows(path, text)
        case ending:
            raise UserError(f"{path} ends in {ending!r}: name a file that ends in .jsonl, .json or .csv")
    entries = list(found)
    if not entries:
        raise UserError(f"{path} holds no entries: name the file as the benchmark's repository has it")
    return entries


def refuse_twice(names: Iterable[tuple[str, str]], what: str) -> None:
    """Each name of (name, where it stands) only once.

    Raises:
        UserError: one comes twice; names both places.
    """
    seen: dict[str, str] = {}
    for name, where in names:
        if name in seen:
            raise UserError(f"{where}: {what} {name!r} stands in {seen[name]} already: each needs one of its own")
        seen[name] = where


def _text(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"{path} does not exist: name the file as the benchmark's repository has it")
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text: {error}") from error


def _lines(path: Path, text: str) -> Iterator[Entry]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _entry(path, number, _decoded(path, line, number))


def _rows(path: Path, text: str) -> Iterator[Entry]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    start = 2
    try:
        for row in reader:
            if None in row or None in row.values():
                raise UserError(
                    f"{path}:{start}: this row has not the {len(reader.fieldnames or ())} cells of the head"
                )
            yield Entry(f"{path}:{start}", dict(row))
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: {error}") from error


def _members(path: Path, text: str) -> Iterator[tuple[str, Any, int]]:
    """Key, value and line of each member of one array, whose keys are empty, or of one object."""
    place, line, counted = _skip(text, 0), 1, 0
    match text[place : place + 1]:
        case "[":
            keyed, end = False, "]"
        case "{":
            keyed, end = True, "}"
        case _:
            raise UserError(f"{path}:{_line(text, place)}: neither an array nor an object of entries begins here")
    place = _skip(text, place + 1)
    while text[place : place + 1] != end:
        line, counted, key = line + text.count("\n", counted, place), place, ""
        if keyed:
            key, place = _value(path, text, place)
            place = _expect(path, text, place, ":")
        value, place = _value(path, text, place)
        yield key, value, line
        place = _skip(text, place)
        if text[place : place + 1] != end:
            place = _expect(path, text, place, ",")


def _entry(path: Path, line: int, value: Any, key: str = "") -> Entry:
    if not isinstance(value, dict):
        raise UserError(f"{path}:{line}: an entry is an object, not {type(value).__name__}")
    return Entry(f"{path}:{line}", value, key)


def _value(path: Path, text: str, place: int) -> tuple[Any, int]:
    try:
        return DECODER.raw_decode(text, place)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error


def _decoded(path: Path, line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{number}: not JSON: {error.msg}") from error


def _expect(path: Path, text: str, place: int, sign: str) -> int:
    place = _skip(text, place)
    if text[place : place + 1] != sign:
        raise UserError(f"{path}:{_line(text, place)}: not JSON: a {sign!r} is missing")
    return _skip(text, place + 1)


def _skip(text: str, place: int) -> int:
    while text[place : place + 1] and text[place] in BLANK:
        place += 1
    return place


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1

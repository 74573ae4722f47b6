"""Files of a running stage: nothing stops who appends, and what is read back is whole."""

from dataclasses import dataclass
from pathlib import Path

from mos.training.appended import AppendedFile, line_of, read_records


@dataclass(frozen=True)
class Note:
    step: int
    text: str = ""


def test_records_are_read_as_they_were_written(tmp_path: Path):
    path = tmp_path / "stage" / "notes.jsonl"
    assert read_records(path, Note) == []
    file = AppendedFile(path)
    notes = [Note(1, "a"), Note(2, "two\nlines")]
    for note in notes:
        file.add(line_of(note))
    assert read_records(path, Note) == notes


def test_damaged_lines_are_left_out_and_fields_of_a_newer_version_too(tmp_path: Path):
    path = tmp_path / "notes.jsonl"
    path.write_bytes(b'{"step": 1, "later": 3}\n{"st\n[1]\n5\n{"text": "no step"}\n{"step": 2}\n{"step": 3}')
    assert read_records(path, Note) == [Note(1), Note(2)]  # the last line is still being written


def test_what_finds_no_room_is_written_when_there_is_some(tmp_path: Path):
    path = tmp_path / "notes.jsonl"
    path.mkdir()  # nothing can be appended to a folder
    file = AppendedFile(path)
    file.add(line_of(Note(1)))
    path.rmdir()
    file.add(line_of(Note(2)))
    assert read_records(path, Note) == [Note(1), Note(2)]

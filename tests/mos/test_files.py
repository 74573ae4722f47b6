from pathlib import Path

import pytest

from mos.files import written_whole


def test_a_file_takes_its_name_when_it_is_complete(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with written_whole(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def write_half(path: Path) -> None:
    with written_whole(path) as partial:
        partial.write_text("half")
        raise OSError("full")


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(OSError, match="full"):
        write_half(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_half_a_file_is_no_match_for_its_suffix(tmp_path: Path):
    with written_whole(tmp_path / "a.json") as partial:
        partial.write_text("half")
        assert list(tmp_path.glob("*.json")) == []

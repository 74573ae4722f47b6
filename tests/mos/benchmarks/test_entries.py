"""Entries keep their lines, and a mistake names file and line."""

from pathlib import Path

import pytest

from mos.benchmarks.entries import Entry, as_file_name, read_entries, read_figures, read_lines, refuse_twice
from mos.errors import UserError


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.jsonl", '{"a": 1}\n\n{"a": "\u2028"}\r\n', [("1", "", {"a": 1}), ("3", "", {"a": "\u2028"})]),
        ("a.json", '[\n {"a": 1},\n {"a": [2]}]\n', [("2", "", {"a": 1}), ("3", "", {"a": [2]})]),
        ("a.json", '\ufeff{"x": {"a": 1},\n"y":\n{"a": 2}}', [("1", "x", {"a": 1}), ("2", "y", {"a": 2})]),
        (
            "a.csv",
            'a,b\n"1\n2",3\n4,\u2028\n',
            [("2", "", {"a": "1\n2", "b": "3"}), ("4", "", {"a": "4", "b": "\u2028"})],
        ),
    ],
)
def test_entries_keep_their_lines(tmp_path: Path, name: str, text: str, expected: list) -> None:
    path = written(tmp_path, name, text)
    found = [(entry.where.rpartition(":")[2], entry.key, entry.fields) for entry in read_entries(path)]
    assert found == expected


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": \n', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", "[1]\n", r"a\.jsonl:1: an entry is an object, not list"),
        ("a.jsonl", "\n", "holds no entries"),
        ("a.json", '[{"a": 1},\n 3]', r"a\.json:2: an entry is an object, not int"),
        ("a.json", '[{"a": 1}\n {"a": 2}]', r"a\.json:2: not JSON: a ',' is missing"),
        ("a.json", '[{"a": 1},\n', r"a\.json:2: not JSON"),
        ("a.json", '{"a" {}}', r"a\.json:1: not JSON: a ':' is missing"),
        ("a.json", '\n"a"', r"a\.json:2: neither an array nor an object"),
        ("a.json", "[]", "holds no entries"),
        ("a.csv", "a,b\n1,2\n3\n", r"a\.csv:3: this row has not the 2 cells of the head"),
        ("a.csv", "a,b\n1,2,3\n", r"a\.csv:2: this row has not the 2 cells"),
        ("a.csv", 'a\n"1\n', r"a\.csv:\d: unexpected end"),
        ("a.txt", "a", r"ends in '\.txt': name a file that ends in"),
    ],
)
def test_a_mistake_names_its_line(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_entries(written(tmp_path, name, text))


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.json does not exist"):
        read_entries(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UserError, match=r"a\.json cannot be read as text"):
        read_entries(tmp_path / "a.json")


def test_fields_are_of_their_kind() -> None:
    entry = Entry("f:3", {"t": "a", "n": 2, "f": "2.5", "b": True, "e": " ", "p": "a/b", "x": None})
    assert (entry.text("t"), entry.whole("n"), entry.number("f"), entry.file_name("t")) == ("a", 2, 2.5, "a")
    for read, name, sentence in (
        (entry.text, "e", "f:3: 'e' = ' ' is no text"),
        (entry.text, "gone", "f:3: 'gone', which is missing, is no text"),
        (entry.whole, "b", "f:3: 'b' = True is no whole number"),
        (entry.number, "b", "f:3: 'b' = True is no number"),
        (entry.number, "x", "f:3: 'x' = None is no number"),
        (entry.number, "t", "f:3: 't' = 'a' is no number"),
        (entry.file_name, "p", "f:3: 'p' = 'a/b' becomes the name of a file, which it cannot be"),
    ):
        with pytest.raises(UserError, match=sentence):
            read(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\0"])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="becomes the name of a file"):
        as_file_name(name, "key")


def test_names_come_once() -> None:
    refuse_twice([("a", "f:1"), ("b", "f:2")], "key")
    with pytest.raises(UserError, match="f:3: key 'a' stands in f:1 already"):
        refuse_twice([("a", "f:1"), ("b", "f:2"), ("a", "f:3")], "key")


def test_figures_and_lines(tmp_path: Path) -> None:
    path = written(tmp_path, "a.json", '{"a": 1,\n"b": 2.5}')
    assert read_figures(path) == {"a": (1.0, f"{path}:1"), "b": (2.5, f"{path}:2")}
    with pytest.raises(UserError, match=r"a\.json:1: 'a' = 'x' is no number"):
        read_figures(written(tmp_path, "a.json", '{"a": "x"}'))
    path = written(tmp_path, "a.txt", "one\r\n\ntwo\n")
    assert list(read_lines(path)) == [(f"{path}:1", "one"), (f"{path}:3", "two")]

import json

import pytest

from mos.curation.entries import jsonl_entries, sidecar_entries
from mos.curation.listing import ListedFile, Listing
from mos.errors import UserError
from mos.images.reasons import Reason
from tests.mos.curation.folder_reading import fates, fill, lines, read


def files(*names: str) -> list[ListedFile]:
    return [ListedFile(name, 1, "now") for name in names]


def grouped(*names: str) -> dict[str, list[str]]:
    """The files of each key."""
    return {entry["key"]: entry["files"] for entry in map(json.loads, sidecar_entries(files(*names)))}


def test_a_text_named_after_the_whole_image_is_its_own(tmp_path):
    folder = fill(
        tmp_path,
        {
            "a.jpg": "a",
            "a.jpg.txt": "a cat",
            "b.jpg": "b",
            "b.jpg.json": '{"caption": "a dog"}',
            "c.png": "c",
            "c.txt": "a cow",
            "c.png.json": '{"by": "me"}',
            "d.jpg": "d1",
            "d.jpg.txt": "the photograph",
            "d.png": "d2",
            "d.png.txt": "the drawing",
            "e.jpg": "e1",
            "e.png": "e2",
            "e.txt": "of which?",
            "f.jpg.txt": "an image that is not there",
        },
    )
    found, _ = read({"type": "folder", "path": folder})
    assert fates(found) == {
        "a": None,
        "b": None,
        "c": None,
        "d.jpg": None,
        "d.png": None,
        "e": Reason.IMAGE_AMBIGUOUS,
        "f.jpg": Reason.IMAGE_MISSING,
    }
    assert {key: found[key].caption for key in "abc"} == {"a": "a cat", "b": "a dog", "c": "a cow"}
    assert found["c"].meta == '{"by": "me"}'


def test_both_unicode_forms_of_a_name_are_one_sample(tmp_path):
    folder = fill(tmp_path, {"caf\u00e9.jpg": "a", "cafe\u0301.txt": "a coffee"})
    assert fates(read({"type": "folder", "path": folder})[0]) == {"caf\u00e9": None}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_jsonl_may_begin_with_a_byte_order_mark(tmp_path, encoding, end):
    fill(tmp_path, {"a.jpg": "a", "b.jpg": "b"})
    text = end.join(['{"file": "a.jpg", "caption": "un café"}', "", '{"file": "b.jpg", "caption": "c\u2028d"}', ""])
    (tmp_path / "captions.jsonl").write_bytes(text.encode(encoding))
    found, _ = read({"type": "folder", "path": tmp_path, "captions": tmp_path / "captions.jsonl"})
    assert {key: item.caption for key, item in found.items()} == {"a": "un café", "b": "c d"}


def test_joined_jsonls_may_have_a_mark_in_each(tmp_path):
    fill(tmp_path, {"a.jpg": "a", "b.jpg": "b"})
    one, two = lines({"file": "a.jpg", "caption": "a cat"}), lines({"file": "b.jpg", "caption": "a dog"})
    (tmp_path / "captions.jsonl").write_bytes(b"\xef\xbb\xbf" + one + b"\n\xef\xbb\xbf" + two)
    source = {"type": "folder", "path": tmp_path, "captions": tmp_path / "captions.jsonl"}
    assert fates(read(source)[0]) == {"a": None, "b": None}


@pytest.mark.parametrize("data", [b"\xff\xfea", b"\xff\xfe\x00\xd8a\x00"])
def test_a_jsonl_that_does_not_decode_is_named(tmp_path, data):
    (tmp_path / "captions.jsonl").write_bytes(data)
    with pytest.raises(UserError, match=r"captions\.jsonl is damaged"):
        read({"type": "folder", "path": tmp_path, "captions": tmp_path / "captions.jsonl"})


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_for_a_jsonl_is_named(tmp_path, indent):
    (tmp_path / "captions.jsonl").write_text(json.dumps([{"file": "a.jpg", "caption": "a cat"}], indent=indent))
    with pytest.raises(UserError, match="one JSON array: write one object a line"):
        read({"type": "folder", "path": tmp_path, "captions": tmp_path / "captions.jsonl"})


def test_files_of_one_stem_are_one_entry_at_the_place_of_the_first():
    assert list(grouped("b.png", "a.json", "a.jpg", "a.txt").items()) == [
        ("b", ["b.png"]),
        ("a", ["a.json", "a.jpg", "a.txt"]),
    ]


def test_a_stem_ends_at_the_last_dot_inside_its_folder():
    assert grouped("v1.2/a.b.JPG", "v1.2/a.b.txt", "v1.2/a.txt", "v1.3/README") == {
        "v1.2/a.b": ["v1.2/a.b.JPG", "v1.2/a.b.txt"],
        "v1.2/a": ["v1.2/a.txt"],
        "v1.3/README": ["v1.3/README"],
    }


def test_a_name_of_dots_and_a_suffix_has_a_stem_of_dots():
    assert grouped("..jpg", "..txt", "f/..jpg") == {".": ["..jpg", "..txt"], "f/.": ["f/..jpg"]}


def test_of_two_images_of_one_stem_the_one_with_its_own_text_stands_apart():
    assert grouped("a.jpg", "a.jpg.txt", "a.png", "a.txt") == {"a.jpg": ["a.jpg", "a.jpg.txt"], "a": ["a.png", "a.txt"]}
    assert grouped("a.jpg", "a.jpg.txt", "a.txt") == {"a": ["a.jpg", "a.jpg.txt", "a.txt"]}


def test_images_that_no_line_names_follow_the_lines(tmp_path):
    told = ['{"source": "a.png", "target": "./b.png"}', "broken", '["c.png"]', '{"target": 7}', "[" * 100_000]
    path = fill(tmp_path, {"t.jsonl": "\n\n".join(told) + "\n"}) / "t.jsonl"
    listing = Listing(files("a.png", "b.png", "c.png", "notes.txt"))
    entries = jsonl_entries(str(path), str(tmp_path), listing, ("source", "target"), "edits")
    assert entries == [*told, '{"target": "c.png"}']


def test_a_folder_that_may_not_be_read_is_told_unless_lines_name_images_in_it(tmp_path):
    path = fill(tmp_path, {"c.jsonl": '{"file": "./named/a.jpg"}\n{"file": "unnamed.jpg"}'}) / "c.jsonl"
    refused = [(name, "permission", "why") for name in ("named/", "unnamed/")]
    listing = Listing(refused=list(refused))
    jsonl_entries(str(path), str(tmp_path), listing, ("file",), "photos")
    assert listing.refused == refused[1:]


@pytest.mark.parametrize("name", ["\\ud83d.svg", "a\\u0000b.jpg"])
def test_a_name_that_no_file_can_have_is_an_entry_of_its_own(tmp_path, name):
    line = f'{{"file": "{name}", "caption": "y"}}'
    path = fill(tmp_path, {"c.jsonl": line}) / "c.jsonl"
    entries = jsonl_entries(str(path), str(tmp_path), Listing(files("a.jpg")), ("file",), "photos")
    assert entries == [line, '{"file": "a.jpg"}']


def test_bytes_that_are_no_text_survive_in_their_line(tmp_path):
    line = b'{"file": "a.jpg", "caption": "caf\xe9"}'
    (tmp_path / "c.jsonl").write_bytes(line)
    (entry,) = jsonl_entries(str(tmp_path / "c.jsonl"), str(tmp_path), Listing(files("a.jpg")), ("file",), "photos")
    assert entry.encode("utf-8", "surrogateescape") == line


@pytest.mark.parametrize("name", ["gone.jsonl", "folder", "folder/a.jpg/c.jsonl"])
def test_a_jsonl_that_is_not_there_is_named_with_its_source(tmp_path, name):
    fill(tmp_path, {"folder/a.jpg": "a"})
    sentence = f"source 'photos': {tmp_path}/{name} does not exist: name the jsonl that lists its images"
    with pytest.raises(UserError, match=sentence):
        jsonl_entries(f"{tmp_path}/{name}", str(tmp_path), Listing(), ("file",), "photos")

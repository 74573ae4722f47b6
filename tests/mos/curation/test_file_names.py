import pytest

from mos.curation.file_names import is_safe_name, spellings, suffix
from tests.mos.curation.folder_reading import fates, fill, jsonl, read


def test_other_spellings_name_the_same_file(tmp_path):
    folder = fill(
        tmp_path / "photos",
        dict.fromkeys(["0.jpg", "1.jpg", "2.jpg", "3.jpg", "b/4.jpg", "b/5.jpg", "b/6.jpg", "7\\8.jpg"], "x")
        | {"caf\u00e9.jpg": "nfc", "the\u0301.jpg": "nfd", "12:30.jpg": "half past"},
    )
    (tmp_path / "other").symlink_to(folder)
    (folder / "latest").symlink_to("b")
    names = {
        "./0.jpg": "0",
        f"{folder}/1.jpg": "1",
        f"file://{folder}/2.jpg": "2",
        f"{tmp_path}/other/3.jpg": "3",
        "b//4.jpg": "b/4",
        "b/../b/./5.jpg": "b/5",
        "b\\6.jpg": "b\\6",
        "7\\8.jpg": "7\\8",
        "cafe\u0301.jpg": "cafe\u0301",
        "th\u00e9.jpg": "th\u00e9",
        "12:30.jpg": "12:30",
    }
    source = jsonl(folder, *({"file": name, "caption": f"picture {name}"} for name in names))
    found, _ = read(source)
    assert fates(found) == dict.fromkeys(names.values(), None)
    (folder / "captions.jsonl").unlink()
    source = jsonl(folder, *({"file": f"latest/{number}.jpg", "caption": "a cat"} for number in (4, 5, 6)))
    found, _ = read(source)
    assert [key for key, fate in fates(found).items() if fate is None] == ["latest/4", "latest/5", "latest/6"]
    assert not {"b/4", "b/5", "b/6"} & set(found), "they were named by another way"


def test_spellings_of_objects_in_a_store():
    folder = "s3://bucket/photos"
    assert spellings("s3://bucket/photos/a.jpg", folder) == ["a.jpg"]
    assert spellings("./b//a.jpg", folder) == ["b/a.jpg"]
    assert spellings("s3://bucket/photos-2/a.jpg", folder) == []
    assert spellings("s3://bucket/photos/../a.jpg", folder) == []
    assert spellings("/bucket/photos/a.jpg", folder) == []


@pytest.mark.parametrize("name", ["a.jpg", "a/b.jpg", "..a.jpg", "12:30.jpg", "a:b/c.jpg", "...", "a..b"])
def test_safe_names(name):
    assert is_safe_name(name)


@pytest.mark.parametrize("name", ["", "/a", "../a", "a/..", "a\\..\\b", "C:\\a", "c:/a", "a\0b", "x::y"])
def test_unsafe_names(name):
    assert not is_safe_name(name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.JPG", "jpg"),
        ("folder.v2/a.tar.gz", "gz"),
        ("source.png", "png"),
        ("png", "png"),
        ("folder.png/README", "readme"),
        (".hidden", "hidden"),
        ("a.", ""),
        ("", ""),
    ],
)
def test_a_suffix_follows_the_last_dot_of_the_file_itself(name, kind):
    assert suffix(name) == kind


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("a.jpg", ["a.jpg"]),
        ("./b/../a.jpg", ["a.jpg"]),
        ("/data/photos/b//a.jpg", ["b/a.jpg"]),
        ("file:///data/photos/a.jpg", ["a.jpg"]),
        ("b\\a.jpg", ["b\\a.jpg", "b/a.jpg"]),
        ("caf\u00e9.jpg", ["caf\u00e9.jpg", "cafe\u0301.jpg"]),
        ("cafe\u0301.jpg", ["cafe\u0301.jpg", "caf\u00e9.jpg"]),
        ("/data/photos-2/a.jpg", []),
        ("/data/photos/../a.jpg", []),
        ("/data/photos", []),
        ("../photos/a.jpg", []),
        ("https://example.org/a.jpg", []),
        (".", []),
        ("", []),
    ],
)
@pytest.mark.parametrize("folder", ["/data/photos", "/data/photos/"])
def test_a_name_means_the_files_inside_the_folder_the_likeliest_first(folder, name, files):
    assert spellings(name, folder) == files


def test_an_absolute_name_may_go_through_links_to_the_folder(tmp_path):
    folder = fill(tmp_path / "photos", {"a.jpg": "a"})
    (tmp_path / "linked").symlink_to(folder)
    assert spellings(f"{tmp_path}/linked/a.jpg", str(folder)) == ["a.jpg"]
    assert spellings(f"{folder}/a.jpg", f"{tmp_path}/linked") == ["a.jpg"]
    assert spellings(f"{tmp_path}/a.jpg", f"{tmp_path}/linked") == []

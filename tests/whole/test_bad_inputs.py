"""Each kind of bad input ends in its own reason, and takes nothing with it."""

import json
import os
import pickle
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from mos.curation.config import CurateConfig
from mos.curation.manifest import light_schema, manifest_of
from mos.curation.sources import list_units
from mos.images.reasons import Reason
from operators.assign_bucket import AssignBucket
from operators.decode_image import DecodeImage
from operators.drop_images import DropImages
from operators.measure_image import MeasureImage
from operators.read_shards import ReadShards
from tests.operators.bad_inputs import (
    Case,
    add,
    cases,
    encode,
    good,
    noise,
    with_witnesses,
    write_folder,
    write_jsonl,
    write_tar,
)

RESOLUTIONS = (32,)


def config(image: dict | None = None, **source) -> CurateConfig:
    return CurateConfig(sources=[{"name": "s", **source}], resolutions=RESOLUTIONS, token_px=8, image=image or {})


def curate(settings: CurateConfig) -> pa.Table:
    """What the pipeline does, without Ray."""
    operators = [
        DecodeImage(settings.image),
        MeasureImage(),
        AssignBucket(settings.buckets(), settings.max_upscale),
        DropImages(settings.resolutions),
    ]
    with manifest_of(light_schema(settings.resolutions)) as marks:
        for unit in list_units(settings.sources, Path("/")):
            for batch in ReadShards(settings)(pa.table({"unit": [unit.to_json()]})):
                for operator in operators:
                    batch = operator(batch)
                marks.add(batch)
        marks.refuse_copies(None, settings.duplicates.near_bits)
        return marks.items().read_all()


def fates(marks: pa.Table) -> dict[str, str | None]:
    """Key -> reason; every key ends once."""
    keys = marks.column("key").to_pylist()
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, marks.column("reason").to_pylist(), strict=True))


def expected(found: dict[str, Case]) -> dict[str, str | None]:
    return {key: case.reason and str(case.reason) for key, case in found.items()}


def test_bad_samples_in_a_tar(tmp_path):
    found = with_witnesses(cases())
    assert len({case.reason for case in found.values()}) > 30
    write_tar(tmp_path / "s.tar", found)
    assert fates(curate(config(type="webdataset", paths=[str(tmp_path / "s.tar")]))) == expected(found)


def test_bad_samples_in_a_folder(tmp_path):
    found = with_witnesses(cases())
    write_folder(tmp_path / "s", found)
    assert fates(curate(config(type="folder", path=str(tmp_path / "s")))) == expected(found)


def test_bad_samples_in_a_jsonl(tmp_path):
    found = write_jsonl(tmp_path / "s", with_witnesses(cases()))
    settings = config(type="folder", path=str(tmp_path / "s"), captions=str(tmp_path / "s" / "captions.jsonl"))
    assert fates(curate(settings)) == expected(found)


def test_bad_lines_of_a_jsonl(tmp_path):
    for name in ("a.png", "b.png", "c.png", "x.svg", "unnamed.png"):
        (tmp_path / name).write_bytes(encode(noise(ord(name[0])), "PNG"))
    (tmp_path.parent / "outside.png").write_bytes(encode(noise(), "PNG"))
    (tmp_path / "link.png").symlink_to(tmp_path.parent / "outside.png")
    (tmp_path / "inside.png").symlink_to(tmp_path / "c.png")
    lines = [
        b'{"file": "a.png", "caption": "sound", "key": "a"}',
        b'{"file": "a.png", "caption": "the same image told otherwise", "key": "a2"}',
        b'{"file": "gone.png", "caption": "no such file", "key": "gone"}',
        b'{"file": "../outside.png", "caption": "leaves", "key": "up"}',
        b'{"file": "/etc/hostname.png", "caption": "leaves", "key": "absolute"}',
        b'{"file": "link.png", "caption": "leaves by a link", "key": "link"}',
        b'{"file": "inside.png", "caption": "a link that stays", "key": "inside"}',
        b'{"file": "x.svg", "caption": "no such type", "key": "type"}',
        b'{"file": "b.png", "key": "silent"}',
        b'{"file": 7, "caption": "no name", "key": "number"}',
        b'{"file": "b.png", "caption": "caf\xe9", "key": "latin"}',
        b"not json",
        b"[]",
    ]
    (tmp_path / "captions.jsonl").write_bytes(b"\n".join(lines))
    found = fates(curate(config(type="folder", path=str(tmp_path), captions=str(tmp_path / "captions.jsonl"))))
    assert found.pop("line 'not json'") == Reason.JSON_INVALID
    assert found.pop("line '[]'") == Reason.JSON_NOT_OBJECT
    assert [found.pop(key) for key in list(found) if key.startswith("line ")] == [Reason.CAPTION_NOT_UTF8]
    assert found == {
        "a": None,
        "a2": None,
        "gone": Reason.IMAGE_MISSING,
        "up": Reason.MEMBER_UNSAFE_NAME,
        "absolute": Reason.MEMBER_UNSAFE_NAME,
        "link": Reason.MEMBER_NOT_REGULAR,
        "inside": None,
        "type": Reason.MEMBER_TYPE_REFUSED,
        "silent": Reason.CAPTION_MISSING,
        "number": Reason.IMAGE_MISSING,
        # images that no line names
        "c": Reason.CAPTION_MISSING,
        "unnamed": Reason.CAPTION_MISSING,
    }


def tar_of(path: Path, *members: tuple) -> CurateConfig:
    with tarfile.open(path, "w") as tar:
        for member in members:
            add(tar, *member)
    return config(type="webdataset", paths=[str(path)])


def test_bad_members_of_a_tar(tmp_path):
    png = [encode(noise(seed), "PNG") for seed in range(20)]
    settings = tar_of(
        tmp_path / "s.tar",
        ("link.png", b"", tarfile.SYMTYPE, "/etc/passwd"),
        ("link.txt", b"a symbolic link"),
        ("hard.png", b"", tarfile.LNKTYPE, "a.png"),
        ("hard.txt", b"a hard link"),
        ("device.png", b"", tarfile.CHRTYPE),
        ("../up.png", png[0]),
        ("../up.txt", b"leaves"),
        ("/root.png", png[1]),
        ("/root.txt", b"absolute"),
        ("folder", b"", tarfile.DIRTYPE),
        ("folder/a.png", png[2]),
        ("folder/a.txt", b"sound"),
        ("twice.png", png[3]),
        ("twice.txt", b"first"),
        ("twice.png", png[4]),
        ("twice.txt", b"second"),
        ("apart.png", png[5]),
        ("b.png", png[6]),
        ("b.txt", b"sound too"),
        ("apart.txt", b"paired all the same"),
        ("readme.md", b"# not a sample"),
        ("k" * 2000 + ".png", png[7]),
        ("z.png", png[8]),
        ("z.txt", b"last"),
    )
    marks = curate(settings)
    found = list(zip(marks.column("key").to_pylist(), marks.column("reason").to_pylist(), strict=True))
    assert found == [
        ("link", Reason.MEMBER_NOT_REGULAR),
        ("hard", Reason.MEMBER_NOT_REGULAR),
        ("device", Reason.MEMBER_NOT_REGULAR),
        ("../up", Reason.MEMBER_UNSAFE_NAME),
        ("/root", Reason.MEMBER_UNSAFE_NAME),
        ("folder/a", None),
        ("twice", None),
        ("twice", Reason.KEY_DUPLICATE),
        ("apart", None),
        ("b", None),
        ("readme", Reason.MEMBER_TYPE_REFUSED),
        ("k" * 2000, Reason.MEMBER_NAME_TOO_LONG),
        ("z", None),
    ]


@pytest.mark.parametrize("inside", ["b.png", "b.txt", "c.png"])
def test_a_tar_cut_inside_a_member_loses_that_sample_alone(tmp_path, inside):
    found = {"a": good(0), "b": good(1), "c": good(2)}
    write_tar(tmp_path / "s.tar", found)
    with tarfile.open(tmp_path / "s.tar") as tar:
        end = tar.getmember(inside).offset_data + 3
    write_tar(tmp_path / "s.tar", found, end=end)
    marks = fates(curate(config(type="webdataset", paths=[str(tmp_path / "s.tar")])))
    whole = {"a": None, "b": None} if inside == "c.png" else {"a": None}
    assert marks == whole | {inside[0]: Reason.SHARD_TRUNCATED}


def test_a_tar_cut_between_members_is_noticed(tmp_path):
    write_tar(tmp_path / "s.tar", {"a": good(0)})
    with tarfile.open(tmp_path / "s.tar") as tar:
        last = tar.getmembers()[-1]
    write_tar(tmp_path / "s.tar", {"a": good(0)}, end=last.offset_data + 512)
    marks = fates(curate(config(type="webdataset", paths=[str(tmp_path / "s.tar")])))
    assert marks == {"a": None, "(shard)": Reason.SHARD_TRUNCATED}


def other_formats() -> dict[str, Case]:
    """Pictures that are read where the config says so, and the setting that says it."""
    frames = {"save_all": True, "append_images": [noise(90), noise(91)]}
    found = {kind: (kind, encode(noise(80 + place), kind)) for place, kind in enumerate(("avif", "bmp", "gif", "tiff"))}
    found |= {"avif_named_jpg": ("jpg", found["avif"][1] + b"\0"), "tif": ("TIF", encode(noise(85), "TIFF"))}
    found |= {
        f"animated_{kind}": (kind, encode(noise(86 + place), kind, **frames)) for place, kind in enumerate(ANIMATED)
    }
    return {key: Case({suffix: data, "txt": f"a {key}".encode()}, None) for key, (suffix, data) in found.items()}


ANIMATED = ("webp", "png", "gif", "avif")
EXTRA = {"extra_formats": ["avif", "bmp", "gif", "tiff"]}


def test_other_formats_and_first_frames_are_read_where_the_config_says_so(tmp_path):
    found = other_formats()
    write_tar(tmp_path / "s.tar", found)
    write_folder(tmp_path / "s", found)
    for source in ({"type": "webdataset", "paths": [tmp_path / "s.tar"]}, {"type": "folder", "path": tmp_path / "s"}):
        assert fates(curate(config(EXTRA | {"animated": "first_frame"}, **source))) == dict.fromkeys(found)
        marks = curate(config(EXTRA, **source))
        animated = {key for key in found if key.startswith("animated_")}
        assert {key for key, reason in fates(marks).items() if reason == Reason.IMAGE_ANIMATED} == animated
        marks = curate(config(**source))
        assert len(fates(marks)) == len(found)
        assert None not in fates(marks).values()
        assert all("curate.image." in detail for detail in marks.column("detail").to_pylist())


def test_one_bad_shard_does_not_stop_the_others(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"<html>" * 500)
    (tmp_path / "b.tar").write_bytes(b"")
    write_tar(tmp_path / "c.tar", {"c": good(0)})
    marks = curate(config(type="webdataset", paths=[str(tmp_path / "*.tar")]))
    assert marks.column("reason").to_pylist() == [Reason.SHARD_UNREADABLE, Reason.SHARD_TRUNCATED, None]


def test_bad_edits(tmp_path):
    source, target = encode(noise(0), "PNG"), encode(noise(1), "PNG")
    told = json.dumps({"instruction": "make it blue"}).encode()
    members = {
        "sound": {"source.png": source, "target.png": target, "json": told},
        "no_source": {"target.png": target, "json": told},
        "no_target": {"source.png": source, "json": told},
        "unchanged": {"source.png": source, "target.png": source, "json": told},
        "cut_source": {"source.png": source[: len(source) // 2], "target.png": target, "json": told},
        "silent": {"source.png": source, "target.png": target},
        "again": {"source.png": source, "target.png": target, "json": told},
    }
    write_tar(tmp_path / "s.tar", {key: Case(files, None) for key, files in members.items()})
    marks = curate(config(type="edits", paths=[str(tmp_path / "s.tar")]))
    assert fates(marks) == {
        "sound": None,
        "no_source": Reason.REFERENCE_MISSING,
        "no_target": Reason.IMAGE_MISSING,
        "unchanged": Reason.EDIT_UNCHANGED,
        "cut_source": Reason.IMAGE_TRUNCATED,
        "silent": Reason.CAPTION_MISSING,
        "again": Reason.DUPLICATE_EXACT,
    }
    assert set(marks.column("task").to_pylist()) == {"edit"}
    assert marks.column("detail").to_pylist()[4].startswith("reference: ")


class Canary:
    """Unpickling it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mknod, (str(self.path),))


def test_nothing_in_a_shard_is_executed(tmp_path):
    bomb = pickle.dumps(Canary(tmp_path / "canary"))
    files = dict.fromkeys(("png", "txt", "json", "pkl", "pickle", "pyd", "pt", "pth", "npy"), bomb)
    write_tar(tmp_path / "s.tar", {"evil": Case(files, None), "good": good(0)})
    marks = fates(curate(config(type="webdataset", paths=[str(tmp_path / "s.tar")])))
    assert marks["good"] is None
    assert marks["evil"] is not None
    assert not (tmp_path / "canary").exists()

import json
import tomllib
from dataclasses import replace

import pytest

from mos.curation.sources import EditsSource, WebDatasetSource, list_units
from mos.errors import UserError
from mos.exports.folder import RECORDS, ExportFolder
from mos.exports.plan import Shard
from mos.fingerprint import sha256_hex

ABOUT = {"format": "webdataset", "view": "width > 3", "samples": {"version": 3}}
SHARDS = [
    Shard("edits-00000.tar", "edits", "edit", 0, 9, 3),
    Shard("photos-00000.tar", "photos", "generate", 0, 9, 4),
    Shard("photos-00001.tar", "photos", "generate", 10, 19, 2),
]


@pytest.fixture
def folder(tmp_path) -> ExportFolder:
    folder = ExportFolder(tmp_path / "out")
    folder.claim(ABOUT)
    return folder


def write(folder: ExportFolder, *shards: Shard) -> None:
    for shard in shards:
        (folder.path / shard.name).parent.mkdir(exist_ok=True)
        (folder.path / shard.name).write_bytes(shard.name.encode() * 3)
        folder.record(shard)


def test_what_is_not_there_as_recorded_is_missing(folder):
    assert folder.missing(SHARDS) == SHARDS
    write(folder, *SHARDS)
    assert folder.missing(SHARDS) == []
    (folder.path / SHARDS[0].name).unlink()
    (folder.path / SHARDS[1].name).write_bytes(b"cut")
    assert folder.missing(SHARDS) == SHARDS[:2]
    (folder.path / RECORDS / f"{SHARDS[2].name}.json").unlink()  # written, but its task was stopped before it said so
    assert folder.missing(SHARDS) == SHARDS


def test_a_record_has_size_and_sum(folder):
    data = SHARDS[0].name.encode() * 3
    write(folder, SHARDS[0])
    (record,) = folder.records()
    assert (record.num, record.num_bytes, record.sha256) == (3, len(data), sha256_hex(data))


def test_an_export_is_refused_by_the_folder_of_another(folder):
    folder.claim(ABOUT)
    with pytest.raises(UserError, match=r"its view is 'width > 3', not 'all'\): name another folder") as error:
        folder.claim(ABOUT | {"view": "all"})
    assert "--force" in str(error.value)


def test_files_that_are_no_export_are_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    folder = ExportFolder(tmp_path)
    with pytest.raises(UserError, match="no export: name another folder"):
        folder.claim(ABOUT)
    with pytest.raises(UserError, match="no export"):
        folder.claim(ABOUT, replace=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(UserError, match="is no folder"):
        ExportFolder(tmp_path / "mine.txt").claim(ABOUT)


def test_replacing_takes_the_export_and_nothing_else(folder):
    write(folder, *SHARDS)
    folder.finish("webdataset", SHARDS)
    (folder.path / "notes.json").write_text("mine")
    (folder.path / ".photos-00002.tar.17.partial").write_text("killed while it wrote")
    other = ABOUT | {"view": "all"}
    folder.claim(other, replace=True)
    assert files(folder) == [".export.json", "notes.json"]
    folder.claim(other)
    with pytest.raises(UserError, match="holds another export"):
        folder.claim(ABOUT)


def files(folder: ExportFolder) -> list[str]:
    return sorted(path.name for path in folder.path.rglob("*") if path.is_file())


def test_indexes_and_sources_are_what_curation_reads(folder):
    write(folder, *SHARDS)
    assert [shard.name for shard in folder.finish("webdataset", SHARDS)] == [shard.name for shard in SHARDS]
    index = json.loads((folder.path / "photos.json").read_text())
    assert [(shard["url"], shard["nsamples"]) for shard in index["shardlist"]] == [
        ("photos-00000.tar", 4),
        ("photos-00001.tar", 2),
    ]
    (edits, photos) = tomllib.loads((folder.path / "sources.toml").read_text())["curate"]["sources"]
    sources = [EditsSource(**edits), WebDatasetSource(**photos)]
    units = list_units(sources, folder.path)
    assert [(unit.source, unit.shard) for unit in units] == [
        (shard.source, str(folder.path / shard.name)) for shard in SHARDS
    ]


def test_parquet_gets_a_card_and_sums(folder):
    shards = [replace(SHARDS[0], name="data/train-00000-of-00001.parquet", source="", task="")]
    write(folder, *shards)
    folder.finish("parquet", shards)
    assert "path: data/train-*.parquet" in (folder.path / "README.md").read_text()
    (line,) = json.loads((folder.path / "shards.json").read_text())
    assert line["num"] == 3
    assert len(line["sha256"]) == 64
    folder.claim(ABOUT, replace=True)
    assert files(folder) == [".export.json"]

import json

import fsspec
import pytest

from mos.curation.config import CurateConfig
from mos.curation.shard_index import IndexedShard, read_index
from mos.curation.shards import read_unit
from mos.curation.sources import EditsSource, WebDatasetSource, list_units
from mos.errors import UserError
from tests.operators.bad_inputs import good, write_tar


def write_index(path, *shards, **keys):
    path.write_text(json.dumps({"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": shards} | keys))
    return str(path)


def shard(url, **keys):
    return {"url": str(url), "nsamples": 3} | keys


def test_urls_are_of_the_folder_of_the_index(tmp_path):
    urls = ("a.tar", "sub/b.tar.gz", "./c.tar", f"{tmp_path}/d.tar")
    found = read_index(write_index(tmp_path / "index.json", *map(shard, urls), shard("e.tar", filesize=3)), "w")
    names = ("a.tar", "sub/b.tar.gz", "c.tar", "d.tar", "e.tar")
    assert [one.name for one in found] == [f"{tmp_path}/{name}" for name in names]
    assert found[-1] == IndexedShard(f"{tmp_path}/e.tar", 3)
    assert found[0].size is None


@pytest.mark.parametrize(
    "url", ["../a.tar", "/etc/passwd", "http://169.254.169.254/a.tar", "pipe:cat a.tar", "s3://other/a.tar", "a::b.tar"]
)
def test_an_index_leads_nowhere_else(tmp_path, url):
    index = write_index(tmp_path / "index.json", shard(url))
    if url.startswith("pipe"):  # the name of a file that is not there, and no command
        with pytest.raises(UserError, match="is not there"):
            list_units([WebDatasetSource(type="webdataset", name="w", paths=(index,))], tmp_path)
        return
    with pytest.raises(UserError, match="leads out of its folder"):
        read_index(index, "w")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "has no `shardlist`"),
        ('{"shardlist": []}', "has no `shardlist`"),
        ('{"shardlist": "a.tar"}', "has no `shardlist`"),
        ('{"shardlist": ["a.tar"]}', "has no url"),
        ('{"shardlist": [{"url": 3}]}', "has no url"),
        ('{"wids_version": 2, "shardlist": [{"url": "a.tar"}]}', "wids_version 2"),
        ('{"datasets": [{"source_url": "http://elsewhere"}]}', "has no `shardlist`"),
    ],
)
def test_what_is_no_index_is_named(tmp_path, text, told):
    path = tmp_path / "index.json"
    path.write_text(text)
    with pytest.raises(UserError, match=told) as error:
        read_index(str(path), "w")
    assert str(path) in str(error.value)
    assert "'w'" in str(error.value)


def test_an_index_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_index(str(tmp_path / "index.json"), "w")


def test_an_index_stands_for_its_shards_in_their_order(tmp_path):
    for name in ("b.tar", "a.tar", "c.tar"):
        write_tar(tmp_path / name, {"k": good(1)})
    index = write_index(tmp_path / "index.json", shard("b.tar"), shard("a.tar"))
    units = list_units([WebDatasetSource(type="webdataset", name="w", paths=("index.json", "b.tar"))], tmp_path)
    assert [unit.shard for unit in units] == [f"{tmp_path}/b.tar", f"{tmp_path}/a.tar"]
    plain = list_units([WebDatasetSource(type="webdataset", name="w", paths=("b.tar", "a.tar"))], tmp_path)
    assert [unit.num_bytes for unit in units] == [unit.num_bytes for unit in plain]
    edits = list_units([EditsSource(type="edits", name="e", paths=(index,))], tmp_path)
    assert [unit.shard for unit in edits] == [unit.shard for unit in units]
    source = WebDatasetSource(type="webdataset", name="w", paths=(index,))
    config = CurateConfig(sources=(source,), resolutions=(32,), token_px=4)
    assert [item.key for unit in units for item in read_unit(unit, source, config)] == ["k", "k"]


def test_a_shard_that_is_lacking_or_cut_is_named_before_anything_is_read(tmp_path):
    write_tar(tmp_path / "a.tar", {"k": good(1)})
    size = (tmp_path / "a.tar").stat().st_size
    source = WebDatasetSource(type="webdataset", name="w", paths=("index.json",))
    write_index(tmp_path / "index.json", shard("a.tar", filesize=size), shard("b.tar"))
    with pytest.raises(UserError, match=r"b\.tar is not there"):
        list_units([source], tmp_path)
    write_index(tmp_path / "index.json", shard("a.tar", filesize=size + 512))
    with pytest.raises(UserError, match=f"has {size} bytes, not the {size + 512}"):
        list_units([source], tmp_path)


def test_an_index_in_an_object_store():
    with fsspec.open("memory://indexed/s0.tar", "wb") as stream:
        stream.write(b"x")
    for urls in (("s0.tar",), ("memory:///indexed/s0.tar",)):
        with fsspec.open("memory://indexed/index.json", "w") as stream:
            json.dump({"shardlist": [shard(url, filesize=1) for url in urls]}, stream)
        source = WebDatasetSource(type="webdataset", name="w", paths=("memory://indexed/index.json",))
        assert [unit.shard for unit in list_units([source], None)] == ["memory:///indexed/s0.tar"]
    with fsspec.open("memory://indexed/index.json", "w") as stream:
        json.dump({"shardlist": [shard("none.tar")]}, stream)
    with pytest.raises(UserError, match="is not there"):
        list_units([source], None)

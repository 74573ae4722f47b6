"""Tables on an S3-compatible store: encoded, shared, recovered, read, looked after. A real server on loopback."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from mos.tables.committer import Committer, latents_schema, write_encoded
from mos.tables.inventory import list_tables
from mos.tables.lance import create_table, latest_version, read_column
from mos.tables.payloads import LatentTable, RowCache, StateTable
from mos.tables.removal import compact
from mos.tables.runs import read_runs, register_run
from pipelines.run.config import load_run
from tests.kills import encode_without_ray, make_run

moto_server = pytest.importorskip("moto.moto_server.threaded_moto_server", reason="moto's S3 server is not installed")
boto3 = pytest.importorskip("boto3")

SCHEMA = latents_schema("pixel-1", 12, 2)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URI of a bucket, with everything set that Lance needs to reach it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT", address)
        patch.setenv("AWS_ALLOW_HTTP", "true")
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket="tables")
        yield "s3://tables"
    server.stop()


def rows(*keys: str) -> pa.Table:
    values = [{"latent_key": key, "bucket": "4x4", "payload": 100 * key.encode()} for key in keys]
    return pa.Table.from_pylist(values, schema=SCHEMA)


def test_a_run_encodes_into_a_bucket_and_its_rows_are_those_of_a_folder(tmp_path: Path, bucket: str) -> None:
    path = make_run(tmp_path / "run", 4)
    local = encode_without_ray(load_run(path), 2)
    remote_config = load_run(path, (f"tables={bucket}/run",))
    remote = encode_without_ray(remote_config, 2)
    assert all(table.uri.startswith("s3://") for table in remote)
    assert encode_without_ray(remote_config, 2) == remote
    for reader, ours, theirs in zip((StateTable, LatentTable), local, remote, strict=True):
        kept, read = (reader(table, RowCache(0)).payloads(list(range(table.rows))) for table in (ours, theirs))
        assert all(one == other for one, other in zip(kept, read, strict=True))


def test_writers_at_once_share_a_bucket_without_losing_or_doubling(bucket: str) -> None:
    uri = f"{bucket}/latents/shared.lance"
    wanted = [f"{number:02d}" for number in range(12)]

    def run(size: int) -> int:
        committer = Committer(create_table(uri, SCHEMA), 1)
        present = set(read_column(committer.table, "latent_key"))
        todo = [key for key in wanted if key not in present]
        committer.expect(todo)
        for start in range(0, len(todo), size):
            committer.add(write_encoded(uri, rows(*todo[start : start + size]), {}).to_pylist())
        committer.finish()
        return committer.num_committed

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(run, (2, 3, 5))) == len(wanted)
    assert sorted(read_column(latest_version(uri), "latent_key")) == wanted


def test_a_killed_runs_fragments_are_found_in_a_bucket(bucket: str) -> None:
    uri = f"{bucket}/latents/killed.lance"
    committer = Committer(create_table(uri, SCHEMA), 1)
    write_encoded(uri, rows("a", "b"), {})
    assert committer.recover() == 2
    assert committer.recover() == 0
    assert sorted(read_column(latest_version(uri), "latent_key")) == ["a", "b"]


def test_the_tool_knows_tables_in_a_bucket(tmp_path: Path, bucket: str) -> None:
    folder, uri = f"{bucket}/tool", f"{bucket}/tool/latents/one.lance"
    register_run(folder, str(tmp_path), "a run")
    committer = Committer(create_table(uri, SCHEMA), 1)
    committer.expect("abc")
    for key in "abc":
        committer.add(write_encoded(uri, rows(key), {}).to_pylist())
    users = read_runs(folder)
    assert [(user.name, user.encodings) for user in users] == [("a run", ())]
    (listed,) = list_tables(folder, users)
    assert (listed.uri, listed.rows, listed.num_fragments, listed.users) == (uri, 3, 3, ())
    assert listed.num_bytes > 300
    assert compact(uri, 100) == (3, 1)
    assert latest_version(uri).rows == 3

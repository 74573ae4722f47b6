"""The tables tool on a run that was encoded without Ray: what it lists, what it notices, what it removes and keeps."""

import os
import time
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import pytest

from mos.encoders.load import describe_codec, describe_tower
from mos.feeding.progress import RankProgress, StreamProgress
from mos.ledger import StepLedger
from mos.tables.blobs import plain_schema
from mos.tables.lance import (
    TableVersion,
    commit_fragments,
    create_table,
    latest_version,
    open_table,
    read_column,
    table_exists,
    write_rows,
)
from mos.tables.removal import remove_orphans
from mos.tables.runs import read_runs, register_run, run_id
from pipelines import tables
from pipelines.run.config import RunConfig, load_run
from pipelines.run.steps import Run
from pipelines.run.views import encoded_views
from pipelines.train.lock import stage_lock
from tests.kills import encode_without_ray, make_run
from tests.samples import Pair, append_samples

NUM_SAMPLES = 6


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    config = load_run(make_run(tmp_path / "run", NUM_SAMPLES))
    record(config)
    return config


def record(config: RunConfig) -> TableVersion:
    """Encode in small fragments and leave the record that the encode step leaves."""
    samples = Run(config).require("curate").outputs["samples"]
    register_run(config.tables_folder(), config.root, config.name)
    states, latents = encode_without_ray(config, 2)
    tower, codec = describe_tower(config.encode.tower), describe_codec(config.encode.vae)
    views = {name: asdict(view) for name, view in encoded_views(config).items()}
    outputs = {"states": asdict(states), "latents": asdict(latents), "samples": samples, "views": views}
    Run(config).step("encode").finish(outputs | asdict(tower) | asdict(codec))
    return states


def run(config: RunConfig, *flags: str) -> None:
    names = ("verify", "compact", "remove", "yes", "now")
    tables.main(Run(config), Namespace(**{name: name in flags for name in names}))


def test_tables_are_listed_with_size_identity_and_users(config: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    run(config)
    out = capsys.readouterr().out
    tower = describe_tower(config.encode.tower).tower_id
    line = next(line for line in out.splitlines() if line.count(tower) > 1 or f" {tower}" in line)
    assert "bf16" in line
    assert f" {NUM_SAMPLES + 1} " in line
    assert config.name in line
    assert "1 records" in out
    assert [user.root for user in read_runs(config.tables_folder())] == [config.root]


def test_rows_are_verified_where_it_is_asked_for(config: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    run(config, "verify")
    assert "7 of 7 rows are encoded to the same values again, no drift" in capsys.readouterr().out


def test_compaction_keeps_every_row_and_every_pinned_version(config: RunConfig) -> None:
    states = TableVersion(**Run(config).require("encode").outputs["states"])
    before = states.open().scanner(blob_handling="all_binary").to_table()
    run(config, "compact")
    latest = latest_version(states.uri)
    assert len(latest.open().get_fragments()) == 1
    assert latest.open().scanner(blob_handling="all_binary").to_table() == before
    assert states.open().scanner(blob_handling="all_binary").to_table() == before
    assert encode_without_ray(config, 2)[0] == latest


def test_only_what_no_view_asks_for_is_removed_and_only_when_confirmed(
    config: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = set(read_column(TableVersion(**Run(config).require("encode").outputs["states"]), "context_key"))
    curated = StepLedger(config.root).records("curate")[0]
    samples = append_samples(Path(config.tables_folder()), [Pair("a caption that is dropped again", "red")])
    Run(config).step("curate").finish({"identity": "more", "samples": asdict(samples)})
    uri = encode_without_ray(config, 2)[0].uri
    Run(config).step("curate").finish(curated.outputs)
    run(config, "remove")
    assert "a run may be at work" in capsys.readouterr().out
    run(config, "remove", "now")
    assert f"would remove {uri}: 1 of 8 rows" in capsys.readouterr().out
    assert open_table(uri).count_rows() == 8
    run(config, "remove", "now", "yes")
    assert set(read_column(latest_version(uri), "context_key")) == needed
    assert encode_without_ray(config, 2)[0].rows == 7


def test_a_table_goes_only_when_no_record_names_it_and_every_run_can_be_asked(
    config: RunConfig, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    uri = Run(config).require("encode").outputs["states"]["uri"]
    for path in StepLedger(config.root).folder.glob("encode/*.json"):
        path.unlink()
    register_run(config.tables_folder(), str(tmp_path / "elsewhere"), "another")
    run(config, "remove", "now", "yes")
    file = f"{config.tables_folder()}/users/{run_id(str(tmp_path / 'elsewhere'))}.json"
    assert f"cannot be read from here: where these runs are gone for good, delete {file}" in capsys.readouterr().out
    assert table_exists(uri)
    (tmp_path / "elsewhere").mkdir()
    run(config, "remove", "now", "yes")
    assert not table_exists(uri)


def test_looking_registers_nobody(config: RunConfig) -> None:
    before = read_runs(config.tables_folder())
    run(config.model_copy(update={"root": f"{config.root}-of-another", "tables": config.tables_folder()}))
    assert read_runs(config.tables_folder()) == before


def test_a_queue_at_work_is_neither_compacted_nor_removed(
    config: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    states = TableVersion(**Run(config).require("encode").outputs["states"])
    uri = config.queue_uri("stage1", "abc")
    create_table(uri, plain_schema(states.open().schema))
    rows = states.open().scanner(blob_handling="all_binary").to_table().cast(plain_schema(states.open().schema))
    commit_fragments(uri, [*write_rows(uri, rows.slice(0, 2)), *write_rows(uri, rows.slice(2, 2))], 4)
    folder = config.folder("checkpoints", "stage1", "abc")
    with stage_lock(folder):
        run(config, "compact", "remove", "now", "yes")
    assert f"keeping {uri}" in capsys.readouterr().out
    assert len(open_table(uri).get_fragments()) == 2
    progress = StreamProgress(folder / "stream")
    progress.clear()
    progress.report(0, RankProgress(3, 0.0))
    run(config, "remove", "now", "yes")
    assert table_exists(uri)
    progress.clear()
    run(config, "remove", "now", "yes")
    assert not table_exists(uri)


def test_files_that_no_commit_names_go_after_a_week(config: RunConfig) -> None:
    uri = Run(config).require("encode").outputs["states"]["uri"]
    rows = open_table(uri).scanner(blob_handling="all_binary").to_table()
    kept = {path for path in Path(uri, "data").glob("**/*") if path.is_file()}
    write_rows(uri, rows.cast(plain_schema(open_table(uri).schema)))
    written = {path for path in Path(uri, "data").glob("**/*") if path.is_file()}
    assert written > kept
    remove_orphans(uri)
    assert {path for path in Path(uri, "data").glob("**/*") if path.is_file()} == written
    for path in written:
        os.utime(path, (time.time() - 8 * 86400,) * 2)
    remove_orphans(uri)
    assert {path for path in Path(uri, "data").glob("**/*") if path.is_file()} == kept
    assert open_table(uri).scanner(blob_handling="all_binary").to_table() == rows

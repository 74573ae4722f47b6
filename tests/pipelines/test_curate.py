"""Curation through Ray Data: real shards in, real tables out."""

import json
from argparse import Namespace
from pathlib import Path

import lance
import pytest

from mos.curation.config import AestheticConfig, ScorerConfig
from mos.curation.sources import EditsSource, FolderSource, WebDatasetSource
from mos.curation.tables import CurationOutputs
from mos.errors import UserError
from mos.shapes.dataset import LEDGER, ShapesConfig, write_shards
from mos.tables.lance import write_rows
from mos.tables.schema import REJECTS, samples_schema
from pipelines import curate
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run
from tests.operators.bad_inputs import Case, good, write_tar
from tests.operators.tiny_clip import save_tiny_clip

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data"
SHAPES = ShapesConfig(num_scenes=240, num_edits=40, samples_per_shard=60, broken_share=0.3)


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_shards(SHAPES, folder)
    return folder


@pytest.fixture
def own(small_run, tmp_path):
    """`own(*sources)`: the demo without its drawn data."""

    def load(*sources) -> RunConfig:
        config = small_run()
        section = config.curate.model_copy(update={"sources": sources})
        return config.model_copy(update={"shapes": None, "curate": section})

    return load


def run(config: RunConfig, dry_run: bool = False, force: bool = False) -> CurationOutputs | None:
    curate.main(Run(config), Namespace(dry_run=dry_run, force=force))
    return None if dry_run else CurationOutputs.from_outputs(Run(config).require("curate").outputs)


def tars(folder: Path) -> dict:
    return {"type": "webdataset", "name": "tars", "paths": (str(folder / "*.tar"),)}


def rows(table, *columns) -> list[dict]:
    return table.open().to_table(columns=list(columns)).to_pylist()


@pytest.mark.slow
def test_drawn_shards_become_tables(local_ray, own, shards, capsys):
    config = own(
        WebDatasetSource(type="webdataset", name="pairs", paths=(str(shards / "pairs-*.tar"),)),
        EditsSource(type="edits", name="edits", paths=(str(shards / "edits-*.tar"),)),
    )
    found = run(config)
    assert found.read == 280 == found.kept + sum(found.rejected.values())
    assert found.samples.open().schema.equals(samples_schema(config.curate.resolutions))
    assert found.rejects.open().schema.equals(REJECTS)
    rejected = {row["key"]: row["reason"] for row in rows(found.rejects, "key", "reason")}
    # a few sound scenes of one caption look alike
    broken = json.loads((shards / LEDGER).read_text(encoding="utf-8"))
    assert set(broken) <= set(rejected)
    assert {rejected[key] for key in set(rejected) - set(broken)} <= {"duplicate_near"}
    kept = rows(
        found.samples, "sample_id", "key", "task", "width", "height", "reference_hash", "sharpness", "bucket_32"
    )
    assert len({row["sample_id"] for row in kept}) == len(kept) == found.kept
    assert {row["task"] for row in kept} == {"generate", "edit"}
    assert all((row["task"] == "edit") == (row["reference_hash"] is not None) for row in kept)
    assert sum(found.buckets["32"].values()) == sum(row["bucket_32"] is not None for row in kept)
    assert "kept" in capsys.readouterr().out

    before = found.samples.open().version
    assert run(config) == found
    assert "already finished" in capsys.readouterr().out
    assert found.samples.open().version == before
    again = run(config, force=True)
    assert again.identity == found.identity
    assert (again.kept, again.rejected, again.buckets) == (found.kept, found.rejected, found.buckets)


def test_new_shards_only_add_rows(local_ray, own, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    config = own(WebDatasetSource(**tars(folder)))
    write_tar(folder / "a.tar", {str(seed): good(seed) for seed in range(5)})
    first = run(config)
    assert (first.read, first.kept) == (5, 5)

    # What a crash leaves behind: committed rows that no record names.
    table = first.samples.open().to_table()
    lance.write_dataset(table, first.samples.uri, mode="append")
    write_rows(first.samples.uri, table)
    assert lance.dataset(first.samples.uri).count_rows() == 10

    write_tar(folder / "b.tar", {str(seed): good(seed) for seed in range(3, 8)})
    capsys.readouterr()
    second = run(config)
    assert "2 units, 1 of them finished before" in capsys.readouterr().out
    assert (second.read, second.kept, second.rejected) == (10, 8, {"duplicate_exact": 2})
    assert second.identity != first.identity
    assert {row["sample_id"] for row in rows(first.samples, "sample_id")} < {
        row["sample_id"] for row in rows(second.samples, "sample_id")
    }
    assert first.samples.open().count_rows() == 5, "the version of the first record is still there"

    # The copy in b is kept once the original in a is gone: everything is read again.
    write_tar(folder / "a.tar", {str(seed): good(seed) for seed in range(2)})
    third = run(config)
    assert (third.read, third.kept, third.rejected) == (7, 7, {})


def test_other_settings_make_the_tables_anew(local_ray, own, tmp_path):
    write_tar(tmp_path / "a.tar", {str(seed): good(seed) for seed in range(4)})
    config = own(WebDatasetSource(**tars(tmp_path)))
    first = run(config)
    section = config.curate.model_copy(update={"resolutions": (16,), "duplicates": config.curate.duplicates})
    second = run(config.model_copy(update={"curate": section}))
    assert "bucket_16" in second.samples.open().schema.names
    assert "bucket_16" not in first.samples.open().schema.names
    assert first.identity != second.identity
    assert second.kept == 4


def test_order_of_work_does_not_decide_between_copies(local_ray, own, tmp_path):
    for shard in range(6):
        write_tar(tmp_path / f"{shard}.tar", {f"{shard}-{seed}": good(seed) for seed in range(4)})
    found = run(own(WebDatasetSource(**tars(tmp_path))))
    assert sorted(row["key"] for row in rows(found.samples, "key")) == ["0-0", "0-1", "0-2", "0-3"]
    assert found.rejected == {"duplicate_exact": 20}


def test_what_is_no_sample_is_counted_apart(local_ray, own, tmp_path, capsys):
    def litter(seed: int) -> dict[str, Case]:
        return {f"._{seed}": Case({"png": b"\0\5\x16\7", "txt": b"\0\5\x16\7"}, None), str(seed): good(seed)}

    folder = tmp_path / "in"
    folder.mkdir()
    write_tar(folder / "a.tar", litter(0) | litter(1))
    config = own(WebDatasetSource(**tars(folder)))
    run(config, dry_run=True)
    assert "counted apart: system_file" in capsys.readouterr().out
    first = run(config)
    out = capsys.readouterr().out
    assert (first.read, first.kept, first.rejected) == (2, 2, {})
    assert first.notices == {"system_file": 4}
    assert "2 read, 2 kept, 0 rejected" in out
    assert "counted apart: system_file" in out
    write_tar(folder / "b.tar", litter(2))
    second = run(config)
    assert (second.read, second.kept, second.notices) == (3, 3, {"system_file": 6})
    assert run(config) == second


def test_a_dry_run_writes_nothing(local_ray, own, tmp_path, capsys):
    write_tar(tmp_path / "a.tar", {str(seed): good(seed) for seed in range(6)})
    config = own(WebDatasetSource(**tars(tmp_path)))
    stage = config.stage1.model_copy(update={"filter": "caption_length >= 15 AND caption LIKE '%picture%'"})
    config = config.model_copy(update={"stage1": stage})
    run(config, dry_run=True)
    dry = capsys.readouterr().out
    assert not Path(config.root).exists()
    assert "stage1" in dry
    assert "32x32 6" in dry
    run(config)
    capsys.readouterr()
    run(config, dry_run=True)
    assert dry[dry.index("Views") :] == (out := capsys.readouterr().out)[out.index("Views") :]


@pytest.mark.slow
def test_scorers_fill_their_columns(local_ray, own, tmp_path):
    clip = save_tiny_clip(tmp_path / "clip")
    write_tar(tmp_path / "a.tar", {str(seed): good(seed) for seed in range(5)} | {"bad": Case({"txt": b"alone"}, None)})
    config = own(WebDatasetSource(**tars(tmp_path)))
    scorers = {
        "aesthetic": AestheticConfig(path=clip, head=f"{clip}/head.safetensors", batch_size=2),
        "alignment": ScorerConfig(path=clip, batch_size=4),
    }
    found = run(config.model_copy(update={"curate": config.curate.model_copy(update=scorers)}))
    assert (found.kept, found.rejected) == (5, {"image_missing": 1})
    scored = rows(found.samples, "aesthetic", "alignment")
    assert len({row["aesthetic"] for row in scored}) == len({row["alignment"] for row in scored}) == 5
    assert all(-1 <= row["alignment"] <= 1 for row in scored)


def test_mistakes_are_named_before_anything_is_written(own):
    config = own(FolderSource(name="mine", path="/nowhere/at/all"))
    with pytest.raises(UserError, match="/nowhere/at/all"):
        run(config)
    assert not Path(config.root).exists()


@pytest.mark.skipif(not (PHOTOS / "photos").is_dir(), reason=f"{PHOTOS} is not there")
@pytest.mark.slow
def test_real_photographs_and_edits(local_ray, own):
    config = own(
        FolderSource(name="photos", path=str(PHOTOS / "photos/images"), captions=str(PHOTOS / "photos/captions.jsonl")),
        EditsSource(
            type="edits", name="edits", path=str(PHOTOS / "edits/images"), triples=str(PHOTOS / "edits/edits.jsonl")
        ),
    )
    found = run(config)
    num_lines = sum(
        len((PHOTOS / name).read_text().splitlines()) for name in ("photos/captions.jsonl", "edits/edits.jsonl")
    )
    assert found.read == num_lines
    assert found.kept + sum(found.rejected.values()) == num_lines
    assert set(found.rejected) <= {"duplicate_exact", "duplicate_near", "edit_unchanged"}
    assert found.kept > 0.9 * num_lines

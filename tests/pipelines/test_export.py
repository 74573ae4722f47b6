"""Exports as a job, on a real Ray: what leaves is what was curated, and curated again it is the same."""

import json
import tomllib
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from webdataset import WebDataset

from mos.curation.sources import EditsSource, FolderSource, WebDatasetSource
from mos.curation.tables import CurationOutputs
from mos.errors import UserError
from mos.exports.config import ExportConfig
from mos.fingerprint import file_digest
from mos.losses.parts import MEASURED
from mos.shapes.dataset import ShapesConfig, write_shards
from pipelines import curate, export
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run
from pipelines.train.losses import StageLosses
from tests.operators.bad_inputs import Case, encode, noise, write_folder
from tests.pipelines.measured_run import measured_config

SHAPES = ShapesConfig(num_scenes=150, num_edits=40, samples_per_shard=60, broken_share=0.2, odd_share=0.2)
CAPTIONS = (
    "  two\twords and\nlines ",
    "Ünïcödé é",
    "emoji 👩‍👩‍👧 joined",
    "長い文",
    "a" * 8192,
    'it\'s "quoted"',
    "x",
)
SAME = ("sample_id", "source", "task", "image_hash", "reference_hash", "caption", "width", "height", "phash", "entropy")


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """Drawn shards with defects, and a folder of pictures of every format with captions as people write them."""
    folder = tmp_path_factory.mktemp("raw")
    write_shards(SHAPES, folder / "shards")
    kinds = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "bmp": "BMP", "gif": "GIF", "tif": "TIFF", "avif": "AVIF"}
    cases = {}
    for number, ((suffix, kind), caption) in enumerate(zip(kinds.items(), CAPTIONS, strict=True)):
        data = encode(noise(number), kind)
        meta = json.dumps({"caption": caption, "license": "CC0", "nested": {"ü": [1, None]}}, ensure_ascii=False)
        cases[f"photo {number}"] = Case({suffix: data, "json": meta.encode()}, None)
    write_folder(folder / "photos", cases)
    return folder


def curated(config: RunConfig, sources: tuple) -> CurationOutputs:
    curate.main(Run(of(config, sources)), Namespace(dry_run=False, force=False))
    return CurationOutputs.from_outputs(Run(of(config, sources)).require("curate").outputs)


def of(config: RunConfig, sources: tuple) -> RunConfig:
    image = config.curate.image.model_copy(update={"extra_formats": ("avif", "bmp", "gif", "tiff")})
    section = config.curate.model_copy(update={"sources": sources, "image": image})
    return config.model_copy(update={"shapes": None, "curate": section})


def sources_of(raw: Path) -> tuple:
    return (
        WebDatasetSource(type="webdataset", name="shapes", paths=(str(raw / "shards/pairs-*.tar"),)),
        EditsSource(type="edits", name="shape-edits", paths=(str(raw / "shards/edits-*.tar"),)),
        FolderSource(name="photos", path=str(raw / "photos")),
    )


def exported(config: RunConfig, dry_run: bool = False, force: bool = False, **settings) -> Path:
    config = config.model_copy(update={"export": config.export.model_copy(update=settings)})
    export.main(Run(config), Namespace(dry_run=dry_run, force=force))
    return export.plan(Run(config)).folder.path


def sources_in(folder: Path) -> tuple:
    kinds = {"edits": EditsSource, "webdataset": WebDatasetSource}
    sections = tomllib.loads((folder / "sources.toml").read_text(encoding="utf-8"))["curate"]["sources"]
    return tuple(kinds[section["type"]](**section) for section in sections)


def rows(found: CurationOutputs, where: str | None = None) -> list[dict]:
    table = found.samples.open().scanner(columns=[*SAME, "image", "reference"], filter=where).to_table()
    return sorted(table.to_pylist(), key=lambda row: row["sample_id"])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("where", ["", "width > 60 OR source = 'photos'"])
def test_what_is_exported_and_curated_again_is_the_same_set(local_ray, small_run, tmp_path, raw, where, capsys):
    config = of(small_run(), sources_of(raw))
    first = curated(config, config.curate.sources)
    assert {"photos", "shapes", "shape-edits"} == {row["source"] for row in rows(first, where or None)}
    folder = exported(config, filter=where, samples_per_shard=25)
    assert f"export: {len(rows(first, where or None))} samples, " in capsys.readouterr().out
    again = small_run(f"root={tmp_path / 'again'}")
    second = curated(again, sources_in(folder))
    assert second.rejected == {}
    assert rows(second) == rows(first, where or None)
    metas = {row["key"]: json.loads(row["meta"])["meta"] for row in table(second, "source = 'photos'", "key", "meta")}
    assert len(metas) == len(CAPTIONS)
    assert all(meta == {"license": "CC0", "nested": {"ü": [1, None]}} for meta in metas.values())

    expected = {row["sample_id"]: row for row in rows(first, where or None)}
    for index in folder.glob("[!.]*.json"):
        for line in json.loads(index.read_text(encoding="utf-8"))["shardlist"]:
            path = folder / line["url"]
            assert (path.stat().st_size, file_digest(path)) == (line["filesize"], line["sha256"])
            samples = list(WebDataset([str(path)], shardshuffle=False))
            assert len(samples) == line["nsamples"] <= 25
            for sample in samples:
                row = expected.pop(sample["__key__"])
                assert sample["txt"].decode() == row["caption"]
                assert row["image"] in sample.values()
                assert json.loads(sample["json"])["source"] == row["source"] == index.stem
    assert not expected


def table(found: CurationOutputs, where: str, *columns: str) -> list[dict]:
    return found.samples.open().scanner(columns=list(columns), filter=where).to_table().to_pylist()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_export_goes_on_and_is_not_overwritten_by_another(local_ray, small_run, tmp_path, raw, capsys):
    config = of(small_run(), sources_of(raw))
    with pytest.raises(UserError, match="'curate' is not finished"):
        exported(config)
    found = curated(config, config.curate.sources)
    folder = exported(config, dry_run=True, samples_per_shard=25)
    assert not folder.exists()
    told = capsys.readouterr().out
    assert f"export: {found.kept} samples in all" in told
    assert "of them to be written" in told

    exported(config, samples_per_shard=25)
    digests = {path.name: (file_digest(path), path.stat().st_mtime_ns) for path in folder.glob("*.tar")}
    assert f"{found.kept}/{found.kept} samples" in capsys.readouterr().out
    lost, cut = sorted(folder.glob("shapes-*.tar"))[:2]
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:1000])
    exported(config, samples_per_shard=25)
    assert f"{len(digests) - 2} of them finished before" in capsys.readouterr().out
    for name, (digest, written_at) in digests.items():
        assert file_digest(folder / name) == digest
        assert (folder.joinpath(name).stat().st_mtime_ns == written_at) == (name not in (lost.name, cut.name))

    for other in ({"filter": "width > 60"}, {"stage": "stage1"}, {"format": "parquet", "path": str(folder)}):
        for dry_run in (False, True):
            with pytest.raises(UserError, match="holds another export"):
                exported(config, dry_run=dry_run, **{"samples_per_shard": 25} | other)
    exported(config, force=True, filter="source = 'photos'")
    assert [path.name for path in folder.glob("*.tar")] == ["photos-00000.tar"]
    assert sorted(path.name for path in folder.glob("[!.]*.json")) == ["photos.json"]


@pytest.mark.slow
def test_a_view_of_a_stage_leaves_as_parquet(local_ray, small_run, raw, tmp_path):
    config = of(small_run(), sources_of(raw))
    found = curated(config, config.curate.sources)
    folder = exported(config, format="parquet", stage="stage1", filter="width < 100", samples_per_shard=40)
    files = sorted((folder / "data").glob("*.parquet"))
    assert [path.name for path in files] == [f"train-{n:05d}-of-{len(files):05d}.parquet" for n in range(len(files))]
    left = [row for path in files for row in pq.read_table(path).to_pylist()]
    where = "width < 100 AND bucket_24 IS NOT NULL AND task = 'generate'"
    expected = {row["sample_id"]: row["image"] for row in rows(found, where)}
    assert expected
    assert {row["sample_id"]: row["image"]["bytes"] for row in left} == expected
    assert all(row["image"]["path"].startswith(row["sample_id"]) and row["reference"] is None for row in left)


def test_what_cannot_leave_is_told(local_ray, small_run, raw):
    config = of(small_run(), sources_of(raw)[2:]).model_copy(update={"stage4": None})
    curated(config, config.curate.sources)
    for settings, told in [
        ({"filter": "width > 100000"}, "relax export.filter"),
        ({"filter": "nonsense > 1"}, "is refused"),
        ({"stage": "stage4"}, r"has no \[stage4\]"),
        ({"filter": "loss_stage1 < 1"}, "'encode' is not finished"),
    ]:
        with pytest.raises(UserError, match=told):
            exported(config, **settings)
    assert not config.folder("exports").exists()


def test_a_view_may_name_losses_that_are_measured(tmp_path):
    config = measured_config(tmp_path, "export.filter='loss_stage1 < 0.5 AND width > 1'")
    with pytest.raises(UserError, match=r"no version of .* has loss_stage1 .* run `python pipelines/losses.py"):
        export.plan(Run(config))
    losses = StageLosses(Run(config), "stage1")
    addresses = losses.index(tmp_path / "index").address
    values = [number / len(addresses) for number in range(len(addresses))]
    columns = [pa.array(addresses), pa.array(values, pa.float32()), pa.nulls(len(values), pa.string())]
    measured = pa.table(columns, MEASURED)
    samples, names = losses.write(measured)
    about = {"base": asdict(losses.tables.samples), "samples": asdict(samples), "columns": names}
    losses.step.finish({"stage": "stage1", **about})
    planned = export.plan(Run(config))
    assert planned.samples == samples
    assert planned.num == sum(value < 0.5 for value in values)
    everything = config.model_copy(update={"export": ExportConfig()})
    assert export.plan(Run(everything)).samples == losses.tables.samples

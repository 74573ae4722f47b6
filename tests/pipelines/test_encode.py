"""The encode step as its script runs it, on a real Ray: what it writes, what it leaves alone, what it survives."""

import os
import re
import signal
import subprocess
import sys
import time
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import pytest

from mos.errors import UserError
from mos.images.decode import ImageLimits
from mos.states.keys import context_key
from mos.states.payload import StateCodec
from mos.tables.encode_plan import plan_contexts
from mos.tables.lance import TableVersion, open_table, read_column, table_exists
from operators.encode_states import EncodeStates
from operators.verify_rows import verify_rows
from pipelines import encode, tables
from pipelines.run.config import RunConfig, load_run
from pipelines.run.states_table import current_states_uri
from pipelines.run.steps import Run
from tests.pipelines.tiny_run import tiny_config
from tests.samples import Pair, append_samples, picture, views

PAIRS = [
    Pair("a red circle", "red"),
    Pair("a red circle", "blue"),
    Pair("a green square", "green"),
    Pair("a broken picture", "black", broken=True),
    Pair("make it pink", "pink", reference="red"),
]
ARGS = Namespace(force=False)


@pytest.fixture
def config_path(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(picture("red"))
    (tmp_path / "pictures" / "a.txt").write_text("a red circle")
    stage2 = "stage2={resolution=48, steps=1, batch_size=2, tasks=['generate', 'edit']}"
    return tiny_config(tmp_path, "encode.fragments_per_commit=2", "stage1.tasks=['generate', 'edit']", stage2)


def curated(config: RunConfig, pairs: list[Pair]) -> TableVersion:
    """Append to the samples table and record it as the curate step would."""
    samples = append_samples(Path(config.tables_folder()), pairs)
    Run(config).step("curate").finish({"identity": f"{samples.rows} samples", "samples": asdict(samples)})
    return samples


def encoded(config: RunConfig, args: Namespace = ARGS) -> dict:
    encode.main(Run(config), args)
    return Run(config).require("encode").outputs


def test_only_what_is_missing_is_encoded(
    config_path: Path, local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_run(config_path)
    curated(config, PAIRS)
    first = encoded(config)
    assert first["encoded"] == {"states": 5, "latents": 8}  # 4 captions and the null; 4 pictures in 2 buckets
    assert first["failed"] == 2  # the broken picture, in both buckets
    assert (first["num_layers"], first["dim"], first["channels"], first["stride"]) == (6, 384, 12, 2)
    keys = read_column(TableVersion(**first["states"]), "context_key")
    assert sorted(keys) == sorted(context_key(text) for text in {pair.caption for pair in PAIRS} | {""})

    capsys.readouterr()
    assert encoded(config) == first
    assert "already finished" in capsys.readouterr().out
    again = encoded(config, Namespace(force=True))
    assert again["encoded"] == {"states": 0, "latents": 0}
    assert again["identity"] == first["identity"]
    assert again["states"] == first["states"]

    curated(config, [Pair("a red circle", "yellow"), Pair("a new star", "red"), Pair("a new ring", "orange")])
    grown = encoded(config)
    assert grown["encoded"] == {"states": 2, "latents": 4}  # 2 new captions; yellow and orange in 2 buckets
    assert grown["identity"] != first["identity"]
    for table, column in (("states", "context_key"), ("latents", "latent_key")):
        keys = read_column(TableVersion(**grown[table]), column)
        assert len(keys) == len(set(keys)) == grown[table]["rows"]

    stricter = load_run(config_path, ("stage2.filter=caption = 'a new star'",))
    capsys.readouterr()
    fewer = encoded(stricter)
    assert (
        "states: 0 rows to encode, 7 already there\nlatents: 1 rows to encode, 7 already there"
        in capsys.readouterr().out
    )
    assert fewer["seen_by"]["stage1"] == grown["seen_by"]["stage1"]
    assert fewer["seen_by"]["stage2"] != grown["seen_by"]["stage2"]


def test_fragments_that_a_killed_run_never_committed_are_not_seen(config_path: Path, local_ray: None) -> None:
    config = load_run(config_path)
    samples = curated(config, PAIRS[:3])
    tower, codec = encode.describe_tower(config.encode.tower), encode.describe_codec(config.encode.vae)
    states, _ = encode.open_tables(config, tower, StateCodec("bf16", tuple(range(7)), 384), codec)
    operator = EncodeStates(config.encode, samples, states.table.uri, ImageLimits())
    list(operator(plan_contexts(samples, views(32), sees_images=False)))
    assert open_table(states.table.uri).count_rows() == 0
    assert encoded(config)["states"]["rows"] == 3


def test_a_quantised_table_is_calibrated_once_and_refused_beyond_its_bound(
    config_path: Path, local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    int4 = ("encode.state_format=int4", "encode.calibration_contexts=8")
    strict = load_run(config_path, (*int4, "encode.quality.max_whitened_error=0.01"))
    curated(strict, [Pair(f"{number} red circles", "red") for number in range(20)])
    with pytest.raises(UserError, match=r"^int4 states: layer 0 has a whitened error of 0\.\d+, above encode.quality"):
        encoded(strict)
    assert not Path(strict.tables_folder(), "states").exists()
    assert not Path(strict.tables_folder(), "calibrations").exists()

    config = load_run(config_path, (*int4, "encode.quality.max_whitened_error=0.5", "encode.quality.min_cosine=0.5"))
    first = encoded(config)
    assert "calibrating int4 with 8 contexts" in capsys.readouterr().out
    assert first["states"]["rows"] == 21
    assert first["quality"][0].startswith("layer 0: relative error ")
    claims = list(Path(config.tables_folder(), "calibrations").iterdir())

    curated(config, [Pair(f"{number} blue stars", "blue") for number in range(20)])
    second = encoded(config)
    out = capsys.readouterr().out
    assert "calibrating" not in out
    assert "20 rows to encode, 21 already there" in out
    assert second["states"]["uri"] == first["states"]["uri"]
    assert list(Path(config.tables_folder(), "calibrations").iterdir()) == claims
    assert current_states_uri(config) == first["states"]["uri"]

    curated(config, [Pair(f"{number} green squares", "green") for number in range(20)])
    with pytest.raises(UserError, match=r"^int4 states: layer 0 .* above encode.quality.max_whitened_error = 0.01"):
        encoded(strict)  # the standing calibration is used; the actors find what it loses
    assert open_table(second["states"]["uri"]).count_rows() == second["states"]["rows"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_run_keeps_its_commits_and_the_next_one_does_the_rest(config_path: Path, clone: Path) -> None:
    config = load_run(config_path)
    curated(config, [Pair(f"caption number {index}", "red") for index in range(200)])
    command = [
        sys.executable,
        str(clone / "pipelines/encode.py"),
        str(config_path),
        "encode.tower={type='minilm', pass_rows=2}",
    ]
    config = load_run(config_path, (command[-1],))
    uri = str(current_states_uri(config))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        deadline = time.monotonic() + 200
        while not (table_exists(uri) and open_table(uri).count_rows()) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(run.pid, signal.SIGKILL)
    kept = open_table(uri).count_rows()
    assert 0 < kept < 201, "the run was to be killed half way"
    with pytest.raises(UserError, match="not finished"):
        Run(config).require("encode")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (there,) = re.findall(r"(\d+) already there", done.stdout.split("latents")[0])
    assert kept <= int(there) < 201, "committed rows, and those that were written but not yet committed"
    keys = read_column(TableVersion(**Run(config).require("encode").outputs["states"]), "context_key")
    assert len(keys) == len(set(keys)) == 201


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.state_dim=512", "model.state_dim = 512, but the tower's width is 384"),
        ("model.state_layers=5", "the tower's number of layers is 6"),
        ("encode.layers=[0,2,4,6]", r"encode.layers lacks \[1, 3, 5\], which the model reads"),
        ("encode.layers=[0,6,7]", "encode.layers names 7, the tower's last is 6"),
        ("encode.vae={type='wan', random={}}", "model.latent_channels = 12, but the codec's channels is 48"),
        ("encode.tower={type='llama', path='/nowhere'}", "weights /nowhere do not exist"),
        ("stage2.resolution=64", "a stage trains at resolution 64"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    config_path: Path, override: str, message: str
) -> None:
    config = load_run(config_path, (override,))
    curated(config, PAIRS[:1])
    with pytest.raises(UserError, match=message):
        encode.main(Run(config), ARGS)
    assert not Path(config.tables_folder(), "states").exists()
    assert not Path(config.tables_folder(), "latents").exists()


def test_curation_comes_first(config_path: Path) -> None:
    with pytest.raises(UserError, match=r"run `python pipelines/curate.py"):
        encode.main(Run(load_run(config_path)), ARGS)


def test_relative_weights_stand_in_the_checkout(config_path: Path, tmp_path: Path) -> None:
    (tmp_path / "weights" / "tower").mkdir(parents=True)
    config = load_run(config_path, ("encode.tower={type='llama', path='weights/tower'}",)).encode
    assert config.anchored(tmp_path).tower.path == str(tmp_path / "weights/tower")
    hub = load_run(config_path, ("encode.tower={type='llama', path='meta-llama/x'}",)).encode
    assert hub.anchored(tmp_path).tower.path == "meta-llama/x"


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "which"), [("states", "data file"), ("latents", "pack file")])
def test_rows_whose_files_were_lost_are_named_and_encoded_again(
    config_path: Path, local_ray: None, capsys: pytest.CaptureFixture[str], kind: str, which: str
) -> None:
    config = load_run(config_path)
    curated(config, PAIRS[:3])
    first = encoded(config)
    before = {row[0]: row for row in rows_of(first[kind])}
    (data,) = TableVersion(**first[kind]).open().get_fragments()[0].data_files()
    path = Path(first[kind]["uri"], "data", data.path)
    if which == "pack file":
        (path,) = path.with_suffix("").iterdir()
    path.unlink()
    with pytest.raises(UserError, match=rf"table {first[kind]['uri']} is damaged, a file is .*{path.name}: .*--force"):
        list(verify_rows(first, config.encode, config.curate.image))
    tables.main(Run(config), Namespace(force=False, verify=False, compact=False, remove=False))

    curated(config, PAIRS)
    with pytest.raises(UserError, match=rf"table {first[kind]['uri']} is damaged, a file is .*{path.name}: .*--force"):
        encoded(config)
    capsys.readouterr()
    again = encoded(config, Namespace(force=True))
    assert re.search(r"[1-9] rows whose files were lost are encoded again", capsys.readouterr().out)
    after = {row[0]: row for row in rows_of(again[kind])}
    assert {key: after[key] for key in before} == before
    assert len(after) == again[kind]["rows"] > len(before)
    drifts = verify_rows(again, config.encode, config.curate.image)
    assert all(drift.identical == drift.rows for drift in drifts)


def rows_of(table: dict) -> list[tuple]:
    scanner = TableVersion(**table).open().scanner(blob_handling="all_binary")
    return [tuple(row.values()) for row in scanner.to_table().to_pylist()]

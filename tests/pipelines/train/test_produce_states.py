"""The three sources of hidden states, on real towers and a real Ray: the same bits, whatever is interrupted."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from mos.checkout import CLONE
from mos.errors import UserError
from mos.feeding.config import CacheStates
from mos.model.exported import WEIGHTS
from mos.tables.lance import table_exists
from mos.training.metrics import latest_metrics, read_metrics
from mos.training.notices import Notices
from pipelines import encode
from pipelines.run.config import RunConfig, load_run
from pipelines.run.steps import Run
from pipelines.train import produce_states
from pipelines.train.batches import StageBatches
from pipelines.train.driver import prepare, train_stage
from pipelines.train.job import StageJob, make_job
from pipelines.train.refresh import NewerSamples
from pipelines.train.samples import StageSamples
from pipelines.train.worker import draw_rule
from tests.pipelines import growing_run
from tests.pipelines.tiny_run import LLAMA, tiny_config
from tests.pipelines.trained_run import undisturbed
from tests.samples import Pair, append_samples
from tests.towers import save_llama

SETTINGS = (
    "encode.calibration_contexts=8",
    "stage1.batch_size=4",
    "stage1.caption_dropout=0.3",
    "stage1.log_every=2",
    "cluster.train={num=2}",
)
ARGS = Namespace(force=False)
COLOURS = ("red", "green", "blue", "white", "black", "pink")
WORDS = ("circle", "square", "photo of two", "left", "right make it", "user", "two", "of a square", "it", "make")
STREAM = "stage1.states={{type='stream', window_steps={window}, lead_mb={lead}, producers={{max=2}}}}"


def curated(
    folder: Path, *, steps: int = 30, tower: str = "minilm", format: str = "bf16", every: int = 1000
) -> Callable[..., RunConfig]:
    """A run over 60 captions, nothing encoded yet."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pictures").mkdir(exist_ok=True)
    settings = [
        *SETTINGS,
        f"encode.state_format='{format}'",
        f"stage1.steps={steps}",
        f"stage1.checkpoint_every={every}",
    ]
    if tower == "llama":
        path = save_llama(folder / "llama")
        settings += [*LLAMA, f"encode.tower={{type='llama', path='{path}', dtype='float32'}}"]
    path = tiny_config(folder, *settings)
    samples = append_samples(
        folder / "tables", [Pair(f"a {colour} {word}", colour) for colour in COLOURS for word in WORDS]
    )
    config = load_run(path)
    Run(config).step("curate").finish({"identity": "samples", "samples": asdict(samples)})

    def load(*overrides: str) -> RunConfig:
        return load_run(path, overrides)

    return load


def encoded(config: RunConfig) -> dict:
    encode.main(Run(config), ARGS)
    return Run(config).require("encode").outputs


def prepared(config: RunConfig) -> tuple[StageJob, object]:
    job = make_job(Run(config).step("stage1"), Run(config))
    return job, prepare(job, config)


def batches_of(job: StageJob) -> list:
    """Every batch of the stage, as its worker builds them."""
    source = StageBatches(job, draw_rule(job), torch.device("cpu"), Notices(job.folder))
    return [source.build(step) for step in range(job.stage.steps)]


def assert_same(ours: list, theirs: list) -> None:
    for one, other in zip(ours, theirs, strict=True):
        for plane in ("codes", "scales", "massive"):
            ours_of, theirs_of = (getattr(batch.context.states, plane) for batch in (one, other))
            assert (ours_of is None) == (theirs_of is None)
            assert ours_of is None or torch.equal(ours_of, theirs_of)
        assert torch.equal(one.context.layout.offsets, other.context.layout.offsets)
        assert torch.equal(one.latents, other.latents)
        assert torch.equal(one.noise, other.noise)
        assert torch.equal(one.timesteps, other.timesteps)


@pytest.fixture
def one_rank(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A process group of this process alone."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize(("tower", "format"), [("minilm", "bf16"), ("llama", "bf16"), ("llama", "int8")])
def test_cache_stream_and_recompute_give_the_same_batches(tmp_path, local_ray, one_rank, tower, format):
    load = curated(tmp_path, tower=tower, format=format)
    cached, recomputed = load(), load("stage1.states={type='recompute'}")
    lead = 0.03 if tower == "llama" else 0.8
    streamed = load(STREAM.format(window=2, lead=lead))
    for config in (recomputed, streamed):
        assert encoded(config)["encoded"]["states"] == 0
        assert encoded(config)["states"]["rows"] == 0
    recomputed_batches = batches_of(prepared(recomputed)[0])
    job, index = prepared(streamed)
    with produce_states.producing(job, index, streamed) as balance:
        streamed_batches = batches_of(job)
    assert encoded(cached)["encoded"]["states"] == 61
    cached_batches = batches_of(prepared(cached)[0])
    assert_same(cached_batches, streamed_batches)
    assert_same(cached_batches, recomputed_batches)
    assert balance.dropped > 0
    assert 0 < balance.lead_bytes <= lead * 1e6


@pytest.mark.slow
def test_producers_follow_a_stage_to_newer_samples(tmp_path, local_ray, one_rank):
    stream = "stage1.states={type='stream', window_steps=2, lead_mb=1, producers={max=1}}"
    config, streamed = growing_run.begun(tmp_path / "run", stream)
    cached = replace(streamed, states=CacheStates(), folder=tmp_path / "cached")
    prepare(cached, config)
    for job in (cached, streamed):
        StageSamples(job).segments().at(0)  # of the samples that it began with
    growing_run.curate_more(config)
    for job in (cached, streamed):
        NewerSamples(job, config, "").look()
    with produce_states.producing(streamed, StageSamples(streamed).index(0), config) as balance:
        streamed_batches = batches_of(streamed)
    assert_same(batches_of(cached), streamed_batches)
    assert [*StageSamples(streamed).taken()] == [{"samples": 1, "epoch": 1, "step": 5}]
    assert balance.dropped > 0


def worker_processes(name: str) -> list[psutil.Process]:
    """Ray workers of this process's own Ray by their title."""
    return [p for p in psutil.Process().children(recursive=True) if name in " ".join(p.cmdline())]


def kill_after(folder: Path, step: int, name: str, killed: list[str]) -> None:
    """SIGKILL one Ray worker once the stage has come so far."""
    while (latest := latest_metrics(folder)) is None or latest.step < step:
        time.sleep(0.02)
    os.kill(worker_processes(name)[-1].pid, signal.SIGKILL)
    killed.append(name)


def kill_driver_after(config: RunConfig, path: Path, step: int, *overrides: str) -> None:
    """Run the stage as its script, on a Ray of its own, and SIGKILL driver and all of it once it has come so far."""
    folder = config.folder("checkpoints", "stage1", Run(config).step("stage1").short)
    command = [sys.executable, "pipelines/stage1.py", str(path), *overrides]
    process = subprocess.Popen(command, cwd=CLONE, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        while (latest := latest_metrics(folder)) is None or latest.step < step:
            assert process.poll() is None, "the stage ended before it was killed"
            time.sleep(0.02)
    finally:
        family = [process, *psutil.Process(process.pid).children(recursive=True)]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_ranks_stream_through_the_death_of_driver_producer_and_worker(tmp_path, local_ray):
    """The weights are those of an undisturbed run from the table; queue and table hold each context once, then go."""
    load = curated(tmp_path, steps=60, every=6)
    settings = STREAM.format(window=3, lead=0.8)
    config = load(settings)
    encoded(config)
    folder = config.folder("checkpoints", "stage1", Run(config).step("stage1").short)
    kill_driver_after(config, tmp_path / "run.toml", 10, settings, "cluster.num_cpus=3")
    job, _ = prepared(config)
    assert table_exists(job.queue)

    killed: list[str] = []
    for step, name in ((24, "_Host"), (40, "RayTrainWorker")):
        threading.Thread(target=kill_after, args=(folder, step, name, killed), daemon=True).start()
    train_stage("stage1", Run(config), ARGS)
    assert sorted(killed) == ["RayTrainWorker", "_Host"]
    outputs = Run(config).require("stage1").outputs
    assert outputs["steps"] == 60
    assert outputs["balance"]["producers_lost"] == 1
    assert outputs["balance"]["contexts_dropped"] > 0
    assert outputs["balance"]["lead_bytes"] <= 0.8e6
    assert not table_exists(job.queue)
    streamed = load_file(folder / "export" / WEIGHTS)
    lines = [(line.step, line.loss) for line in read_metrics(folder)]

    cached = load()
    encoded(cached)
    assert Run(cached).step("stage1").fingerprint == Run(config).step("stage1").fingerprint
    weights, undisturbed_lines = undisturbed(cached, "stage1", tmp_path / "undisturbed")
    assert all(torch.equal(streamed[name], weights[name]) for name in weights)
    assert lines == undisturbed_lines


def test_a_ray_without_room_for_a_producer_is_refused(tmp_path, local_ray):
    config = curated(tmp_path)(STREAM.format(window=5, lead=1), "cluster.train={num=4}")
    with pytest.raises(UserError, match=r"cluster\.num_cpus=5"):
        produce_states.pool_bounds(config.stage1.states, config)


@pytest.mark.slow
def test_states_beyond_the_bound_end_a_stage_that_streams_them(tmp_path, local_ray):
    """The error is the producers', and no restart of the gang stands before it."""
    load = curated(tmp_path, tower="llama", format="int8", steps=4)
    settings = STREAM.format(window=2, lead=0.03)
    encoded(load(settings))
    strict = load(settings, "encode.quality.max_whitened_error=1e-4", "cluster.max_failures=-1")
    with pytest.raises(UserError, match=r"producers of states failed: int8 states: layer 0 has a whitened error of"):
        train_stage("stage1", Run(strict), ARGS)


def test_workers_on_nodes_of_their_own_leave_all_room_to_producers(tmp_path, local_ray):
    config = curated(tmp_path)(STREAM.format(window=5, lead=1), "cluster.train={num=4, labels={kind='training'}}")
    assert produce_states.pool_bounds(config.stage1.states, config) == (1, 2)


def test_auto_is_settled_by_encode(tmp_path, local_ray, capsys):
    config = curated(tmp_path)("stage1.states={type='auto'}")
    outputs = encoded(config)
    assert f"stage1: states = {outputs['sources']['stage1']}: " in capsys.readouterr().out
    job = make_job(Run(config).step("stage1"), Run(config))
    assert job.states.type == outputs["sources"]["stage1"]

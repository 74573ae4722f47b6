"""Speeds of this machine, in seconds: a few forwards of the tower, a few training steps, a few reads of the table."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.distributed as dist

from mos.checkout import CLONE
from mos.encoders.load import load_tower
from mos.errors import UserError
from mos.loader.batch import Batch
from mos.model.context import Context
from mos.model.mos import MoS
from mos.planning.flops import tower_flops
from mos.planning.machine import MachineConfig
from mos.tables.lance import latest_version, table_exists
from mos.tables.payloads import RowCache, StateTable
from mos.tables.schema import TASK_EDIT
from mos.training.engine import build_engine
from mos.training.loop import update
from mos.training.zero import end_deepspeed
from pipelines.cost.figures import StageFigures, latents_shape, stage_figures, tower_params, worker_share
from pipelines.run.config import RunConfig
from pipelines.run.states_table import current_states_uri

SECONDS = 3.0
"""Each speed is the mean over at least so long, after one unmeasured repeat."""
TEXT = "a small red circle stands to the left of two large blue stars on a green field"
READ_ROWS = 32
"""Rows of one read."""


def measure_machine(config: RunConfig, machine: MachineConfig) -> MachineConfig:
    """The machine with measured speeds and the prices as they were; prints what was found.

    A speed is that of one worker with the threads it has in the config. What the run has no table for yet is not
    read, and the figure stays.

    Raises:
        UserError: the run trains on GPUs and there is none here, or the tower's weights are not here.
    """
    device = torch.device(config.cluster.train.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("--measure needs the GPU that cluster.train.gpus names: run it on a node that has one")
    name = max(config.stages(), key=lambda name: config.stage(name).steps)
    figures = stage_figures(config, name)
    speeds = {
        "tower_tflops": measure_tower(config, figures, device),
        "train_tflops": measure_training(config, name, figures, device),
        "read_gb_per_s": measure_reading(config),
    }
    for key, value in speeds.items():
        print(f"plan: {key} = {'no states table yet, left as it is' if value is None else f'{value:.3g}'}", flush=True)
    return machine.model_copy(update={key: value for key, value in speeds.items() if value is not None})


def measure_tower(config: RunConfig, figures: StageFigures, device: torch.device) -> float:
    """TFLOP/s of the tower over contexts of the stage's mean length."""
    _use_threads(config.encode.actors.threads, device)
    tower = load_tower(config.encode.anchored(CLONE).tower, str(device))
    # Most words are one token; what counts is what the tower says it read.
    num_words = max(1, round(figures.contexts.tokens.mean))
    words = TEXT.split()
    texts = [" ".join(words[i % len(words)] for i in range(num_words))] * config.encode.tower.pass_rows
    step = config.encode.tower.pass_step
    lengths = [len(context.tokens) for context in tower.encode(texts)]
    tokens = sum(length + -length % step for length in lengths)
    seconds = _seconds(lambda: tower.encode(texts), device)
    return tower_flops(tower_params(config), tokens) / seconds / 1e12


def measure_training(config: RunConfig, name: str, figures: StageFigures, device: torch.device) -> float:
    """TFLOP/s of one worker's share of a stage's step, with the stage's own engine, unsharded."""
    seconds = step_seconds(config, name, figures, device, SECONDS)
    return worker_share(config, name) * figures.load.train_flops / seconds / 1e12


def step_seconds(config: RunConfig, name: str, figures: StageFigures, device: torch.device, at_least_s: float) -> float:
    """Seconds of one worker's share of a stage's step, with its threads and the stage's own engine, unsharded."""
    _use_threads(config.cluster.train.threads, device)
    stage = config.stage(name)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model = MoS(config.model)
        model.init_weights()
        alone, recompute = stage.engine.alone(), stage.activation_checkpointing
        engine = build_engine(alone, stage.optimizer, model, device, recompute=recompute)
        batch = random_batch(config, name, figures)
        batch = batch.pin() if device.type == "cuda" else batch
        run = partial(update, engine, batch, lr=1e-4, micro_batch_size=stage.micro_batch_size)
        return _seconds(run, device, at_least_s)
    finally:
        end_deepspeed()
        dist.destroy_process_group()


def measure_reading(config: RunConfig) -> float | None:
    """GB/s of shuffled batches of the run's states table into this process; None without a table, or a row in it."""
    uri = current_states_uri(config)
    if uri is None or not table_exists(uri):
        return None
    pinned = latest_version(uri)
    if not pinned.rows:
        return None
    table = StateTable(pinned, RowCache(0))
    rng = np.random.default_rng(0)
    read = 0

    def read_some() -> None:
        nonlocal read
        rows = rng.choice(table.table.rows, min(READ_ROWS, table.table.rows), replace=False)
        read += sum(len(payload) for payload in table.payloads(np.sort(rows).tolist()))

    repeats, seconds = _repeat(read_some, torch.device("cpu"))
    return read / (repeats + 1) * repeats / seconds / 1e9


def random_batch(config: RunConfig, name: str, figures: StageFigures) -> Batch:
    """A worker's share of a global batch: square pictures, contexts of the mean length."""
    stage, model = config.stage(name), config.model
    size = worker_share(config, name)
    tokens = max(1, round(figures.contexts.tokens.mean))
    latents = torch.randn(latents_shape(config, name, size))
    states = torch.randn(tokens, model.state_layers + 1, model.state_dim).bfloat16()
    return Batch(
        epoch=0,
        step=0,
        latents=latents,
        noise=torch.randn_like(latents),
        timesteps=torch.rand(size),
        context=Context.of([states] * size),
        reference=latents.clone() if TASK_EDIT in stage.tasks else None,
    )


def _seconds(run: Callable[[], object], device: torch.device, at_least_s: float = SECONDS) -> float:
    """Mean seconds of a call."""
    repeats, seconds = _repeat(run, device, at_least_s)
    return seconds / repeats


def _repeat(run: Callable[[], object], device: torch.device, at_least_s: float = SECONDS) -> tuple[int, float]:
    """Call once, then again and again: repeats and the seconds they took together."""
    run()
    _wait(device)
    started, repeats = time.perf_counter(), 0
    while time.perf_counter() - started < at_least_s:
        run()
        _wait(device)
        repeats += 1
    return repeats, time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _use_threads(threads: int, device: torch.device) -> None:
    if device.type == "cpu":
        torch.set_num_threads(threads)

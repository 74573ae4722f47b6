"""What engines cost: ZeRO's three stages against FSDP2, and a checkpoint in the background against one at once; and how
many of a hundred damaged checkpoints are taken for good ones.

  python -m tests.benchmarks.training

Two ranks over gloo, a thread each, train the demo's model in float32 with AdamW on random batches of its first stage.
All engines live in the same processes and take turns, so that a drift of the machine hits all alike.
"""

import io
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path

import torch
import torch.distributed as dist

from mos.model.mos import MoS
from mos.training.checkpoint import newest_checkpoint
from mos.training.checkpoint_format import TrainState
from mos.training.checkpoints import Checkpoints
from mos.training.ema import Ema
from mos.training.engine import Engine, build_engine
from mos.training.loop import update
from mos.training.optimizer import OptimizerConfig
from mos.training.precision import PrecisionConfig
from mos.training.sharding import EngineConfig, Fsdp2Config, ZeroConfig
from pipelines.cost.figures import stage_figures
from pipelines.cost.measure import random_batch
from pipelines.run.cli import DEFAULT_CONFIG
from pipelines.run.config import load_run
from tests.benchmarks.harness import Row, write_results
from tests.mos.training.gloo import run_ranks

FLOAT32 = PrecisionConfig(compute="float32")
RANKS, UPDATES, REPEATS, MARK_STALL = 2, 8, 7, 0.15
NUM_DAMAGED = 100
CPU = torch.device("cpu")


def engines() -> dict[str, EngineConfig]:
    """Every engine by the name of its row."""
    zero: dict[str, EngineConfig] = {
        f"engine.zero{stage}": ZeroConfig(stage=stage, precision=FLOAT32) for stage in (1, 2, 3)
    }
    demo = load_run(DEFAULT_CONFIG).stage("stage1").engine.model_copy(update={"precision": FLOAT32})
    return {"fsdp2": demo, **zero}


def timed(run: Callable[[], object]) -> float:
    """Seconds until all ranks are through."""
    dist.barrier()
    started = time.perf_counter()
    run()
    dist.barrier()
    return time.perf_counter() - started


def measure(folder: Path) -> None:
    """On every rank; rank 0 leaves a line for each figure."""
    config = load_run(DEFAULT_CONFIG, (f"cluster.train={{num={RANKS}, cpus=1}}",))
    figures = stage_figures(config, "stage1")
    batch = random_batch(config, "stage1", figures)
    seconds: dict[str, list[float]] = {}
    built = {name: engine_of(config.model, setting) for name, setting in engines().items()}
    for repeat in range(REPEATS + 1):
        for name, engine in built.items():
            took = timed(lambda engine=engine: [update(engine, batch, 1e-4) for _ in range(UPDATES)])
            if repeat:
                seconds.setdefault(name, []).append(took)
    samples = UPDATES * len(batch) * RANKS
    lines = {name: samples / statistics.median(found) for name, found in seconds.items()}
    lines |= stalls(built["fsdp2"], folder)
    if dist.get_rank() == 0:
        for name, value in lines.items():
            (folder / name).write_text(str(value), encoding="utf-8")


def stalls(engine: Engine, folder: Path) -> dict[str, float]:
    """Seconds that training stands still for a checkpoint of the demo's model, by how it is written."""
    ema, seconds = Ema(engine.weights(), 0.99), {"at once": [], "in the background": []}
    for repeat in range(REPEATS + 1):
        for name, found in seconds.items():
            path = folder / f"{name}-{repeat}"
            path.mkdir(exist_ok=True)
            dist.barrier()
            started = time.perf_counter()
            saved = engine.save(path, ema.average, background=name != "at once")
            stall = time.perf_counter() - started
            saved.result()
            dist.barrier()
            if dist.get_rank() == 0:
                shutil.rmtree(path)
            if repeat:
                found.append(stall)
    return {name: statistics.median(found) for name, found in seconds.items()}


def damages(path: Path, rng: random.Random) -> str:
    """Do one thing to a checkpoint that a disk, an upload or a crash may do; returns which."""
    file = rng.choice(sorted(found for found in path.rglob("*") if found.is_file()))
    data, kind = bytearray(file.read_bytes()), rng.choice(["flip", "truncate", "zero", "remove", "append", "part"])
    place = rng.randrange(len(data))
    match kind:
        case "flip":
            data[place] ^= 1 << rng.randrange(8)
        case "truncate":
            del data[place:]
        case "zero":  # a block that never reached the disk
            block = data[place : place + 4096]
            data[place : place + 4096] = bytes(len(block)) if any(block) else bytes(byte ^ 255 for byte in block)
        case "append":
            data += b"\0"
        case "remove":
            file.unlink()
            return kind
        case "part":  # of an upload: this file and all that sort behind it are missing
            for later in sorted(path.rglob("*")):
                if later.is_file() and later >= file:
                    later.unlink()
            return kind
    file.write_bytes(bytes(data))
    return kind


def count_bad(folder: Path) -> None:
    """How many of the damaged checkpoints are read as good; the one before is to be found instead."""
    engine = engine_of(load_run(DEFAULT_CONFIG).model, Fsdp2Config(precision=FLOAT32))
    kept = folder / "kept"
    saved = Checkpoints(kept, {}, keep=2)
    for step in (1, 2):
        saved.save(engine, Ema(engine.weights(), 0.9), TrainState(step))
    rng, bad = random.Random(0), 0
    for number in range(NUM_DAMAGED):
        stage = folder / str(number)
        shutil.copytree(kept, stage)
        damages(stage / "step-000000002", rng)
        with redirect_stdout(io.StringIO()):
            found = newest_checkpoint(stage)
        bad += found is None or found.state.step != 1
        shutil.rmtree(stage)
    (folder / "bad").write_text(str(bad), encoding="utf-8")


def engine_of(model: object, setting: EngineConfig) -> Engine:
    """Of the demo's model, all with the same weights."""
    with torch.device("meta"):
        tower = MoS(model)  # type: ignore[arg-type]
    optimizer = OptimizerConfig(lr=1e-4, final_lr=1e-5)
    engine = build_engine(setting, optimizer, tower, CPU, recompute=False)
    engine.fill(tower.initial_weights(torch.Generator().manual_seed(0)))
    return engine


def rows() -> Iterator[Row]:
    """One for each engine and for checkpoints."""
    with tempfile.TemporaryDirectory() as folder:
        run_ranks(measure, RANKS, Path(folder))
        run_ranks(count_bad, 1, Path(folder))
        figures = [path for path in Path(folder).iterdir() if path.is_file()]
        found = {path.name: float(path.read_text(encoding="utf-8")) for path in figures}
    fsdp2 = found["fsdp2"]
    for name in engines():
        if name != "fsdp2":
            yield Row(name, found[name], "samples/s, two ranks", "FSDP2", fsdp2, found[name] / fsdp2, REPEATS)
    stall = found["in the background"] / found["at once"]
    yield Row("ckpt.bad", found["bad"], f"read as good of {NUM_DAMAGED} damaged", "mark", 0.0, None, NUM_DAMAGED)
    yield Row("ckpt.stall", stall, "of a checkpoint at once", "mark", MARK_STALL, MARK_STALL / stall, REPEATS)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    write_results("training", list(rows()))

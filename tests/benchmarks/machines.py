"""Figures of machines that nobody chose: precision, busy cores, interruptions, the demo's and the tests' minutes.
And of what the size of eq. 4's weights does.

  python -m tests.benchmarks.machines                      auto, loaded, stop, weights, decode: a quarter of an hour
  python -m tests.benchmarks.machines demo tests --avx2    the demo and the tests, on this CPU without AVX-512

With --avx2 torch and oneDNN are told to use AVX2 alone, as on CPUs that have no more; ids then end in `.avx2`. MKL
keeps AVX-512 where there is one: float32 products then run at 63 GFLOP/s on two cores, those of AVX2 CPUs at 32 to 73.
"""

import argparse
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from mos.checkpoints import SHAPES
from mos.encoders.load import load_tower
from mos.model.context import Context
from mos.model.mos import MoS
from mos.model.presets import DEMO
from mos.sampling.export import read_export, read_export_config
from mos.training.checkpoint import newest_readable
from mos.training.metrics import latest_metrics, read_metrics
from mos.training.precision import PrecisionConfig
from pipelines.cost.figures import stage_figures
from pipelines.cost.measure import step_seconds
from pipelines.draw.requests import export_folder
from pipelines.run.config import load_run
from pipelines.run.steps import Run
from tests.benchmarks.harness import CLONE, Row, write_results
from tests.mos.model.weight_size import change_by_halving, fresh, gradient_shares

DEMO_CONFIG = CLONE / "pipelines" / "configs" / "demo.toml"
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
REPEATS = 5
STEPS_S = 3.0
"""Seconds of training steps in each repeat."""
GANGS = 3
"""Gangs started idle, and as many beside a busy process."""

CAPTIONS = (
    "a red circle left of a blue square",
    "three green stars",
    "a pink ring on a black background",
    "a yellow triangle above a purple cross",
)

SHORT = (
    "shapes.num_scenes=1500",
    "stage1.steps=240",
    "stage2.steps=90",
    "stage3.steps=40",
    "stage4.steps=40",
    "edit.steps=60",
    *(f"{name}.log_every=1" for name in ("stage1", "stage2", "stage3", "stage4", "edit")),
)
"""The demo with fewer steps, between which it can be told where it is."""

PLACES = (
    ("stage1", 3, "SIGINT"),
    ("stage1", 40, "SIGTERM"),
    ("stage1", 111, "SIGINT"),
    ("stage1", 200, "SIGTERM"),
    ("stage2", 10, "SIGINT"),
    ("stage2", 70, "SIGTERM"),
    ("stage3", 15, "SIGINT"),
    ("stage4", 20, "SIGTERM"),
    ("edit", 8, "SIGINT"),
    ("edit", 45, "SIGTERM"),
)
"""Stage, step and signal: Ctrl-C to the demo, SIGTERM to the stage's job."""


def samples_per_s(precision: str) -> float:
    """Of the demo's first stage in this process, with the threads it would have."""
    config = load_run(DEMO_CONFIG, (f"root={tempfile.gettempdir()}/none",))
    stage = config.stage1
    engine = stage.engine.model_copy(update={"precision": PrecisionConfig(compute=precision)})
    config = config.model_copy(update={"stage1": stage.model_copy(update={"engine": engine})})
    seconds = step_seconds(config, "stage1", stage_figures(config, "stage1"), torch.device("cpu"), STEPS_S)
    return stage.batch_size / config.cluster.train.num / seconds


def auto_rows(suffix: str) -> list[Row]:
    """`auto` against the better of both dtypes."""
    names = ("auto", "bfloat16", "float32")
    rates = {name: statistics.median(values) for name, values in _repeated(names, samples_per_s).items()}
    best = max(rates["bfloat16"], rates["float32"])
    worst = min(rates["bfloat16"], rates["float32"])
    return [
        Row(f"cpu.auto{suffix}", rates["auto"], "samples/s", "the better of float32 and bfloat16", best,
            rates["auto"] / best, REPEATS),
        Row(f"cpu.auto.worse{suffix}", rates["auto"], "samples/s", "the worse of the two", worst,
            rates["auto"] / worst, REPEATS),
    ]  # fmt: skip


def loaded_rows(suffix: str) -> list[Row]:
    """The gang of the first stage beside another process that never waits, against its fair share of the cores."""
    workers = load_run(DEMO_CONFIG).cluster.train
    cores = os.cpu_count() or 1
    busy = int(workers.num * workers.threads)
    share = min(1.0, cores / (busy + 1))
    with tempfile.TemporaryDirectory(prefix="mos-loaded-") as root:
        for job in ("shapes", "curate", "encode"):
            _job(job, root)

        def measure(name: str) -> float:
            with _busy_process(name == "busy"):
                return _gang_samples_per_s(root)

        repeated = _repeated(("idle", "busy"), measure, repeats=GANGS)
    rates = {name: statistics.median(values) for name, values in repeated.items()}
    fair = rates["idle"] * share
    return [Row(f"cpu.loaded{suffix}", rates["busy"], "samples/s", f"its fair share, {share:.2f} of an idle machine's",
                fair, rates["busy"] / fair, GANGS)]  # fmt: skip


def stop_rows(suffix: str) -> list[Row]:
    """Steps done twice, and seconds to the end of all processes, over ten interruptions of one run of the demo."""
    with tempfile.TemporaryDirectory(prefix="mos-stop-") as root:
        twice, seconds = zip(*(_interrupt(root, *place) for place in PLACES), strict=True)
        last = subprocess.run(_dag(root), cwd=CLONE, capture_output=True, text=True, check=False)
        if last.returncode:
            raise RuntimeError(f"the interrupted demo did not finish: {last.stdout[-2000:]}{last.stderr[-2000:]}")
    return [
        Row(f"stop.steps{suffix}", max(twice), "steps done twice, the most of ten", "mark", 1, None, len(PLACES)),
        Row(f"stop.seconds{suffix}", max(seconds), "s, the longest of ten", "mark", 15, 15 / max(seconds), len(PLACES)),
        Row(f"stop.seconds.median{suffix}", statistics.median(seconds), "s", "mark", 15,
            15 / statistics.median(seconds), len(PLACES)),
    ]  # fmt: skip


def weights_rows(suffix: str) -> list[Row]:
    """What the weights of eq. 4 do to the output and teach the router, in new models and in the one that ships."""
    models = (("init", fresh(DEMO, 2)), ("init.k1", fresh(DEMO, 1)), ("shipped", read_export(SHAPES).model))
    return [row for name, model in models for row in _weight_size(name, model, suffix)]


def _weight_size(name: str, model: MoS, suffix: str) -> list[Row]:
    inputs = _inputs(model)
    change = change_by_halving(model, inputs)
    target = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(1))
    unpicked, router = gradient_shares(model, inputs, target)
    return [
        Row(f"eq4.scale.{name}{suffix}", change, "relative change", "mark", 1e-3, change / 1e-3),
        Row(f"eq4.unpicked.{name}{suffix}", unpicked, "of picked ones' gradient", "mark", 0.01, unpicked / 0.01),
        Row(f"eq4.router.{name}{suffix}", router, "of the rest's gradient", "mark", 1e-3, router / 1e-3),
    ]


def decode_rows(suffix: str) -> list[Row]:
    """What training and drawing see of odd pictures."""
    from tests.benchmarks.decoding import largest_difference

    return [Row(f"decode.equal{suffix}", largest_difference(), "largest difference, of 255", "mark", 0)]


def demo_rows(suffix: str) -> list[Row]:
    """Minutes of the whole demo and what it said beforehand; what it draws, and whether its router chooses."""
    root = Path(tempfile.gettempdir()) / "mos-demo-run"  # stays, to be looked at
    shutil.rmtree(root, ignore_errors=True)
    minutes, log = _timed([sys.executable, "pipelines/dag.py", str(DEMO_CONFIG), f"root={root}"], "demo")
    trained = read_export(export_folder(Run(load_run(DEMO_CONFIG, (f"root={root}",))), "stage4")).model
    said = re.search(r": about (\d+) minutes", log)
    if said is None:
        raise RuntimeError(f"the demo did not say how long it takes: {log[:500]}")
    right = re.search(r"single_object +right ([\d.]+)", log)
    spread = re.search(r"spread over the layers is ([\d.]+)", log)
    if right is None or spread is None:
        raise RuntimeError(f"the demo did not say what it is good for: {log[-1500:]}")
    return [
        Row(f"demo.minutes{suffix}", minutes, "min", "mark", 20, 20 / minutes),
        Row(f"demo.said{suffix}", float(said[1]), "min", "what it took", minutes, float(said[1]) / minutes),
        Row(f"demo.right{suffix}", float(right[1]), "of 64 lone objects right"),
        Row(f"demo.router{suffix}", float(spread[1]), "spread of the router's weights, 1 = all alike", "mark", 0.99),
        *_weight_size("demo", trained, suffix),
    ]


def tests_rows(suffix: str) -> list[Row]:
    """Minutes of `make test` after its set-up."""
    minutes, _ = _timed(["make", "test"], "tests")
    return [Row(f"test.minutes{suffix}", minutes, "min", "mark", 20, 20 / minutes)]


def _timed(command: list[str], name: str) -> tuple[float, str]:
    """Minutes that a command takes, and what it printed, which also stands in a file for who cannot wait."""
    path = Path(tempfile.gettempdir()) / f"mos-{name}.log"
    print(f"{name}: running, see {path}", flush=True)
    started = time.perf_counter()
    with path.open("w", encoding="utf-8") as log:
        run = subprocess.run(command, cwd=CLONE, stdout=log, stderr=subprocess.STDOUT, check=False)
    minutes = (time.perf_counter() - started) / 60
    text = path.read_text(encoding="utf-8")
    if run.returncode:
        raise RuntimeError(f"{name} ended with {run.returncode} after {minutes:.1f} min: {text[-3000:]}")
    return minutes, text


PARTS: dict[str, Callable[[str], list[Row]]] = {
    "auto": auto_rows,
    "loaded": loaded_rows,
    "stop": stop_rows,
    "weights": weights_rows,
    "decode": decode_rows,
    "demo": demo_rows,
    "tests": tests_rows,
}
QUICK = ("auto", "loaded", "stop", "weights", "decode")


def _repeated(
    names: tuple[str, ...], measure: Callable[[str], float], repeats: int = REPEATS
) -> dict[str, list[float]]:
    """Interleaved repeats."""
    values: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repeats):
        for name in names:
            values[name].append(measure(name))
    return values


@contextmanager
def _busy_process(wanted: bool) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if wanted else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def _job(name: str, root: str, *arguments: str) -> None:
    """One step of the short demo."""
    command = [sys.executable, f"pipelines/{name}.py", str(DEMO_CONFIG), f"root={root}", *SHORT, *arguments]
    subprocess.run(command, cwd=CLONE, check=True, stdout=subprocess.DEVNULL)


def _gang_samples_per_s(root: str) -> float:
    """Of the short demo's first stage as a job, the median of its second half."""
    _job("stage1", root, "stage1.steps=120", "--force")
    [path] = Path(root, "checkpoints", "stage1").glob("*/metrics.jsonl")
    return statistics.median(metrics.samples_per_s for metrics in read_metrics(path.parent) if metrics.step > 60)


def _dag(root: str) -> list[str]:
    return [sys.executable, "pipelines/dag.py", str(DEMO_CONFIG), f"root={root}", *SHORT]


def _interrupt(root: str, stage: str, step: int, name: str) -> tuple[int, float]:
    """Run until a stage has come so far, interrupt, wait until every process has ended: steps done twice, seconds."""
    run = subprocess.Popen(
        _dag(root), cwd=CLONE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    folder = _wait_for(root, stage, step, run)
    processes = psutil.Process(run.pid).children(recursive=True)
    if name == "SIGINT":
        os.killpg(run.pid, signal.SIGINT)
    else:
        jobs = [process for process in processes if any(f"{stage}.py" in part for part in _command(process))]
        jobs[-1].send_signal(signal.SIGTERM)
    started = time.perf_counter()
    run.wait()
    psutil.wait_procs(processes)
    seconds = time.perf_counter() - started
    reached, done = newest_readable(folder), latest_metrics(folder)
    assert reached is not None
    assert done is not None
    twice = max(0, done.step - reached.state.step)
    print(f"{stage} {step} {name}: at step {reached.state.step}, {twice} twice, {seconds:.1f} s", flush=True)
    return twice, seconds


def _wait_for(root: str, stage: str, step: int, run: subprocess.Popen) -> Path:
    while run.poll() is None:
        for folder in Path(root, "checkpoints", stage).glob("*"):
            latest = latest_metrics(folder) if folder.is_dir() else None
            if latest is not None and latest.step >= step:
                return folder
        time.sleep(0.05)
    raise RuntimeError(f"the demo ended before step {step} of {stage}")


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _inputs(model: MoS) -> tuple[torch.Tensor, torch.Tensor, Context]:
    """Noise of the size that the model draws, timesteps, and the states of captions."""
    config, generator = model.shape, torch.Generator().manual_seed(0)
    side = 6 * config.patch
    latents = torch.randn(len(CAPTIONS), config.latent_channels, side, side, generator=generator)
    tower = load_tower(read_export_config(SHAPES).tower, "cpu")
    states = [context.states.float() for context in tower.encode(CAPTIONS)]
    return latents, torch.tensor([0.2, 0.5, 0.7, 0.95]), Context.of(states)


def main() -> None:
    """Measure what is asked for, and keep each part as it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; default: {', '.join(QUICK)}")
    parser.add_argument("--avx2", action="store_true", help="as on a CPU that has AVX2 at most")
    args = parser.parse_intermixed_args()
    unknown = set(args.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown parts {sorted(unknown)}: choose from {', '.join(PARTS)}")
    environment = {"OMP_WAIT_POLICY": "passive"} | (AVX2 if args.avx2 else {})
    started_with = psutil.Process().environ()  # torch read it when it was loaded, before `pipelines` set its own
    if any(started_with.get(key) != value for key, value in environment.items()):
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **environment})
    for part in args.parts or QUICK:
        write_results("machines", PARTS[part](".avx2" if args.avx2 else ""))


if __name__ == "__main__":
    main()

"""Figures of the published size on what is here: memory against budgets, and against what is planned.

  python -m tests.benchmarks.full_size                         # all of it: two hours on two cores
  python -m tests.benchmarks.full_size memory.fragment         # rows whose id begins like this
  python -m tests.benchmarks.full_size --peak encode.512       # what a fresh process takes for one figure

A codec is Wan 2.2's VAE in its real shape, of random weights, in float32 on the CPU. Figures are what a pass adds to a
process that has loaded the model, in resident memory. A fragment is of states of an 8B tower (32 layers of 4096) and of
a 14B one (48 of 5120), packed and written as the operator does it, one context after the other, from random values. A
training step is that of an unsharded model on the CPU, from nothing to its second update, beside what
`pipelines/cost/memory.py` says of it.
"""

import argparse
import tempfile
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path

import torch
import torch.distributed as dist

from mos.encoders.wan_vae import WanCodec, draw_wan
from mos.model.fusion import RoutedFusion
from mos.model.mos import ModelConfig, MoS
from mos.model.router import RouterConfig
from mos.states.payload import StateCodec
from mos.tables.committer import payload_table, within_bytes, write_encoded
from mos.tables.lance import create_table
from mos.tables.state_tables import states_schema
from mos.training.ema import Ema
from mos.training.engine import build_engine
from mos.training.export import write_export
from mos.training.given_weights import load_export
from mos.training.local import local
from mos.training.stage import StageConfig
from mos.training.start import GivenWeights
from pipelines.cost.figures import stage_figures
from pipelines.cost.measure import step_seconds
from pipelines.cost.memory import training_memory
from pipelines.run.cli import DEFAULT_CONFIG
from pipelines.run.config import RunConfig, load_run
from tests.benchmarks.going_on import cluster_row, identity_row, refresh_row, wait_rows
from tests.benchmarks.harness import Row, added_anonymous_mib, added_peak_mib, peak_in_fresh_process, write_results
from tests.mos.training.gloo import run_ranks

MODULE = "tests.benchmarks.full_size"
BUDGET_MB = 4096
SIDES = (512, 1024, 2048)
PICTURES = 3
"""Of a batch."""
MARK = 1.15
"""Most that a peak may be of its budget."""
TOWERS = {"8B": (32, 4096), "14B": (48, 5120)}
"""Layers and width."""
TOKENS, CONTEXTS, FRAGMENT_MB = 182, 24, 1024
SHAPES: dict[str, dict[str, dict[str, int]]] = {
    "narrow": {"model": {"dim": 128, "num_blocks": 6}, "stage": {"batch_size": 256, "resolution": 64}},
    "deep": {"model": {"dim": 192, "num_blocks": 20}, "stage": {"batch_size": 64, "resolution": 64}},
    "wide": {"model": {"dim": 1024, "num_blocks": 4, "ffn_dim": 2816}, "stage": {"batch_size": 32, "resolution": 64}},
    "long": {"model": {"dim": 256, "num_blocks": 6}, "stage": {"batch_size": 16, "resolution": 256}},
}
"""Of a training step, beside the demo's model and first stage."""
RANKS = 4
LARGE = ModelConfig(
    latent_channels=48,
    patch=2,
    state_dim=1024,
    state_layers=16,
    dim=1536,
    num_blocks=8,
    num_heads=12,
    ffn_dim=4096,
    fusion=RoutedFusion(router=RouterConfig(dim=512, num_heads=4, ffn_dim=1024)),
)
"""Of starting up: large enough for a block to be told from what libraries take."""


def wan() -> WanCodec:
    """The codec in its real shape."""
    vae = draw_wan(0, base_dim=160, decoder_base_dim=256, dim_mult=[1, 2, 4, 4], num_res_blocks=2)
    return WanCodec(vae, "wan-random", pass_mb=BUDGET_MB)


def pass_peak(kind: str, side: int) -> float:
    """MiB of encoding or decoding a batch."""
    codec = wan()
    if kind == "encode":
        images = torch.randint(0, 256, (PICTURES, 3, side, side), dtype=torch.uint8)
        return added_peak_mib(lambda: codec.encode(images))
    latents = torch.randn(PICTURES, codec.channels, side // codec.stride, side // codec.stride)
    return added_peak_mib(lambda: codec.decode(latents))


def fragment_peak(tower: str) -> float:
    """MiB of writing the states of `CONTEXTS` contexts in fragments within the budget."""
    layers, dim = TOWERS[tower]
    codec = StateCodec("bf16", tuple(range(layers + 1)), dim)
    schema = states_schema("random", codec)
    generator = torch.Generator().manual_seed(0)

    def rows() -> Iterator[dict]:
        for context in range(CONTEXTS):
            states = torch.randn(TOKENS, layers + 1, dim, generator=generator, dtype=torch.bfloat16)
            yield {"context_key": str(context), "num_tokens": TOKENS, "payload": codec.pack(codec.quantise(states))}

    def write(uri: str) -> None:
        for part in within_bytes(rows(), FRAGMENT_MB * 2**20 // 2, itemgetter("payload")):
            write_encoded(uri, payload_table(part, schema), {})
            del part

    with tempfile.TemporaryDirectory() as folder:
        uri = create_table(f"{folder}/states.lance", schema).uri
        return added_peak_mib(lambda: write(uri))


def step_config(name: str) -> RunConfig:
    """A run of one worker on the CPU whose first stage is of a shape, `<shape>` or `<shape>-recompute`."""
    shape, _, recompute = name.partition("-")
    overrides = [f"model.{key}={value}" for key, value in SHAPES[shape]["model"].items()]
    overrides += [f"stage1.{key}={value}" for key, value in SHAPES[shape]["stage"].items()]
    overrides += ["cluster.train={num=1, cpus=1}", "stage1.engine.precision.compute=float32"]
    overrides += ["stage1.engine.blocks_per_unit=1", f"stage1.activation_checkpointing={bool(recompute)}".lower()]
    return load_run(DEFAULT_CONFIG, ("curate.resolutions=[64, 256]", *overrides))


def step_peak(name: str) -> float:
    """MiB of building a model and its optimizer, and of two updates."""
    config = step_config(name)
    figures = stage_figures(config, "stage1")
    return added_peak_mib(lambda: step_seconds(config, "stage1", figures, torch.device("cpu"), 1e-3))


def planned_mib(name: str) -> float:
    """What the planner says of it; there is no average of the weights in a step that is timed."""
    config = step_config(name)
    memory = training_memory(config, "stage1", stage_figures(config, "stage1"))
    return (memory.total - memory.average) / 2**20


def start_up(config: ModelConfig, folder: Path) -> None:
    """On each of the ranks: first values, an average, an export, and the export read again; notes MiB above the shard.

    A smaller model goes first, for what libraries take once.
    """
    stage = StageConfig(resolution=64, steps=1, batch_size=RANKS)

    def start(config: ModelConfig, folder: Path) -> int:
        with torch.device("meta"):
            model = MoS(config)
        engine = build_engine(stage.engine, stage.optimizer, model, torch.device("cpu"), recompute=False)
        engine.fill(model.initial_weights(torch.Generator().manual_seed(0)))
        ema = Ema(engine.weights(), 0.999)
        write_export(folder / "export", engine, ema, {"model": config.model_dump(mode="json")})
        load_export(GivenWeights(path=str(folder / "export")), engine)
        return sum(2 * local(weight).nbytes for weight in engine.weights().values())

    small = config.model_copy(update={"dim": 64, "num_heads": 4, "ffn_dim": 128, "num_blocks": 2})
    start(small, folder / "small")
    shards = 0

    def timed() -> None:
        nonlocal shards
        shards = start(config, folder / "large")

    added = added_anonymous_mib(timed)
    (folder / f"{dist.get_rank()}.txt").write_text(f"{added - shards / 2**20}", encoding="utf-8")


def init_rows() -> Iterator[Row]:
    """Host memory of the greediest of the ranks above its shards of weights and average."""
    block = sum(weight.numel() for weight in MoS(LARGE.model_copy(update={"num_blocks": 1})).blocks.parameters())
    mark = 4 * block / 2**20
    with tempfile.TemporaryDirectory() as folder:
        run_ranks(start_up, RANKS, LARGE, Path(folder))
        found = max(float(path.read_text(encoding="utf-8")) for path in Path(folder).glob("*.txt"))
    yield Row("init.host", found, f"MiB, {RANKS} ranks", "one block", mark, mark / found)


def peak(name: str) -> float:
    """MiB of one figure, in this process."""
    kind, _, size = name.partition(".")
    if kind == "model":
        return step_peak(size)
    return fragment_peak(size) if kind == "fragment" else pass_peak(kind, int(size))


def rows(begin: str) -> Iterator[Row]:
    """Rows whose id begins so."""
    figures = [(f"{kind}.{side}", BUDGET_MB) for kind in ("encode", "decode") for side in SIDES]
    figures += [(f"fragment.{tower}", FRAGMENT_MB) for tower in TOWERS]
    for name, budget in figures:
        if f"memory.{name}".startswith(begin):
            found = peak_in_fresh_process(MODULE, name)
            yield Row(f"memory.{name}", found, "MiB", f"{MARK} of its budget", MARK * budget, MARK * budget / found)
    if "init.host".startswith(begin):
        yield from init_rows()
    if "identity".startswith(begin):
        yield identity_row()
    if "fit.clusters".startswith(begin):
        yield cluster_row()
    if "wait".startswith(begin):
        yield from wait_rows()
    if "refresh.exact".startswith(begin):
        yield refresh_row()
    for name in (f"{shape}{end}" for shape in SHAPES for end in ("", "-recompute")):
        if f"memory.model.{name}".startswith(begin):
            found, planned = peak_in_fresh_process(MODULE, f"model.{name}"), planned_mib(name)
            yield Row(f"memory.model.{name}", found, "MiB", "planned (mark: within 15%)", planned, planned / found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("begin", nargs="?", default="", help="of the ids of the rows to measure")
    parser.add_argument("--peak", help="print the MiB of one figure")
    given = parser.parse_args()
    if given.peak:
        print(peak(given.peak))
    else:
        write_results("full_size", list(rows(given.begin)))

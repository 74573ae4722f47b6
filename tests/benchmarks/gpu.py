"""What the model does on one GPU: kernels, training steps, sampling, each beside its peer and its limit.

    python tests/benchmarks/gpu.py

Needs torch with CUDA, triton, numpy, jaxtyping and rich; pydantic for the model, diffusers and liger-kernel for their
peers: what is missing is named as skipped. Takes at most nine minutes. Writes tests/benchmarks/results/gpu.<name>.json
and, where matplotlib is installed, gpu.<name>.png.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

CLONE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CLONE))

from tests.benchmarks.device.timing import Budget, Ceilings, measure_ceilings  # noqa: E402
from tests.benchmarks.harness import RESULTS, Row, slug, write_results  # noqa: E402

SECONDS = 510.0
"""Nine minutes less the writing."""


def kernel_rows(ceilings: Ceilings, budget: Budget) -> list[Row]:
    """mix.*, norm.*, swiglu.*, attention.*."""
    from tests.benchmarks.device import kernels

    rows = kernels.mixing_rows(ceilings)
    for what, seconds, measure in (
        ("norm", 60, lambda: kernels.norm_rows(ceilings, budget)),
        ("swiglu", 60, lambda: kernels.gate_rows(ceilings, budget)),
        ("attention", 40, kernels.attention_rows),
    ):
        if budget.allows(what, seconds):
            rows += measure()
    return rows


def training_rows(ceilings: Ceilings, budget: Budget) -> tuple[list[Row], dict[str, float]]:
    """step.* of mos_s, then of mos_l where it fits; and the shares of a step at 1024 px."""
    from mos.model.presets import MOS_L, MOS_S
    from tests.benchmarks.device import training

    device = torch.device("cuda", 0)
    rows, shares = [training.counted_flops_row(MOS_S, device)], {}
    with training.one_rank(device):
        for recompute in (False, True):
            cases = [case for case in training.CASES if case.recompute == recompute]
            engine = training.build(MOS_S, device, recompute=recompute, compile=True)
            for case in cases:
                if budget.allows(case.id, 60):
                    torch.cuda.reset_peak_memory_stats()
                    rows += training.step_rows(MOS_S, engine, case, ceilings)
            if not recompute:
                shares = training.shares(engine, training.random_batch(MOS_S, 8, 1024, device))
            del engine
            torch.cuda.empty_cache()
        if budget.allows("step.mos_l", 90):
            engine = training.build(MOS_L, device, recompute=True, compile=True)
            case = training.StepCase("step.mos_l.1024", 1024, 8, recompute=True)
            rows += training.step_rows(MOS_L, engine, case, ceilings)
            del engine
            torch.cuda.empty_cache()
    return rows, shares


def latency_rows(budget: Budget) -> list[Row]:
    """router.*, sampling.*, latency.*."""
    from mos.model.presets import MOS_S
    from tests.benchmarks.device import sampling

    rows, seconds = sampling.sampling_rows(MOS_S)
    torch.cuda.empty_cache()
    return rows + sampling.peer_rows(seconds, budget)


def section(name: str, budget: Budget, measure: Callable[[], list[Row]]) -> list[Row]:
    """The rows of one part; a part that cannot run is named, and the others still do."""
    try:
        return measure()
    except (ImportError, RuntimeError) as error:  # a missing package, too little memory, a kernel that does not build
        budget.skip(name, f"{type(error).__name__}: {error}")
        return []


def picture(rows: Sequence[Row], shares: dict[str, float], path: Path) -> None:
    """Ratios to peers and limits, and where a training step's time goes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    compared = [row for row in rows if row.ratio is not None]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(14, 0.28 * len(compared) + 1.5), layout="constrained")
    left.barh([f"{row.id} ({row.peer})" for row in compared], [row.ratio for row in compared])
    left.axvline(1.0, color="black", linewidth=0.8)
    left.invert_yaxis()
    left.set_xlabel("ratio to the peer or the limit")
    right.barh(list(shares), list(shares.values()))
    right.invert_yaxis()
    right.set_xlabel("share of the GPU's time, training step of mos_s at 1024 px")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure everything that fits; print, keep and draw it."""
    if not torch.cuda.is_available():
        raise SystemExit("tests/benchmarks/gpu.py needs a CUDA device; tests/benchmarks/cpu.py is for the CPU")
    budget, device, shares = Budget(SECONDS), torch.cuda.get_device_name(), {}
    ceilings = measure_ceilings()
    rows = [
        Row("limit.copy", ceilings.copy / 1e12, "TB/s", repeats=15),
        Row("limit.matmul", ceilings.matmul / 1e12, "TFLOP/s", repeats=15),
    ]

    def train() -> list[Row]:
        trained, found = training_rows(ceilings, budget)
        shares.update(found)
        return trained

    rows += section("kernels", budget, lambda: kernel_rows(ceilings, budget))
    rows += section("training", budget, train)
    rows += section("sampling", budget, lambda: latency_rows(budget))
    rows += [Row(f"step.share.{kind.replace(' ', '_')}", share, "of a step") for kind, share in shares.items()]
    write_results("gpu", rows, device)
    section("picture", budget, lambda: picture(rows, shares, RESULTS / f"gpu.{slug(device)}.png") or [])
    print("\n".join(["skipped:", *budget.skipped]) if budget.skipped else "nothing was skipped")


if __name__ == "__main__":
    main()

"""What the model does on one GPU: kernels, training steps, sampling, each beside its peer and its limit.

    python tests/benchmarks/gpu.py

Needs a clone of the repository, torch with CUDA, triton, numpy, pydantic, safetensors, jaxtyping and rich; neither Ray
nor Lance. diffusers and liger-kernel are the peers of sampling and of the kernels, matplotlib draws the picture:
without one of these, what needs it is named as skipped. Where there is no network, fetch the wheels of what is missing
elsewhere, for that machine's Python, and carry them there:

    pip download --only-binary=:all: --python-version 3.12 --platform manylinux2014_x86_64 -d wheels pydantic
    pip download --only-binary=:all: --python-version 3.12 --platform manylinux2014_x86_64 -d wheels --no-deps \\
        diffusers importlib_metadata zipp liger-kernel
    pip install --no-index --no-deps --target site wheels/*.whl
    PYTHONPATH=site python tests/benchmarks/gpu.py

Takes at most nine minutes; the figures that have marks come first. Writes tests/benchmarks/results/gpu.<name>.json
after every measurement, and at the end gpu.<name>.png.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

CLONE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CLONE))

from tests.benchmarks.device.run import Run  # noqa: E402
from tests.benchmarks.device.timing import Ceilings, measure_ceilings  # noqa: E402
from tests.benchmarks.harness import RESULTS, Row, keep_results, print_rows, slug  # noqa: E402

SECONDS = 510.0
"""Nine minutes less the picture."""
SHARE = "step.share."


def marked_kernels(run: Run, ceilings: Ceilings) -> None:
    """mix.*, and norm.* and swiglu.* at the shape that their shares of bandwidth are of."""
    from tests.benchmarks.device import kernels

    kernels.mixing(run, ceilings)
    for sweep in (kernels.NORM, kernels.GATE):
        kernels.sweep_main(run, sweep, ceilings)


def marked_steps(run: Run, ceilings: Ceilings) -> None:
    """step.* of mos_s."""
    from tests.benchmarks.device import training

    device = torch.device("cuda", 0)
    with training.one_rank(device):
        training.steps(run, training.CASES, ceilings, device)


def marked_sampling(run: Run) -> None:
    """router.*, latency.qwen and latency.flux."""
    from mos.model.presets import MOS_S
    from tests.benchmarks.device import sampling

    sampling.sampling(run, MOS_S)


def other_shapes(run: Run) -> None:
    """norm.* and swiglu.* at their other shapes."""
    from tests.benchmarks.device import kernels

    for sweep in (kernels.NORM, kernels.GATE):
        kernels.sweep_others(run, sweep)


def other_steps(run: Run, ceilings: Ceilings) -> None:
    """Where a step's time goes, the count of its operations, and mos_l."""
    from mos.model.presets import MOS_S
    from tests.benchmarks.device import training
    from tests.benchmarks.device.shares import share_rows

    device = torch.device("cuda", 0)
    with training.one_rank(device):
        run.measure("step.share", 60, lambda: share_rows(MOS_S, device))
        run.measure("step.flops", 20, lambda: training.counted_flops_rows(MOS_S, device))
        training.steps(run, [training.LARGE], ceilings, device)


def other_kernels(run: Run, ceilings: Ceilings) -> None:
    """mix.int8, mix.bwd, norm_rope.*, attention.*."""
    from tests.benchmarks.device import kernels
    from tests.benchmarks.device.attention import attention

    kernels.more_mixing(run, ceilings)
    kernels.norm_rope_case(run, ceilings)
    attention(run)


def other_sampling(run: Run) -> None:
    """sampling.* of larger batches, and the public models without a mark."""
    from mos.model.presets import MOS_S
    from tests.benchmarks.device import sampling

    sampling.more_sampling(run, MOS_S)


def picture(rows: Sequence[Row], path: Path) -> None:
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
    shares = {row.id.removeprefix(SHARE): row.value for row in rows if row.id.startswith(SHARE)}
    right.barh(list(shares), list(shares.values()))
    right.invert_yaxis()
    right.set_xlabel("share of the GPU's time, training step of mos_s at 1024 px")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure everything that fits; keep, print and draw it."""
    if not torch.cuda.is_available():
        raise SystemExit("tests/benchmarks/gpu.py needs a CUDA device; tests/benchmarks/cpu.py is for the CPU")
    device = torch.cuda.get_device_name()
    run = Run(SECONDS, lambda rows: keep_results("gpu", rows, device))
    ceilings = measure_ceilings()
    limits = [
        Row("limit.copy", ceilings.copy / 1e12, "TB/s", repeats=15),
        Row("limit.matmul", ceilings.matmul / 1e12, "TFLOP/s", repeats=15),
    ]
    run.measure("limits", 0, lambda: limits)
    for section in (
        partial(marked_kernels, run, ceilings),
        partial(marked_steps, run, ceilings),
        partial(marked_sampling, run),
        partial(other_shapes, run),
        partial(other_steps, run, ceilings),
        partial(other_kernels, run, ceilings),
        partial(other_sampling, run),
    ):
        run.attempt(section.func.__name__, section)
    rows = list(run.rows.values())
    print_rows("gpu", rows)
    run.attempt("picture", lambda: picture(rows, RESULTS / f"gpu.{slug(device)}.png"))
    print("\n".join(["skipped:", *run.skipped]) if run.skipped else "nothing was skipped")


if __name__ == "__main__":
    main()

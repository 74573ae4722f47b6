"""The figures of the pipeline: what the finished demo draws, how fast curation runs, what the K/V-only step saves.

  make demo && python tests/benchmarks/pipeline.py
  python tests/benchmarks/pipeline.py root=/data/demo

The demo's figures are those of its evaluate step: colour and shape on 64 held-out single-object prompts, and the share
of right pictures in each category.
"""

import sys
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mos.errors import UserError
from mos.shapes.scene import Category, Colour, Shape
from pipelines.run.cli import Command
from pipelines.run.steps import Run
from tests.benchmarks.curate import measure_ratio, measure_reject
from tests.benchmarks.harness import Row, write_results
from tests.benchmarks.model import kv_only_rows

NUM_PROMPTS = 64
REPEATS = 5


def main(run: Run, args: Namespace) -> None:
    """Read the scores of the evaluate step, measure the model and curation, and record each as it is done."""
    write_results("pipeline", demo_rows(run))
    write_results("pipeline", kv_only_rows())
    write_results("pipeline", [measure_reject(REPEATS)])
    write_results("pipeline", [measure_ratio(REPEATS)])


def demo_rows(run: Run) -> list[Row]:
    """`demo.colour` and `demo.shape` of a finished run, and the share of right pictures in each category.

    Raises:
        UserError: the run is not evaluated, has no scores, or was scored on another number of prompts.
    """
    scores = run.require("evaluate").outputs["scores"]
    if scores is None:
        raise UserError(f"run {run.config.name!r} has no scores: only the demo's drawn scenes are scored")
    categories = scores["categories"]
    single = categories[str(Category.SINGLE_OBJECT)]
    if single["num"] != NUM_PROMPTS:
        raise UserError(f"single_object was scored on {single['num']} prompts: set single_object_prompts={NUM_PROMPTS}")
    rows = [
        Row("demo.colour", single["colour"], "share right", "chance", 1 / len(Colour), single["colour"] * len(Colour)),
        Row("demo.shape", single["shape"], "share right", "chance", 1 / len(Shape), single["shape"] * len(Shape)),
    ]
    return rows + [Row(f"demo.{name}", score["correct"], "share right") for name, score in categories.items()]


if __name__ == "__main__":
    Command(__name__, __doc__).run(main)

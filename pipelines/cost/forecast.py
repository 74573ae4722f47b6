"""How long a run will take here: a few training steps of each stage and one start of a process, measured."""

import subprocess
import sys
import time
from dataclasses import dataclass

import torch

from mos.errors import UserError
from pipelines.cost.figures import stage_figures
from pipelines.cost.measure import step_seconds
from pipelines.run.config import RunConfig
from pipelines.run.steps import TRAINING, Run, configured_steps
from pipelines.train.job import stage_folder, steps_done

MEASURED_S = 1.5
"""Seconds of training steps that each stage is measured by."""

PACKAGES = "import lance, ray.data, ray.train, torch, transformers"
"""What every job loads. The time this takes tells how fast the machine is at all that is no arithmetic."""

JOB_STARTS = {"shapes": 4.0, "curate": 4.0, "encode": 10.0, "sample": 5.0, "evaluate": 8.0} | dict.fromkeys(
    TRAINING, 6.5
)
"""How many times as long as loading the packages a step takes beside training steps and drawing: processes that start,
tables, pictures, the report. From the records of one whole demo on two cores, with 6 s assumed for the loading."""

WITHIN_A_RUN = 1.25
"""How many times as long as alone a training step takes in a run: batches are built beside it, the average follows it,
Ray's own processes use the cores, too. Of the same demo: 1.2 in a stage run by itself, 1.4 in all."""

FORWARD_SHARE = 1 / 3
"""Of a training step: the rest is the backward pass."""


@dataclass(frozen=True)
class Forecast:
    """Seconds that are left of a run."""

    training_s: float
    drawing_s: float
    other_s: float

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.training_s + self.drawing_s + self.other_s

    def __str__(self) -> str:
        return f"about {_minutes(self.total_s)}, {_minutes(self.training_s)} of them training steps"


def forecast(run: Run, *, again: bool = False) -> Forecast | None:
    """Time that is left of a run on this machine; None where no training is left, a codec
    is to be trained first, or the amount of data is not known.

    The steps measured are those of one worker's share, with the threads it has.

    Args:
        run: to be run, or gone on with.
        again: all of it is left, also what is on record.
    """
    config = run.config
    left = list(configured_steps(config)) if again else steps_left(run)
    stages = [name for name in left if name in TRAINING]
    if not stages or "codec" in left:
        return None
    device = torch.device("cpu")
    threads = torch.get_num_threads()
    try:
        seconds = {name: step_seconds(config, name, stage_figures(config, name), device, MEASURED_S) for name in stages}
    except UserError:
        return None
    finally:
        torch.set_num_threads(threads)
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", PACKAGES], check=True, capture_output=True)
    start_s = time.perf_counter() - started
    first = stages[0]
    begun = left[0] == first and not again
    done = steps_done(stage_folder(run.step(first), config)) if begun else 0
    return Forecast(
        training_s=WITHIN_A_RUN
        * (sum(config.stage(name).steps * seconds[name] for name in stages) - done * seconds[first]),
        drawing_s=drawing_seconds(config, left, seconds),
        other_s=sum(JOB_STARTS[name] * start_s for name in left),
    )


def steps_left(run: Run) -> list[str]:
    """The steps of a run that are not on record; all that follow one of them count.

    Not so a stage that has seen earlier samples, which does not wait for newer ones, nor what draws with it.
    """
    names = list(configured_steps(run.config))
    for number, name in enumerate(names):
        if run.step(name).find() is None:
            return [name for name in names[number:] if not _stands(run, name)]
    return []


def _stands(run: Run, name: str) -> bool:
    if name not in (*TRAINING, "sample", "evaluate"):
        return False
    try:
        return run.step(name).find() is not None
    except UserError:  # what it stands on is not finished
        return False


def drawing_seconds(config: RunConfig, left: list[str], seconds: dict[str, float]) -> float:
    """For the pictures on the way, those of `sample`, and those that `evaluate` judges."""
    total = 0.0
    for name in (name for name in left if name in TRAINING):
        stage = config.stage(name)
        grids = stage.steps // stage.sample_every if stage.sample_every else 0
        total += grids * stage.num_sample_images * _picture_s(config, name, config.sample.sampler.steps, seconds)
    last = next((name for name in reversed(config.stages()) if name != "edit"), None)
    if last is None or last not in seconds:
        return total
    evaluate = config.evaluate
    judged = evaluate.single_object_prompts + 5 * evaluate.prompts_per_category if config.shapes else 0
    judged *= evaluate.images_per_prompt
    for name, pictures, sampler in (("sample", config.sample.num_images, config.sample.sampler),
                                    ("evaluate", judged + evaluate.num_edits, evaluate.sampler)):  # fmt: skip
        if name in left:
            total += pictures * _picture_s(config, last, sampler.steps, seconds)
    return total


def _picture_s(config: RunConfig, stage: str, steps: int, seconds: dict[str, float]) -> float:
    """Of one picture, with guidance, on all workers at once."""
    return 2 * steps * FORWARD_SHARE * seconds[stage] / config.stage(stage).batch_size


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"

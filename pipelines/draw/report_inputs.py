"""What the report shows besides the pictures that are judged: records, metrics and pictures of the other steps."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mos.evaluation.cases import EditCase, drawn_edits, shown_prompts, stored_edits
from mos.evaluation.charts import LossCurve
from mos.evaluation.grids import Captioned, EditExample
from mos.evaluation.report import Counts
from mos.evaluation.scores import edit_is_correct
from mos.sampling.pictures import from_png, to_png
from mos.shapes.checker import check
from mos.tables.lance import TableVersion
from mos.training.goodput import Goodput
from mos.training.held_out import read_held_out
from mos.training.metrics import read_metrics
from pipelines.draw.requests import Request, bucket_of
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run, configured_steps

SHOWN_PX = 512
"""Longest side of a source picture in the report."""


def gather_counts(run: Run) -> tuple[Counts, dict[str, dict[str, int]]]:
    """Counts of what curation read, kept and rejected, and the kept samples' buckets."""
    outputs = run.require("curate").outputs
    buckets = {f"{resolution} px": counts for resolution, counts in outputs["buckets"].items()}
    return Counts(outputs["read"], outputs["kept"], outputs["rejected"]), buckets


def judged_stages(config: RunConfig) -> tuple[str, ...]:
    """The trained stages that the report covers: all of them, or those up to the one that is named."""
    stages, named = config.stages(), config.evaluate.stage
    return stages if named is None else stages[: stages.index(named) + 1]


def gather_losses(run: Run) -> list[LossCurve]:
    """The loss curve of every stage covered."""
    curves = []
    for stage in judged_stages(run.config):
        folder = Path(run.require(stage).outputs["folder"])
        lines, measured = read_metrics(folder), read_held_out(folder)
        if lines:
            steps, losses = tuple(line.step for line in lines), tuple(line.loss for line in lines)
            curves.append(LossCurve(stage, steps, losses, tuple((line.step, line.loss) for line in measured)))
    return curves


def gather_facts(run: Run, stage: str) -> dict[str, str]:
    """The head of the report."""
    config = run.config
    encoded = run.require("encode").outputs
    covered = judged_stages(config)
    before = [step for step in configured_steps(config) if step in ("shapes", "curate", "encode", *covered)]
    balances = {name: run.require(name).outputs.get("balance") for name in covered}
    streamed = [
        f"{name}: trainer waited {balance['trainer_stall']:.0%}, producers idle {balance['producer_idle']:.0%}"
        for name, balance in balances.items()
        if balance is not None
    ]
    spent = {name: run.require(name).outputs.get("time") for name in covered}
    shares = [f"{name} {Goodput(**found).share:.0%}" for name, found in spent.items() if found is not None]
    minutes = sum(run.require(step).seconds for step in before) / 60
    return {
        "model": f"{run.require(stage).outputs['num_params'] / 1e6:.1f} M parameters",
        "understanding tower": f"{encoded['tower_id']}, {encoded['num_layers']} layers",
        "codec": f"{encoded['codec_id']}, {encoded['channels']} channels, stride {encoded['stride']}",
        "judged": f"{stage} at {config.stage(stage).resolution} px",
        "training steps": f"{sum(config.stage(name).steps for name in covered):,}",
        **({"streamed states": "; ".join(streamed)} if streamed else {}),
        **({"time that went to updates": ", ".join(shares)} if shares else {}),
        "data and training took": f"{minutes:.1f} min",
        "guidance": f"{config.evaluate.sampler.guidance:g}, {config.evaluate.sampler.steps} steps",
        "written": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def sampled_pictures(run: Run) -> list[Captioned]:
    """Pictures of the sample step, checked where its prompts are the demo's own; none for a report on a named stage."""
    config = run.config
    if config.evaluate.stage is not None:
        return []
    paths = [Path(path) for path in run.require("sample").outputs["images"]]
    prompts = [json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["prompt"] for path in paths]
    pictures = [from_png(path.read_bytes()) for path in paths]
    known = [] if config.shapes is None else shown_prompts(config.sample.num_images, config.seed)
    scenes = {prompt.text: prompt.scene for prompt in known}
    return [
        Captioned(picture, prompt, check(np.asarray(picture), scenes[prompt]).correct if prompt in scenes else None)
        for picture, prompt in zip(pictures, prompts, strict=True)
    ]


def edit_cases(run: Run) -> list[EditCase]:
    """Held-out edits where the data was drawn, else the first of the table's own; none before the editing stage."""
    config = run.config
    if "edit" not in judged_stages(config):
        return []
    if config.shapes is not None:
        return drawn_edits(config.evaluate.num_edits, config.evaluate.seed, config.stage("edit").resolution)
    samples = TableVersion(**run.require("curate").outputs["samples"])
    return stored_edits(samples, config.evaluate.num_edits, config.curate.image)


def edit_requests(config: RunConfig, cases: Sequence[EditCase]) -> list[Request]:
    """One picture for each case, in the bucket nearest to its source."""
    requests = []
    for i, case in enumerate(cases):
        height, width = bucket_of(config, "edit", case.source)
        seed = config.evaluate.seed + i
        requests.append(Request("edit", case.instruction, seed, height, width, source=to_png(case.source)))
    return requests


def edit_examples(cases: Sequence[EditCase], results: Sequence[Image.Image]) -> list[EditExample]:
    """Each case with what came out, and the checker's word where it has one."""
    return [
        EditExample(
            _at_most(case.source),
            case.instruction,
            result,
            _at_most(case.target),
            None if case.edit is None else edit_is_correct(result, case.edit),
        )
        for case, result in zip(cases, results, strict=True)
    ]


def _at_most(image: Image.Image) -> Image.Image:
    smaller = image.copy()
    smaller.thumbnail((SHOWN_PX, SHOWN_PX), Image.Resampling.LANCZOS)
    return smaller

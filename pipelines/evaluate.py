#!/usr/bin/env python3
"""Evaluate: a finished run -> scores, figures and one self-contained page.

Reads   records and metrics of every step, the exports of the last text-to-image stage and of the editing stage
Writes  report/: report.html, a PNG of each figure, scores.json, router_trace.npz

  python pipelines/evaluate.py
  python pipelines/evaluate.py stage=stage1 sampler.steps=50 router_prompt="two green stars"
  ray job submit --working-dir . -- pipelines/evaluate.py
"""

import sys
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.run.cli import Command

COMMAND = Command(__name__, __doc__, section="evaluate")

from cluster.session import ray_session
from mos.evaluation.cases import scored_prompts
from mos.evaluation.report import Report, write_report
from mos.evaluation.scores import EditScores, Scores, score_edits, score_pictures, with_margin
from mos.sampling.trace import RouterTrace, routing_entropy
from pipelines.draw.pool import draw, trace_router
from pipelines.draw.report_inputs import (
    edit_cases,
    edit_examples,
    edit_requests,
    gather_counts,
    gather_facts,
    gather_losses,
    sampled_pictures,
)
from pipelines.draw.requests import Request, export_folder, text_stage
from pipelines.run.steps import Run

SHOWN_EDITS = 8
"""Of those that are checked: the page has room for so many."""
LEVEL = 0.99
"""A router whose weights are spread so far over the layers chooses none."""


def main(run: Run, args: Namespace) -> None:
    """Draw what is judged, check it, gather what the other steps left, write the report."""
    config = run.config
    step = run.step("evaluate")
    page = config.folder("report", "report.html")
    if step.already_finished(args.force) and page.is_file():
        print(f"evaluate: the report is {page}", flush=True)
        return
    settings, stage = config.evaluate, text_stage(run, config.evaluate.stage)
    print(f"evaluate: judging {stage}", flush=True)
    prompts = []
    if config.shapes is not None:
        prompts = scored_prompts(settings.single_object_prompts, settings.prompts_per_category, settings.seed)
        prompts *= settings.images_per_prompt
    side = config.stage(stage).resolution
    requests = [Request(stage, prompt.text, settings.seed + i, side, side) for i, prompt in enumerate(prompts)]
    cases = edit_cases(run)
    exports: dict[str, str] = {name: export_folder(run, name) for name in ({stage, "edit"} if cases else {stage})}
    with ray_session(config.cluster):
        pictures = draw(
            requests + edit_requests(config, cases),
            exports,
            settings.sampler,
            pool=config.cluster.generate,
            batch_size=settings.batch_size,
            label="evaluate",
            limits=config.curate.image,
        )
        router = trace_router(
            exports[stage],
            settings.router_prompt,
            settings.sampler,
            seed=settings.seed,
            pool=config.cluster.generate,
        )
    scores = score_pictures(pictures[: len(prompts)], prompts) if prompts else None
    edited, edits = pictures[len(prompts) :], [case.edit for case in cases if case.edit is not None]
    edit_scores = score_edits(edited, edits) if edits else None
    counts, buckets = gather_counts(run)
    report = Report(
        name=config.name,
        facts=gather_facts(run, stage),
        counts=counts,
        buckets=buckets,
        losses=gather_losses(run),
        pictures=sampled_pictures(run),
        scores=scores,
        edits=edit_examples(cases[:SHOWN_EDITS], edited[:SHOWN_EDITS]),
        router=router,
        router_panels=settings.router_panels,
        router_tokens=settings.router_tokens,
        omissions={
            "scores": "they need the demo's drawn scenes, whose checker knows what a picture should show",
            "edits": f"there is no editing stage up to {stage}, or no editing triples",
            "pictures": f"this report is about {stage} alone; pipelines/sample.py draws for the whole run",
        },
        settings=config.model_dump_json(indent=2),
    )
    write_report(report, page.parent)
    print_scores(scores)
    print_edits(edit_scores)
    print_router(router.trace)
    step.finish(
        {
            "report": str(page),
            "stage": stage,
            "scores": None if scores is None else scores.as_dict(),
            "edits": None if edit_scores is None else edit_scores.as_dict(),
        }
    )
    print(f"evaluate: the report is {page}", flush=True)


def print_scores(scores: Scores | None) -> None:
    """The six categories as lines, as they are."""
    if scores is None:
        print("evaluate: no scores, they need the demo's drawn scenes", flush=True)
        return
    for category, score in scores.categories.items():
        colour = "   -" if score.colour is None else f"{score.colour:.2f}"
        print(
            f"evaluate: {category:14} right {with_margin(score.correct, score.num)}  shape {score.shape:.2f}  "
            f"colour {colour}  ({score.num} prompts)",
            flush=True,
        )
    if scores.unseen is not None:
        num, correct = scores.unseen
        told = with_margin(correct, num)
        print(f"evaluate: {'unseen':14} right {told}  ({num} of colours never seen beside another object)", flush=True)
    print(f"evaluate: {'overall':14} right {scores.overall_in_words} (± is half the 95% interval)", flush=True)


def print_edits(scores: EditScores | None) -> None:
    """The kinds of edit, and all of them."""
    if scores is None:
        return
    for kind, (num, right) in scores.kinds.items():
        print(f"evaluate: {f'edit: {kind}':14} right {with_margin(right, num)}  ({num} edits)", flush=True)
    num, right = scores.overall
    print(f"evaluate: {'edits':14} right {with_margin(right, num)}", flush=True)


def print_router(trace: RouterTrace) -> None:
    """Print the spread of the router's weights over the layers, and a warning where it tells none apart."""
    spread = float(routing_entropy(trace).mean())
    print(f"evaluate: router: its weights' spread over the layers is {spread:.3f} (1 = all alike)", flush=True)
    if spread > LEVEL:
        print(
            f"evaluate: the router weighs its {trace.weights.shape[2]} layers alike: it has not learned to choose. "
            "Train longer, or look at router.epsilon and router.top_k",
            flush=True,
        )


if __name__ == "__main__":
    COMMAND.run(main)

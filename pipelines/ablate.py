#!/usr/bin/env python3
"""Ablate: encoded tables -> one stage trained for each variant and seed, and how sure their differences are.

Reads   the tables of curate and encode; variants share the samples and the latents, and the states of one tower
Writes  checkpoints/<stage>/ of every variant; ablation/: cases.json, verdicts.json, tables.md, comparisons.png

Variants train beside one another as far as the cluster has room for their gangs. What is trained or measured is found
again, so a job that was stopped goes on, and a variant that is added trains alone.

  python pipelines/ablate.py pipelines/configs/ablate.toml
  python pipelines/ablate.py pipelines/configs/ablate.toml seeds=[0,1,2,3,4]
  ray job submit --working-dir . -- pipelines/ablate.py pipelines/configs/ablate.toml
"""

import sys
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.run.cli import Command

COMMAND = Command(__name__, __doc__, section="ablate")

import json
from dataclasses import asdict

from cluster.session import ray_session
from mos.ablation.config import AblateConfig
from mos.ablation.results import CaseFigures, Verdict, comparisons_figure, judge, markdown
from mos.errors import UserError
from mos.evaluation.theme import LIGHT, figure_png
from mos.files import written_whole
from pipelines.run.steps import Run
from pipelines.train.cases import on_one_curation, run_cases, variant_cases


def main(run: Run, args: Namespace) -> None:
    """Train and measure every case, then compare."""
    settings = run.config.ablate
    if settings is None:
        raise UserError(f"config {run.config.name!r} has no [ablate] section: see pipelines/configs/ablate.toml")
    cases = on_one_curation(variant_cases(run.config, settings), args.force)
    print(
        f"ablate: {len(settings.variants)} variants of {settings.stage}, {len(settings.seeds)} seeds each, "
        f"{run.config.stage(settings.stage).steps} steps of {run.config.stage(settings.stage).batch_size}",
        flush=True,
    )
    with ray_session(run.config.cluster):
        figures = run_cases(cases, settings, force=args.force)
    verdicts = judge(settings, figures)
    folder = run.config.folder("ablation")
    write_results(folder, settings, figures, verdicts)
    print_verdicts(verdicts)
    print(f"ablate: tables and figure are in {folder}", flush=True)


def write_results(folder: Path, settings: AblateConfig, figures: list[CaseFigures], verdicts: list[Verdict]) -> None:
    """Everything that was found, for people and for programs."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "cases.json": json.dumps([asdict(case) for case in figures], indent=2) + "\n",
        "verdicts.json": json.dumps([verdict.as_dict() for verdict in verdicts], indent=2) + "\n",
        "tables.md": markdown(settings, figures, verdicts),
    }
    for name, text in texts.items():
        with written_whole(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")
    (folder / "comparisons.png").write_bytes(figure_png(lambda theme: comparisons_figure(verdicts, theme), LIGHT))


def print_verdicts(verdicts: list[Verdict]) -> None:
    """One line a comparison."""
    for verdict in verdicts:
        said = verdict.comparison
        parts = []
        for name, result, lower in verdict.figures():
            if result is not None:
                parts.append(
                    f"{name} {result.mean:+.4f} ± {result.half_width:.4f} (p {result.p:.3f}, {result.direction(lower)})"
                )
        print(f"ablate: {said.better} - {said.worse} [{said.source}]: {'; '.join(parts)}", flush=True)


if __name__ == "__main__":
    COMMAND.run(main)

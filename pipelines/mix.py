#!/usr/bin/env python3
"""Mix: a grid of mixing ratios -> a small training for each, and the ratios that serve all sources best.

Reads   the tables of curate and encode
Writes  checkpoints/<stage>/ of every training; mix/: mixes.json, mixes.md, mixes.png, chosen.toml

Each mix of [mix.sources] is trained as [mix] says, several side by side, and measured by its loss on held-out samples
of each source. What is trained or measured is found again: a job that was stopped goes on, a mix that is added trains
alone. Ratios are ordered by the mean of each source's loss over the lowest that any of them has.

  python pipelines/mix.py my.toml
  python pipelines/mix.py my.toml jobs=4 seeds=[0,1,2]
  ray job submit --working-dir . -- pipelines/mix.py my.toml
"""

import sys
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.run.cli import Command

COMMAND = Command(__name__, __doc__, section="mix")

import json

from rich.console import Console
from rich.table import Table

from cluster.session import ray_session
from mos.ablation.mixes import MixResult, cells, chosen_toml, columns, markdown, mixes_figure, rank
from mos.ablation.mixing import MixConfig
from mos.errors import UserError
from mos.evaluation.theme import LIGHT, figure_png
from mos.files import written_whole
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run
from pipelines.train.cases import on_one_curation, refuse_unmeasured, run_cases, variant_cases


def main(run: Run, args: Namespace) -> None:
    """Train and measure every mix, then choose."""
    settings = settings_of(run.config)
    cases = on_one_curation(variant_cases(run.config, settings.cases()), args.force)
    refuse_unmeasured(cases[0], settings.cases())
    seeds = f"{len(settings.seeds)} seed{'s' * (len(settings.seeds) > 1)}"
    print(f"mix: {len(settings.mixes())} mixes of {settings.stage}, {seeds} each", flush=True)
    with ray_session(run.config.cluster):
        figures = run_cases(cases, settings.cases(), force=args.force)
    results = rank(settings, figures)
    folder = run.config.folder("mix")
    write_results(folder, settings, results)
    print_results(settings, results)
    print(f"mix: table and figure are in {folder}", flush=True)


def settings_of(config: RunConfig) -> MixConfig:
    """The [mix] section.

    Raises:
        UserError: there is none, or it is about other sources than the stage.
    """
    settings = config.mix
    if settings is None:
        raise UserError(f"config {config.name!r} has no [mix] section: see pipelines/configs/tiny.toml")
    trained = config.stage(settings.stage).sources
    if trained.keys() != settings.sources.keys():
        raise UserError(
            f"mix.sources names {sorted(settings.sources)}, {settings.stage}.sources {sorted(trained)}: name the same "
            "ones in both, in the stage with any ratios, and run pipelines/encode.py"
        )
    return settings.model_copy(update={"sources": {source: settings.sources[source] for source in trained}})


def write_results(folder: Path, settings: MixConfig, results: list[MixResult]) -> None:
    """Everything that was found, for people and for programs."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "mixes.json": json.dumps([result.as_dict() for result in results], indent=2) + "\n",
        "mixes.md": markdown(settings, results),
        "chosen.toml": chosen_toml(settings, results),
    }
    for name, text in texts.items():
        with written_whole(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")
    (folder / "mixes.png").write_bytes(figure_png(lambda theme: mixes_figure(results, theme), LIGHT))


def print_results(settings: MixConfig, results: list[MixResult]) -> None:
    """The table, the chosen ratios, and whether others may be as good."""
    table = Table(*columns(results), title="mixes, the best first", title_justify="left")
    for result in results:
        table.add_row(*cells(result))
    Console(width=40 + 16 * len(table.columns)).print(table)
    alike = [result.name for result in results[1:] if not result.is_surely_behind]
    if alike:
        print(f"mix: by these seeds the first cannot be told from {'; '.join(alike)}", flush=True)
    print(chosen_toml(settings, results), flush=True)


if __name__ == "__main__":
    COMMAND.run(main)

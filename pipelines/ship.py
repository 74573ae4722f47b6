#!/usr/bin/env python3
"""Ship: the export of a finished run of drawn scenes, or its codec -> a checkpoint as the package carries it.

Reads   the export of the editing stage where it is finished, else of the last of stage1 to stage4, and the records of
        its stages; with --codec those of the codec step
Writes  mos/checkpoints/<name of the run>/: an export in bfloat16, scores.json, samples.png, and
        the model card, README.md; with --codec mos/checkpoints/codec/: safetensors, config.json,
          reconstructions.png and its card

  python pipelines/ship.py pipelines/configs/shapes.toml
  python pipelines/ship.py pipelines/configs/codec.toml --codec
"""

import json
import shutil
import sys
from argparse import Namespace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.run.cli import Command

COMMAND = Command(__name__, __doc__, flags={"--codec": "ship the codec that the run has trained"})

import torch
from PIL import Image
from safetensors.torch import save_file

from mos.checkout import CLONE
from mos.errors import UserError
from mos.evaluation.card import TrainedStage, codec_card, model_card
from mos.evaluation.cases import drawn_edits, scored_prompts
from mos.evaluation.grids import Captioned, picture_grid
from mos.evaluation.scores import EditScores, Scores, score_edits, score_pictures, with_margin
from mos.evaluation.theme import LIGHT, figure_png
from mos.model.exported import OLDER_CONFIG, OLDER_WEIGHTS, WEIGHTS, layout_of
from mos.sampling.draw import draw_pictures, load_for_drawing
from mos.sampling.export import ExportConfig, read_export, read_export_config
from mos.sampling.pipeline import MoSPipeline
from mos.shapes.captions import Prompt
from pipelines.draw.requests import export_folder, text_stage
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run

MOST_BYTES = 16 * 2**20
"""Of the weights: what a package may carry."""
MOST_CODEC_BYTES = 2 * 2**20
"""Of a codec, all files but its pictures."""
KEPT = ("name", "stage", "resolution", "bucket_aspect", "fingerprint", "seed", "tower_id", "codec_id", "config")
"""Of the run's record: nothing that names a place on this machine."""
GRID_COLUMNS = 6


def main(run: Run, args: Namespace) -> None:
    """Write the weights, draw with what was written, score it, write the card."""
    config = run.config
    if args.codec:
        ship_codec(run)
        return
    if config.shapes is None:
        raise UserError(f"config {config.name!r} has no [shapes] section: the checker scores drawn scenes alone")
    stage = "edit" if config.edit is not None and run.is_finished("edit") else text_stage(run, None)
    folder = CLONE / "mos" / "checkpoints" / config.name
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(Path(export_folder(run, stage)), folder)
    evaluate = config.evaluate
    prompts = scored_prompts(evaluate.single_object_prompts, evaluate.prompts_per_category, 0)
    prompts *= evaluate.images_per_prompt
    pipe = load_for_drawing(folder, device="cuda" if torch.cuda.is_available() else "cpu")
    pictures = draw_all(pipe, prompts, config)
    scores = score_pictures(pictures, prompts)
    edits = draw_edits(pipe, config) if stage == "edit" else None
    write_scores(folder, prompts, pictures, scores, edits)
    stages = trained_stages(run, stage)
    card = model_card(config.name, machine(config), read_export(folder), stages, scores, edits, evaluate)
    (folder / "README.md").write_text(card, encoding="utf-8")
    for category, score in scores.categories.items():
        print(f"ship: {category:14} right {with_margin(score.correct, score.num)} of {score.num}", flush=True)
    for kind, (num, right) in edits.kinds.items() if edits else ():
        print(f"ship: {f'edit: {kind}':14} right {with_margin(right, num)} of {num}", flush=True)
    print(f"ship: {folder} is complete; its card is README.md", flush=True)


def ship_codec(run: Run) -> None:
    """Copy the autoencoder that the codec step has trained, and write its card.

    Raises:
        UserError: the step is not finished, or the codec is too large to ship.
    """
    config, record = run.config, run.require("codec")
    codec, figures = config.codec, record.outputs
    assert codec is not None
    if figures["bytes"] > MOST_CODEC_BYTES:
        raise UserError(
            f"the codec has {figures['bytes'] / 2**20:.1f} MiB, one to ship has at most "
            f"{MOST_CODEC_BYTES / 2**20:.0f} MiB: train one of a smaller codec.width or fewer codec.blocks"
        )
    folder = CLONE / "mos" / "checkpoints" / "codec"
    shutil.copytree(figures["export"], folder, dirs_exist_ok=True)
    for weights in folder.glob("*.safetensors"):
        weights.chmod(0o644)
    shutil.copy(Path(figures["folder"], "reconstructions.png"), folder)
    card = codec_card(config.name, machine(config), codec, figures, record.seconds / 3600)
    (folder / "README.md").write_text(card, encoding="utf-8")
    print(f"ship: {folder} is complete; its card is README.md", flush=True)


def machine(config: RunConfig) -> str:
    """Devices that a run trains on, in words."""
    workers = config.cluster.train
    return f"{workers.num} GPUs" if workers.gpus else f"{workers.num * workers.cpus:g} CPU cores"


def write_weights(export: Path, folder: Path) -> None:
    """The weights of an export in bfloat16, and its config without what is this machine's or this run's.

    Raises:
        UserError: the weights are too large to ship, or the tower or the codec is read from a folder of this machine.
    """
    weights = {name: tensor.bfloat16() for name, tensor in read_export(export).model.state_dict().items()}
    size = sum(tensor.nbytes for tensor in weights.values())
    if size > MOST_BYTES:
        raise UserError(
            f"the weights of {export} are {size / 2**20:.1f} MiB in bfloat16, a checkpoint to ship has at most "
            f"{MOST_BYTES / 2**20:.0f} MiB: train a model of a smaller dim or fewer blocks"
        )
    config = read_export_config(export)
    for name, part in (("tower", config.tower), ("vae", config.vae)):
        path = getattr(part, "path", None)
        if path is not None and Path(path).expanduser().is_dir():
            raise UserError(f"encode.{name}.path = {path} is a folder of this machine: ship a model of a hub id")
    run = {key: config.run[key] for key in KEPT if key in config.run}
    kept = ExportConfig.model_validate({**config.model_dump(), "run": run})
    for name, content in layout_of(kept.model_dump(mode="json")).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)
    for name in (OLDER_CONFIG, OLDER_WEIGHTS):
        (folder / name).unlink(missing_ok=True)


def draw_all(pipe: MoSPipeline, prompts: list[Prompt], config: RunConfig) -> list[Image.Image]:
    """One picture of each prompt with the model that was written, each of a seed of its own."""
    print(f"ship: drawing {len(prompts)} pictures to score", flush=True)
    evaluate = config.evaluate
    texts = [prompt.text for prompt in prompts]
    return draw_pictures(pipe, texts, sampler=evaluate.sampler, batch_size=evaluate.batch_size)


def draw_edits(pipe: MoSPipeline, config: RunConfig) -> EditScores:
    """Held-out edits, as many of each kind as the config says, drawn and checked."""
    cases = drawn_edits(config.evaluate.num_edits, config.evaluate.seed, pipe.resolution)
    print(f"ship: drawing {len(cases)} edits to score", flush=True)
    pictures = draw_pictures(
        pipe,
        [case.instruction for case in cases],
        image=[case.source for case in cases],
        batch_size=config.evaluate.batch_size,
        sampler=config.evaluate.sampler,
    )
    return score_edits(pictures, [case.edit for case in cases if case.edit is not None])


def write_scores(
    folder: Path, prompts: list[Prompt], pictures: list[Image.Image], scores: Scores, edits: EditScores | None
) -> None:
    """scores.json, and the first pictures of every category with the checker's verdicts."""
    told = scores.as_dict() | ({} if edits is None else {"edits": edits.as_dict()})
    (folder / "scores.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    by_category: dict[str, list[Captioned]] = {}
    for prompt, picture, result in zip(prompts, pictures, scores.results, strict=True):
        by_category.setdefault(prompt.scene.category, []).append(Captioned(picture, prompt.text, result.correct))
    shown = [picture for row in by_category.values() for picture in row[:GRID_COLUMNS]]
    (folder / "samples.png").write_bytes(figure_png(partial(picture_grid, shown, columns=GRID_COLUMNS), LIGHT))


def trained_stages(run: Run, last: str) -> list[TrainedStage]:
    """The stages up to the one that is shipped, with the hours their records tell."""
    names = run.config.stages()
    stages = [(name, run.config.stage(name), run.require(name)) for name in names[: names.index(last) + 1]]
    return [
        TrainedStage(name, stage.resolution, stage.steps, stage.batch_size, record.seconds / 3600)
        for name, stage, record in stages
    ]


if __name__ == "__main__":
    COMMAND.run(main)

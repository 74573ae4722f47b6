#!/usr/bin/env python3
"""Sample: prompts (and a picture to edit) -> pictures.

Without a prompt it draws held-out prompts of the demo's scenes, or captions of your own data. Where no config is named
and the demo has trained nothing yet, the model that ships with the package draws.

Reads   the export of a finished stage: the one named, else the last finished of stage1 to stage4 (`edit` with a source)
Writes  images/<fingerprint>/: a PNG, with its recipe inside, and a JSON sidecar for each picture, grid.png of several

  python pipelines/sample.py "a red circle left of a blue square"
  python pipelines/sample.py "a green star" export=mos/checkpoints/shapes images_per_prompt=6
  python pipelines/sample.py runs/demo/images/0c41174e026a/00000.png        (draws it again)
  python pipelines/sample.py prompts=prompts.txt images_per_prompt=4 sampler.steps=50 sampler.guidance=5
  python pipelines/sample.py source=photo.png prompt="make the circle blue"
  python pipelines/sample.py prompt="two blue stars" stage=stage1 height=32 width=48
  ray job submit --working-dir . -- pipelines/sample.py prompt="a red circle"
"""

import json
import sys
import warnings
from argparse import Namespace
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.run.cli import Command

COMMAND = Command(__name__, __doc__, section="sample", words="prompt")

import numpy as np
import torch
from PIL import Image

from cluster.session import ray_session
from mos.checkpoints import SHAPES
from mos.errors import UserError
from mos.fingerprint import file_digest, fingerprint
from mos.identity import numbers_of
from mos.sampling.config import SampleConfig, StageName
from mos.sampling.draw import draw_pictures, load_for_drawing
from mos.sampling.export import read_export_config
from mos.sampling.pipeline import MoSPipeline
from mos.sampling.prompts import CutPromptWarning
from mos.sampling.recipe import Recipe, model_fingerprint, read_recipe
from pipelines.draw.requests import (
    Request,
    export_folder,
    make_requests,
    print_notices,
    requests_to,
    text_stage,
)
from pipelines.run.steps import Run


def main(run: Run, args: Namespace) -> None:
    """Choose the model, draw every request, write pictures, sidecars and grid; or draw a picture again."""
    config = run.config
    prompt = config.sample.prompt
    if prompt is not None and prompt.lower().endswith(".png") and Path(prompt).is_file():
        draw_again(run, Path(prompt))
        return
    export = chosen_export(run, args)
    if export is not None:
        draw_here(run, export)
        return
    from pipelines.draw.pool import draw  # Ray, which a model drawn with in this process does not need

    run, stage = choose_stage(run)
    config = run.config
    step = run.step("sample")
    print(f"sample: drawing with {stage}", flush=True)
    folder = config.folder("images", step.short)
    if step.already_finished(args.force):
        print(f"sample: pictures are in {folder}", flush=True)
        return
    requests = make_requests(run, stage)
    exports: dict[str, str] = {stage: export_folder(run, stage)}
    sampler = config.sample.sampler
    with ray_session(config.cluster):
        pictures = draw(
            requests,
            exports,
            sampler,
            pool=config.cluster.generate,
            batch_size=config.sample.batch_size,
            label="sample",
            limits=config.curate.image,
            compile=config.sample.compile,
        )
    paths = write_pictures(folder, requests, pictures, exports[stage], config.sample)
    write_grid(folder, requests, pictures)
    step.finish({"stage": stage, "folder": str(folder), "grid": str(folder / "grid.png"), "images": paths})
    print(f"sample: pictures are in {folder}, and together in {folder / 'grid.png'}", flush=True)


def chosen_export(run: Run, args: Namespace) -> str | None:
    """The exported model that was named; the one that ships, where nothing was named and nothing is trained."""
    config, sample = run.config, run.config.sample
    if sample.export is not None:
        if sample.stage is not None:
            raise UserError(f"both export = {sample.export!r} and stage = {sample.stage!r} are given: name one of them")
        return sample.export
    if args.named or sample.stage is not None:
        return None
    if any(run.is_finished(name) for name in config.stages()):
        return None
    print("sample: the demo has trained no model yet, so the one that ships draws: coloured shapes", flush=True)
    return str(SHAPES)


def draw_again(run: Run, picture: Path) -> None:
    """Draw what a picture's own recipe says, and compare.

    Raises:
        UserError: it holds none, its model or the picture it was edited from is not here.
    """
    recipe, known = read_recipe(picture), _sidecar(picture)
    with Image.open(picture) as image:
        before = np.asarray(image.convert("RGB"), dtype=int)
    config, sample = run.config, run.config.sample
    stages = [export_folder(run, stage) for stage in config.stages() if run.is_finished(stage)]
    exports = [known.get("export"), str(SHAPES), *stages] if sample.export is None else [sample.export]
    export = next((found for found in exports if found and _is_model(found, recipe.model)), None)
    if export is None:
        raise UserError(f"{picture} was drawn by model {recipe.model[:12]}, which is not here: name its export= folder")
    source = sample.source or known.get("source")
    if recipe.source is not None and (not source or not Path(source).is_file() or file_digest(source) != recipe.source):
        raise UserError(f"{picture} is an edit of a picture that is not here: name it with source=")
    drawn = {"export": export, "source": source if recipe.source else None, "prompts": None, "images_per_prompt": 1}
    told = {name: getattr(recipe, name) for name in ("prompt", "negative_prompt", "height", "width", "sampler")}
    again = sample.model_copy(update=drawn | told)
    one = config.model_copy(update={"seed": recipe.seed, "sample": again})
    (path,) = draw_here(Run(one), export, again=picture)
    with Image.open(path) as image:
        after = np.asarray(image.convert("RGB"), dtype=int)
    largest = int(np.abs(after - before).max()) if after.shape == before.shape else 255
    print(f"sample: {'equal to' if largest == 0 else f'at most {largest}/255 from'} {picture}", flush=True)


def draw_here(run: Run, export: str, again: Path | None = None) -> list[str]:
    """Draw with an exported model in this process, without Ray; returns the pictures' paths.

    Args:
        run: says what to draw.
        export: folder of the model.
        again: a picture that is drawn again, which is left as it is.
    """
    config, sample = run.config, run.config.sample
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipe = load_for_drawing(export, limits=config.curate.image, device=device, compile=sample.compile)
    requests = requests_to(run, export, pipe.resolution, pipe.token_px, pipe.bucket_aspect)
    pictures = draw_with(pipe, requests, sample)
    named = {"prompts": sample.prompts, "source": sample.source, "again": again}
    files = {name: file_digest(path) for name, path in named.items() if path is not None}
    about = read_export_config(export).run
    digest = fingerprint(export=about, seed=config.seed, sample=numbers_of(sample), **files)
    folder = config.folder("images", digest[:12])
    paths = write_pictures(folder, requests, pictures, export, sample)
    if len(pictures) == 1:
        print(f"sample: the picture is {paths[0]}", flush=True)
        return paths
    write_grid(folder, requests, pictures)
    print(f"sample: pictures are in {folder}, and together in {folder / 'grid.png'}", flush=True)
    return paths


def draw_with(pipe: MoSPipeline, requests: list[Request], sample: SampleConfig) -> list[Image.Image]:
    """Draw requests; says first what of their prompts the model never sees."""
    texts = [text for request in requests for text in (request.prompt, request.negative_prompt)]
    print_notices("sample", pipe.cut_notices(texts))
    alike: dict[tuple[object, ...], list[int]] = {}
    for place, request in enumerate(requests):
        alike.setdefault((request.height, request.width, request.guidance), []).append(place)
    pictures: dict[int, Image.Image] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CutPromptWarning)  # printed already
        for places in alike.values():
            drawn = [requests[place] for place in places]
            pictures |= zip(
                places,
                draw_pictures(
                    pipe,
                    [request.prompt for request in drawn],
                    height=drawn[0].height,
                    width=drawn[0].width,
                    seed=[request.seed for request in drawn],
                    negative_prompt=[request.negative_prompt for request in drawn],
                    image=drawn[0].source,
                    batch_size=sample.batch_size,
                    sampler=drawn[0].sampler(sample.sampler),
                ),
                strict=True,
            )
    return [pictures[place] for place in range(len(requests))]


def choose_stage(run: Run) -> tuple[Run, StageName]:
    """The stage that draws; where the run is not finished yet, the choice becomes part of the config."""
    config, sample = run.config, run.config.sample
    if sample.source is not None:
        stage: StageName = sample.stage or "edit"
        if "edit" not in config.stage(stage).tasks:
            raise UserError(
                f"{stage} is trained on text alone and cannot edit source = {sample.source!r}: leave sample.stage out, "
                "and `edit` draws"
            )
        run.require(stage)
    else:
        stage = text_stage(run, sample.stage)
    if all(run.is_finished(name) for name in config.stages()):
        return run, stage
    return Run(config.model_copy(update={"sample": sample.model_copy(update={"stage": stage})})), stage


def write_pictures(
    folder: Path, requests: list[Request], pictures: list[Image.Image], export: str, sample: SampleConfig
) -> list[str]:
    """Write each picture with its recipe inside, and beside it what it was drawn from; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    model, source = model_fingerprint(export), None if sample.source is None else file_digest(sample.source)
    paths = []
    for number, (request, picture) in enumerate(zip(requests, pictures, strict=True)):
        path, sampler = folder / f"{number:05d}.png", request.sampler(sample.sampler)
        told = {key: value for key, value in asdict(request).items() if key not in ("source", "model", "guidance")}
        picture.save(path, pnginfo=Recipe(**told, sampler=sampler, model=model, source=source).png_info())
        sidecar = {"export": export, "sampler": sampler.model_dump(mode="json"), "source": sample.source}
        beside = json.dumps({"model": request.model, **told, **sidecar}, indent=2) + "\n"
        path.with_suffix(".json").write_text(beside, encoding="utf-8")
        paths.append(str(path))
    return paths


def _sidecar(picture: Path) -> dict[str, Any]:
    """What stands beside a picture; nothing where it was moved without."""
    try:
        found = json.loads(picture.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_model(export: str, fingerprint: str) -> bool:
    try:
        return model_fingerprint(export) == fingerprint
    except UserError:  # an export that is gone, or of another version
        return False


def write_grid(folder: Path, requests: list[Request], pictures: list[Image.Image]) -> None:
    """All pictures, or the first of many, with their prompts, in one."""
    from mos.evaluation.grids import Captioned, picture_grid  # matplotlib, which one picture does not wait for
    from mos.evaluation.theme import LIGHT, figure_png

    captioned = [
        Captioned(picture, request.prompt) for request, picture in zip(requests[:96], pictures[:96], strict=True)
    ]
    (folder / "grid.png").write_bytes(figure_png(partial(picture_grid, captioned), LIGHT))


if __name__ == "__main__":
    COMMAND.run(main)

"""What one training stage is given: finished records and config in, one plain `StageJob` for every worker out."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mos.checkout import CLONE
from mos.encoders.encoding import EncodeConfig
from mos.encoders.vae import VaeConfig
from mos.errors import UserError
from mos.feeding.config import AutoStates, CacheStates, ChosenStates, RecomputeStates, StreamStates
from mos.files import written_whole
from mos.fingerprint import fingerprint
from mos.images.decode import ImageLimits
from mos.loader.index import EncodedTables, SampleIndex
from mos.loader.plan import BatchPlan, make_plan
from mos.losses.names import loss_column
from mos.model.mos import ModelConfig, MoS
from mos.planning.sources import SourceName
from mos.sampling.config import SamplerConfig
from mos.tables.lance import TableVersion
from mos.training.checkpoint import Checkpoint, newest_readable
from mos.training.checkpoint_format import UnusableCheckpointError
from mos.training.stage import StageConfig
from mos.training.start import PreviousStage
from pipelines.run.config import RunConfig
from pipelines.run.steps import LOSSES, TRAINING, Run, Step, measured_stages, upstream

FIRST_LENGTH = "began.json"
"""File of a stage's folder."""


@dataclass(frozen=True)
class StageJob:
    """Everything a worker needs to train a stage; plain data."""

    name: str
    stage: StageConfig
    model: ModelConfig
    vae: VaeConfig
    tables: EncodedTables
    encode: EncodeConfig
    """How contexts are encoded, with absolute paths."""
    image_limits: ImageLimits
    """Of the images that the tower sees."""
    states: ChosenStates
    """Where hidden states come from."""
    queue: str
    """Table that a stream fills."""
    seed: int
    """Of this stage's order and draws, in [0, 2^64)."""
    model_seed: int
    """Of weights that are new."""
    folder: Path
    """Checkpoints, metrics, pictures and export."""
    start: Path | None
    """Checkpoint of the stage before, where the stage begins with its weights."""
    decay_steps: int
    """Updates over which the learning rate decays, where the stage does not say: those that it had when it began."""
    sampler: SamplerConfig
    provenance: dict[str, Any]
    """Resolved config and table versions, written into every checkpoint."""
    export: dict[str, Any]
    """What the export tells beside its weights: `model`, `tower`, `vae` and `run`."""


def make_job(step: Step, run: Run) -> StageJob:
    """Everything that is known before the data is looked at."""
    config = run.config
    name, stage = step.name, config.stage(step.name)
    encoded = run.require_for(step, "encode").outputs
    tables = encoded_tables(run.require_for(step, "curate").outputs, encoded)
    tables = replace(tables, samples=with_losses(step, run, tables.samples))
    encode = config.encode.anchored(CLONE)
    about = {
        "name": config.name,
        "stage": name,
        "resolution": stage.resolution,
        "bucket_aspect": config.curate.bucket_aspect,
        "fingerprint": step.fingerprint,
        "seed": config.seed,
        "tower_id": encoded["tower_id"],
        "codec_id": encoded["codec_id"],
        "tables": asdict(tables),
        "config": stage.model_dump(mode="json"),
    }
    model = config.model.model_dump(mode="json")
    states = chosen_states(config, name, encoded)
    folder = stage_folder(step, config)
    in_queue = isinstance(states, StreamStates) and states.drop_consumed
    return StageJob(
        name=name,
        stage=stage,
        model=config.model,
        vae=encode.vae,
        tables=tables,
        encode=encode,
        image_limits=config.curate.image,
        states=states,
        queue=config.queue_uri(name, step.short) if in_queue else tables.states.uri,
        seed=int(fingerprint(seed=config.seed, stage=name)[:16], 16),
        model_seed=config.seed,
        folder=folder,
        decay_steps=first_length(folder) or stage.steps,
        start=find_start(step, run) if isinstance(stage.start, PreviousStage) and not steps_done(folder) else None,
        sampler=config.sample.sampler,
        provenance={**about, "model": model, "run_config": config.model_dump(mode="json")},
        export={
            "model": model,
            "tower": encode.tower.model_dump(mode="json"),
            "vae": encode.vae.model_dump(mode="json"),
            "run": about,
        },
    )


def encoded_tables(curated: dict[str, Any], encoded: dict[str, Any]) -> EncodedTables:
    """What a curation and its encoding left, as their records have it."""
    return EncodedTables(
        samples=TableVersion(**curated["samples"]),
        states=TableVersion(**encoded["states"]),
        latents=TableVersion(**encoded["latents"]),
        codec_id=encoded["codec_id"],
        sees_images=encoded["sees_images"],
    )


def with_losses(step: Step, run: Run, samples: TableVersion) -> TableVersion:
    """The samples table of a stage's curation with the columns of losses that its filter names; as it is without any.

    Raises:
        UserError: one of them was not measured yet.
    """
    measured = {stage: run.losses(stage, step) for stage in measured_stages(run.config, step.name)}
    wanted = {loss_column(stage): losses.fingerprint for stage, losses in measured.items()}
    if not wanted:
        return samples
    for record in run.ledger.records(LOSSES):
        if record.outputs["base"] == asdict(samples) and wanted.items() <= record.outputs["columns"].items():
            return TableVersion(**record.outputs["samples"])
    commands = " and ".join(f"`python pipelines/losses.py <config> stage={stage}`" for stage in measured)
    raise UserError(
        f"{step.name}.filter names {', '.join(wanted)}, which no version of {samples.uri} has for this config: run "
        f"{commands} first"
    )


def chosen_states(config: RunConfig, stage: str, encoded: dict[str, Any]) -> ChosenStates:
    """Source of a stage, as the outputs of the encode step have it where it is `auto`."""
    states = config.stage(stage).states
    if not isinstance(states, AutoStates):
        return states
    source: SourceName = encoded["sources"][stage]
    match source:
        case "cache":
            return CacheStates()
        case "stream":
            return states.stream
        case "recompute":
            return RecomputeStates()


def stage_folder(step: Step, config: RunConfig) -> Path:
    """Folder of a stage's checkpoints, metrics, pictures and export."""
    return config.folder("checkpoints", step.name, step.short)


def first_length(folder: Path) -> int | None:
    """Updates that the stage in this folder had when it began; None where no checkpoint says that it did."""
    path = folder / FIRST_LENGTH
    begun = path.is_file() and steps_done(folder) > 0
    return int(json.loads(path.read_text(encoding="utf-8"))["steps"]) if begun else None


def keep_first_length(job: StageJob) -> None:
    """Note how long the stage is as it begins: its learning rate decays over that, however long it becomes."""
    if first_length(job.folder) is None:
        with written_whole(job.folder / FIRST_LENGTH) as partial:
            partial.write_text(json.dumps({"steps": job.stage.steps}), encoding="utf-8")


def newest_step(job: StageJob) -> int:
    """Updates that the trainer has done, as far as the checkpoints tell."""
    return steps_done(job.folder)


def steps_done(folder: Path) -> int:
    """Updates after which a stage that trains in `folder` would go on."""
    checkpoint = newest_readable(folder)
    return 0 if checkpoint is None else checkpoint.state.step


def find_start(step: Step, run: Run) -> Path | None:
    """The final checkpoint of the training stage before this one.

    Raises:
        UserError: it was removed, or holds another model.
    """
    before = [name for name in upstream(step.name, run.config) if name in TRAINING]
    if not before:
        return None
    path = Path(run.require_for(step, before[-1]).outputs["checkpoint"])
    try:
        checkpoint = Checkpoint.read(path)
    except UnusableCheckpointError as error:
        raise UserError(
            f"checkpoint {path} of {before[-1]} is missing or damaged ({error}): run "
            f"`python pipelines/{before[-1]}.py --force`"
        ) from error
    if ModelConfig.model_validate(checkpoint.provenance["model"]) != run.config.model:
        raise UserError(f"checkpoint {path} of {before[-1]} holds another model than [model] describes: use its values")
    return path


def stage_plan(job: StageJob, index: SampleIndex) -> BatchPlan:
    """The batch plan of a stage over its view."""
    ratios = {index.sources.index(name): ratio for name, ratio in job.stage.sources.items()}
    return make_plan(index.cells, batch_size=job.stage.batch_size, seed=job.seed, ratios=ratios or None)


def preview_rows(job: StageJob, index: SampleIndex) -> NDArray[np.intp]:
    """Samples of the stage's pictures: the first in the view's largest bucket."""
    counts = index.counts("group")
    group = index.groups.index(max(counts, key=lambda name: counts[name]))
    return index.first(group, job.stage.num_sample_images)


def num_parameters(model: ModelConfig) -> int:
    """Trainable parameters of a model."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in MoS(model).parameters())

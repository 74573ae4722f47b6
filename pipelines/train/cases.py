"""Variants x seeds of one stage, trained beside one another and measured alike: for comparisons and searches."""

import json
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import ray
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from cluster.resources import actor_options
from mos.ablation.config import CasesConfig
from mos.ablation.results import CaseFigures
from mos.errors import UserError
from mos.evaluation.cases import scored_prompts
from mos.evaluation.frechet import codec_features, frechet_distance
from mos.evaluation.scores import score_pictures
from mos.files import written_whole
from mos.fingerprint import fingerprint
from mos.loader.batch import Batch
from mos.loader.index import EncodedTables, SampleIndex
from mos.loader.join import build_index
from mos.sampling.draw import draw_pictures, load_for_drawing
from mos.sampling.export import read_export
from mos.shapes.render import render
from mos.training.held_out import HeldOutLoss, sum_losses
from mos.training.metrics import latest_metrics
from mos.training.stop import StopRequest
from pipelines.run.config import RunConfig
from pipelines.run.steps import TRAINING, Run, upstream
from pipelines.run.views import held_out_view
from pipelines.train.driver import train_stage
from pipelines.train.held_out import BATCH, HeldOutBatches
from pipelines.train.job import make_job, stage_folder

MEASURE_VERSION = 1
"""Raise it when the same weights come to other figures."""
LOOK_EVERY_S, TELL_EVERY_S = 1.0, 30.0


@dataclass(frozen=True)
class Case:
    """One variant with one seed: a run of its own over the tables of all."""

    variant: str
    seed: int
    config: RunConfig
    stage: str
    curation: str | None = None
    """Fingerprint of the curation whose samples all cases see; None until it is settled."""

    def __str__(self) -> str:
        return f"{self.variant}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Of its checkpoints."""
        return stage_folder(self.run.step(self.stage), self.config)

    @property
    def run(self) -> Run:
        """Its steps."""
        return Run(self.config, self.curation)


def variant_cases(config: RunConfig, settings: CasesConfig) -> list[Case]:
    """Every variant with every seed, seed by seed.

    Raises:
        UserError: an override of a variant does not fit the run or changes what all variants share, two variants are
            the same, or there are stages before the one that is trained.
    """
    key = f"{settings.section}.stage"
    if config.cluster.train.max_num is not None:
        raise UserError("cluster.train.max_num: variants train side by side and may not grow: leave it out")
    cases: list[Case] = []
    for seed in settings.seeds:
        for name, overrides in settings.variants.items():
            if any(text.startswith(f"{settings.stage}.filter") for text in overrides):
                raise UserError(f"{settings.key_of(name)} has a filter of its own: all variants see the same samples")
            try:
                changed = config.changed((*overrides, f"seed={seed}", f"held_out={settings.held_out}"))
            except UserError as error:
                raise UserError(f"{settings.key_of(name)}: {error}") from error
            before = [stage for stage in upstream(settings.stage, changed) if stage in TRAINING]
            if before:
                raise UserError(
                    f"{key} = {settings.stage!r} has {before[0]} before it: leave the stages before it out, or set "
                    f"{settings.stage}.start to weights"
                )
            shared = ("root", "tables", "shapes", "curate", "codec", "encode", "cluster")
            encode = changed.encode.model_copy(update={"tower": config.encode.tower})  # states may be another tower's
            alike = changed.model_copy(update={"encode": encode})
            moved = [key for key in shared if getattr(alike, key) != getattr(config, key)]
            if moved:
                raise UserError(
                    f"{settings.key_of(name)} changes {moved}, which all variants share: use a run of its own"
                )
            same = [case.variant for case in cases if case.config == changed]
            if same:
                raise UserError(f"{settings.key_of(name)} is the same as {same[0]}: change it, or leave it out")
            cases.append(Case(name, seed, changed, settings.stage))
    return cases


def on_one_curation(cases: Sequence[Case], anew: bool) -> list[Case]:
    """The cases on the same samples: those that the first one began with, where it has and none begins anew, or else
    the newest. Makes sure that the states which each of them trains on are there, before any is trained.

    Raises:
        UserError: they are not.
    """
    curation = Run(cases[0].config).step(cases[0].stage, anew).curation
    settled = [replace(case, curation=None if curation is None else curation.fingerprint) for case in cases]
    for case in settled:
        try:
            case.run.step(case.stage)
        except UserError as error:
            tower, dim = case.config.encode.tower.type, case.config.model.state_dim
            overrides = f"encode.tower.type={tower} model.state_dim={dim}"
            raise UserError(f"variant {case.variant}: {error}, with {overrides}") from error
    return settled


def run_cases(cases: Sequence[Case], settings: CasesConfig, *, force: bool = False) -> list[CaseFigures]:
    """Train and measure what is not on record, as many at a time as the cluster has room for.

    Raises:
        KeyboardInterrupt: it was interrupted; every training that was running has left a checkpoint.
    """
    waiting = list(cases)
    running: dict[ray.ObjectRef, Case] = {}
    section, room = settings.section, min(gangs_at_a_time(cases[0].config), settings.jobs or len(cases), len(cases))
    print(f"{section}: {len(cases)} cases, {room} at a time", flush=True)
    run_case = ray.remote(num_cpus=0, max_retries=0)(_run_case)
    done: dict[str, CaseFigures] = {}
    told = time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < room:
                case = waiting.pop(0)
                running[run_case.remote(case, settings, force)] = case
            ready, _ = ray.wait(list(running), timeout=LOOK_EVERY_S)
            for task in ready:
                case = running.pop(task)
                done[str(case)] = _outcome(task, case)
                print(f"{section}: {len(done)}/{len(cases)} {_in_words(done[str(case)])}", flush=True)
            if time.monotonic() - told > TELL_EVERY_S:
                told = time.monotonic()
                for line in _progress(running.values()):
                    print(f"{section}: {line}", flush=True)
    except KeyboardInterrupt:
        for case in running.values():
            StopRequest(case.folder).ask()
        print(f"{section}: ends with a checkpoint of each training; interrupt again to end at once", flush=True)
        ray.wait(list(running), num_returns=len(running), timeout=60)
        raise
    return [done[str(case)] for case in cases]


def gangs_at_a_time(config: RunConfig) -> int:
    """Gangs of `cluster.train` that the cluster has room for, at least one."""
    workers, there = config.cluster.train, ray.cluster_resources()
    rooms = [int(there.get("CPU", 0) // (workers.num * workers.cpus))]
    if workers.gpus:
        rooms.append(int(there.get("GPU", 0) // (workers.num * workers.gpus)))
    return max(1, min(rooms))


def _outcome(task: ray.ObjectRef, case: Case) -> CaseFigures:
    try:
        figures: CaseFigures | None = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, UserError):
            raise UserError(f"{case}: {cause}") from error
        raise
    if figures is None:
        raise KeyboardInterrupt
    return figures


def _in_words(figures: CaseFigures) -> str:
    scores = "".join(f", {name} {score:.2f} right" for name, score in figures.scores.items())
    return f"{figures.variant}, seed {figures.seed}: held-out loss {figures.loss:.4f}{scores} ({figures.seconds:.0f} s)"


def _progress(running: Iterable[Case]) -> Iterator[str]:
    for case in running:
        latest = latest_metrics(case.folder)
        if latest is not None:
            yield f"{case}: step {latest.step}/{case.config.stage(case.stage).steps} loss {latest.loss:.4f}"


def _run_case(case: Case, settings: CasesConfig, force: bool) -> CaseFigures | None:
    """Train where needed, then measure, on a device of one worker's where it has any; None where it was stopped."""
    try:
        train_stage(case.stage, case.run, Namespace(force=force))
    except KeyboardInterrupt:
        return None
    workers = case.config.cluster.train
    if not workers.gpus:
        return measure_case(case, settings)
    figures: CaseFigures = ray.get(ray.remote(**actor_options(workers))(measure_case).remote(case, settings))
    return figures


def measure_case(case: Case, settings: CasesConfig) -> CaseFigures:
    """Held-out loss and scores of a trained case, from its record or anew."""
    run = case.run
    record = run.require(case.stage)
    drawn = case.config.shapes is not None and settings.prompts_per_category > 0
    samplers = settings.samplers_of(case.variant)
    parts = {
        "held_out": settings.held_out,
        "passes": settings.passes,
        "prompts": settings.prompts_per_category if drawn else 0,
        "trained": record.outputs["identity"],
        "samplers": {name: sampler.model_dump() for name, sampler in samplers.items()} if drawn else {},
        "version": MEASURE_VERSION,
    }
    path = Path(record.outputs["folder"], f"ablation-{fingerprint(parts=parts)[:12]}.json")
    if path.is_file():
        known = CaseFigures(**json.loads(path.read_text(encoding="utf-8")))
        if known.by_source:  # an earlier version of the code left it out
            return replace(known, variant=case.variant)
    workers = case.config.cluster.train
    if not workers.gpus:
        torch.set_num_threads(workers.threads)
    export, device = record.outputs["export"], torch.device(workers.device)
    model = read_export(export).model.to(device)
    tables = make_job(run.step(case.stage), run).tables
    with TemporaryDirectory() as folder:
        index = build_index(tables, held_out_view(case.config, case.stage), Path(folder, "index"))
        batches = measured_batches(index, tables, case, settings)
        sums = sum_losses(model, batches, len(index.sources), device)
    held_out = HeldOutLoss.of(sums, index.sources, record.outputs["steps"])
    scores, distances = judge_pictures(export, case, settings, device) if drawn else ({}, {})
    params = record.outputs["num_params"]
    figures = CaseFigures(
        case.variant, case.seed, held_out.loss, scores, distances, params, record.seconds, held_out.by_source
    )
    with written_whole(path) as partial_file:
        partial_file.write_text(json.dumps(asdict(figures), indent=2), encoding="utf-8")
    return figures


def refuse_unmeasured(case: Case, settings: CasesConfig) -> None:
    """Raise `UserError` where a source has no sample among those that cases are measured on: before any is trained."""
    tables = make_job(case.run.step(case.stage), case.run).tables
    with TemporaryDirectory() as folder:
        index = build_index(tables, held_out_view(case.config, case.stage), Path(folder, "index"))
        batches = HeldOutBatches(index, tables, case.config.model)
        counts = batches.counts(range(batches.num(settings.passes)))
    lacking = [source for source in case.config.stage(case.stage).sources if not counts.get(source)]
    if lacking:
        raise UserError(
            f"the held-out samples of {', '.join(lacking)} fill no batch of {BATCH} in any bucket: raise "
            f"{settings.section}.held_out or {settings.section}.passes"
        )


def judge_pictures(
    export: str, case: Case, settings: CasesConfig, device: torch.device
) -> tuple[dict[str, float], dict[str, float]]:
    """Sampler -> mean of the categories' shares of right pictures, and Fréchet distance from scenes drawn for the same
    prompts; prompts and seeds are the same for all cases.
    """
    pipe = load_for_drawing(export, device=device)
    prompts = scored_prompts(settings.prompts_per_category, settings.prompts_per_category, seed=0)
    drawn = codec_features(pipe.codec, _stacked(render(p.scene, pipe.resolution, pipe.resolution) for p in prompts))
    scores, distances = {}, {}
    for name, sampler in settings.samplers_of(case.variant).items():
        pictures = draw_pictures(
            pipe,
            [prompt.text for prompt in prompts],
            seed=0,
            sampler=sampler,
            batch_size=case.config.evaluate.batch_size,
        )
        scores[name] = score_pictures(pictures, prompts).overall
        features = codec_features(pipe.codec, _stacked(np.asarray(picture) for picture in pictures))
        distances[name] = frechet_distance(features, drawn)
    return scores, distances


def _stacked(pictures: Iterable[np.ndarray]) -> UInt8[Tensor, "num 3 height width"]:
    return torch.from_numpy(np.stack(list(pictures))).permute(0, 3, 1, 2)


def measured_batches(
    index: SampleIndex, tables: EncodedTables, case: Case, settings: CasesConfig
) -> Iterator[tuple[Batch, NDArray[np.integer]]]:
    """The samples that no case trains on, `passes` times, with noise and timesteps that are the same for all cases.

    Raises:
        UserError: they do not fill a batch.
    """
    batches = HeldOutBatches(index, tables, case.config.model)
    num = batches.num(settings.passes)
    if not num:
        raise UserError(
            f"{len(index)} held-out samples fill no batch of {BATCH}: raise {settings.section}.held_out or "
            f"{settings.section}.passes"
        )
    return batches.read(range(num))

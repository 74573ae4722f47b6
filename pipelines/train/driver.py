"""The wiring that all training scripts share: records in, a gang of workers trains, a record out."""

import shutil
from argparse import Namespace
from dataclasses import asdict, replace

from cluster.session import ray_session
from cluster.train import run_workers
from mos.errors import UserError
from mos.feeding.config import StreamStates
from mos.files import written_whole
from mos.fingerprint import fingerprint
from mos.loader.checks import check_share, check_tables, repeating_buckets
from mos.loader.index import SampleIndex
from mos.precision import instruction_sets
from mos.tables.lance import drop_table
from mos.tables.payloads import LatentTable, RowCache, StateTable
from mos.training.checkpoint_format import step_folders
from mos.training.given_weights import check_fit
from mos.training.goodput import goodput, read_spans
from mos.training.held_out import best_step, read_held_out
from mos.training.metrics import latest_metrics, read_metrics
from mos.training.sharding import check_installed
from mos.training.start import GivenWeights
from mos.workers import GangConfig
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run, Step, measured_stages, start_identity, start_note
from pipelines.run.views import view_of
from pipelines.train.held_out import join_held_out
from pipelines.train.job import (
    StageJob,
    keep_first_length,
    make_job,
    newest_step,
    num_parameters,
    stage_folder,
    stage_plan,
)
from pipelines.train.lock import stage_lock
from pipelines.train.losses import StageLosses, measure_losses
from pipelines.train.moving import leaving_drained_nodes
from pipelines.train.produce_states import producing
from pipelines.train.producer_stats import describe_balance
from pipelines.train.refresh import NewerSamples, taking_newer
from pipelines.train.samples import StageSamples
from pipelines.train.show_progress import shown_progress
from pipelines.train.standing import cost_text
from pipelines.train.stopping import stopping_in_order
from pipelines.train.worker import train_worker

NAMED_FIRST_S = 300.0
"""A gang that hangs is ended by its own watch, which names whom it waits for, so long before a collective gives up."""


def train_stage(name: str, run: Run, args: Namespace) -> None:
    """Train one stage unless it is on record, from the newest checkpoint of an interrupted run where there is one."""
    config, given = run.config, run.config.stage(name).start
    if isinstance(given, GivenWeights) and args.force:
        start_note(config, given).unlink(missing_ok=True)
    step = run.step(name, args.force)
    with stage_lock(stage_folder(step, config)):
        if not step.already_finished(args.force):
            for stage in measured_stages(config, name):
                measure_losses(StageLosses(run, stage, step))
            train(step, run, args.force)
        # Here too where the stage finished before: that run may have been killed before it came to this, and one
        # that reads a table now may have streamed at first.
        drop_table(config.queue_uri(name, step.short))


def train(step: Step, run: Run, anew: bool) -> None:
    """Train a stage and record it; `anew` begins again from its first step."""
    config, job = run.config, make_job(step, run)
    before = step.ledger.find(step.name, step.fingerprint)
    # Until it has come to its new end the stage is not finished: checkpoints that the record names may go meanwhile.
    step.ledger.forget(step.name, step.fingerprint)
    if anew:
        shutil.rmtree(job.folder, ignore_errors=True)
        job = replace(job, decay_steps=job.stage.steps)
    earlier = before.seconds if before is not None and newest_step(job) else 0.0
    index = prepare(job, config)
    describe(job, index, config)
    newer = NewerSamples(job, config, step.curation.fingerprint) if job.stage.refresh and step.curation else None
    with (
        ray_session(config.cluster),
        taking_newer(newer),
        stopping_in_order(job.name, job.folder) as request,
        leaving_drained_nodes(job.name, job.folder, request) as moves,
        shown_progress(job.name, job.folder, job.stage.steps, job.stage.batch_size),
        producing(job, index, config) as produced,
    ):
        while True:
            run_workers(
                train_worker,
                job,
                config.cluster.train,
                folder=job.folder / "ray",
                max_failures=config.cluster.max_failures,
                timeout_s=job.stage.hung_after_s + NAMED_FIRST_S,
            )
            if not moves.take() or newest_step(job) >= job.stage.steps:
                break
    reached = newest_step(job)
    if reached < job.stage.steps:
        print(f"{job.name}: stopped at step {reached} of {job.stage.steps}; run it again to go on", flush=True)
        raise KeyboardInterrupt
    spent = goodput(read_spans(job.folder))
    latest, measured = latest_metrics(job.folder), read_held_out(job.folder)
    balance, taken = {}, list(StageSamples(job).taken())
    if produced is not None and isinstance(job.states, StreamStates):
        balance["balance"] = describe_balance(job, job.states, read_metrics(job.folder), produced)
    replace(step, started_at=step.started_at - earlier).finish(
        {
            **balance,
            "identity": fingerprint(stage=step.fingerprint, steps=reached, **({"newer": taken} if taken else {})),
            "newer_samples": taken,
            "checkpoint": str(step_folders(job.folder)[-1]),
            "export": str(job.folder / "export"),
            "folder": str(job.folder),
            "metrics": str(job.folder / "metrics.jsonl"),
            "steps": reached,
            "final_loss": None if latest is None else latest.loss,
            "time": None if spent is None else asdict(spent),
            "held_out": {"by_step": {line.step: line.loss for line in measured}, "best_step": best_step(measured)},
            "num_params": num_parameters(job.model),
        }
    )
    loss = "" if latest is None else f", loss {latest.loss:.4f}"
    if measured and measured[-1].step == reached:
        loss += f", held out {measured[-1].loss:.4f} (lowest at step {best_step(measured)})"
    print(f"{job.name}: {reached} steps{loss}; weights in {job.folder / 'export'}", flush=True)
    if spent is not None:
        print(f"{job.name}: {spent.text()}; {cost_text(config, spent.worker_seconds)}", flush=True)


def prepare(job: StageJob, config: RunConfig) -> SampleIndex:
    """Check that tables, model and stage fit, and leave the joined view in the stage's folder."""
    stage, gang = job.stage, config.cluster.train
    check_installed(stage.engine)
    check_range(job, gang)
    for size in gang.sizes:
        stage.engine.num_shards(size)
        check_share(batch_size=stage.batch_size, micro_batch_size=stage.micro_batch_size, num_workers=size)
    states, latents = StateTable(job.tables.states, RowCache(0)), LatentTable(job.tables.latents, RowCache(0))
    check_tables(states, latents, job.model, job.provenance["tower_id"], job.provenance["codec_id"])
    if isinstance(stage.start, GivenWeights) and not newest_step(job):
        check_fit(stage.start, job.model, stage.optimizer)
    view, samples = view_of(config, job.name), StageSamples(job)
    index = samples.join(0, job.tables, view)
    for number in range(1, samples.newest() + 1):  # what its states are numbered by depends on their source
        samples.join(number, samples.tables(number), view)
    join_held_out(job, config)
    keep_first_length(job)
    if isinstance(stage.start, GivenWeights):
        note = start_note(config, stage.start)
        note.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(note) as partial:
            partial.write_text(start_identity(config, stage.start), encoding="utf-8")
    return index


def check_range(job: StageJob, gang: GangConfig) -> None:
    """Raise `UserError` where a gang may have several sizes and something of the stage wants one.

    Ray sizes such a gang by all cores or devices of the cluster, whatever their labels and whoever holds them.
    """
    if gang.max_num is None:
        return
    reasons = {
        "cluster.train.labels, which Ray does not look at when it sizes a gang": bool(gang.labels),
        "states.type = 'stream', whose producers hold cores that Ray would give to the gang": isinstance(
            job.states, StreamStates
        ),
        "engine.mesh, which lays out one number of workers": job.stage.engine.is_of_one_size,
    }
    for reason, holds in reasons.items():
        if holds:
            raise UserError(
                f"cluster.train.max_num = {gang.max_num} does not go with {reason}: leave max_num out, or change that"
            )


def describe(job: StageJob, index: SampleIndex, config: RunConfig) -> None:
    """Say what is about to be trained on what."""
    plan = stage_plan(job, index)
    start = "new weights" if job.start is None else f"the weights of {job.start.parent.parent.name}"
    if isinstance(job.stage.start, GivenWeights):
        start = f"the weights of {job.stage.start.path}"
    reached = newest_step(job)
    if reached:
        start = f"its own step {reached}"
    left_out = f", {index.num_left_out} without encodings left out" if index.num_left_out else ""
    print(
        f"{job.name}: {num_parameters(job.model) / 1e6:.1f}M parameters from {start}; {job.stage.steps} steps of "
        f"{job.stage.batch_size} on {describe_gang(job, config)}\n"
        f"{job.name}: {len(index)} samples{left_out}, {plan.first_step(1)} batches in the first epoch; "
        f"by source {index.counts('source')}; by bucket {index.counts('group')}; states: {job.states.type}",
        flush=True,
    )
    if job.stage.optimizer.decay_steps is None and job.stage.steps != job.decay_steps:
        print(
            f"{job.name}: its learning rate decays until update {job.decay_steps}, where the stage was to end when it "
            "began",
            flush=True,
        )
    for bucket, count in repeating_buckets(index, job.stage.batch_size).items():
        print(
            f"{job.name}: bucket {bucket} has {count} samples, fewer than a batch of {job.stage.batch_size}: they "
            "repeat within batches; leave them out with the filter, or lower batch_size",
            flush=True,
        )


def describe_gang(job: StageJob, config: RunConfig) -> str:
    """Workers, what each computes with, and in which dtype."""
    workers, precision = config.cluster.train, job.stage.engine.precision
    each = f"{workers.gpus:g} GPU" if workers.gpus else f"{workers.cpus:g} CPU core"
    each += "" if each.startswith("1 ") else "s"
    sets = "" if workers.gpus else f" ({', '.join(instruction_sets())})"
    num = f"{workers.num}" if workers.max_num is None else f"{workers.num} to {workers.max_num}"
    return f"{num} worker{'s' * (workers.sizes[-1] > 1)} of {each}{sets} in {precision.compute}"

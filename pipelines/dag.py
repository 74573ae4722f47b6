#!/usr/bin/env python3
"""The whole run as a Dagster DAG: every step an asset, every asset a real Ray job.

As a script it materializes all steps of a config in this process and leaves no server behind:

    python pipelines/dag.py                                   the demo
    python pipelines/dag.py pipelines/configs/photos.toml     another run
    python pipelines/dag.py seed=1 root=/data/runs/seed1      the demo with overrides

Jobs go to the cluster of RAY_API_SERVER_ADDRESS where that is set, else to a Ray head started for this run. Finished
steps are skipped; a step whose job is still running on the cluster is attached to.

With `dagster dev -f pipelines/dag.py` the same assets show their lineage, history and the schedule of curation;
MOS_CONFIG names the config there (default: the demo).

Reads and writes: what the steps do, see `python pipelines/<step>.py --help`.
"""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.run.cli import DEFAULT_CONFIG, EXIT_INTERRUPTED, EXIT_USER_ERROR, Command, base_folder

COMMAND = Command(__name__, __doc__)

import dagster as dg
from pydantic import PrivateAttr
from ray.job_submission import JobStatus

from cluster.head import JobCluster, server_address
from cluster.jobs import JobSpec, run_job
from mos.checkout import CLONE
from mos.errors import UserError
from mos.fingerprint import fingerprint
from mos.ledger import StepRecord
from mos.precision import instruction_sets
from pipelines.cost.forecast import forecast
from pipelines.run.config import load_run
from pipelines.run.dagster_metadata import asset_metadata
from pipelines.run.steps import Run, configured_steps, upstream

RETRIES = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL)
"""For jobs that die of the machine's faults; a user's mistake is never retried."""

INTERRUPTED = "interrupted"

CURATION_CRON = "0 3 * * *"
"""Every night at three: new shards become new samples, and these are encoded. Stages that have begun keep theirs."""


class RayJobs(dg.ConfigurableResource):
    """The run's config and the cluster its jobs go to."""

    config: str = str(DEFAULT_CONFIG)
    """TOML file."""
    overrides: list[str] = []  # noqa: RUF012 - a pydantic field
    """`key=value`, as on the command line."""
    force: bool = False
    """Run steps again although finished runs are on record."""
    _cluster: JobCluster = PrivateAttr()

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["RayJobs"]:
        """Hold the cluster for the duration of a Dagster run; it starts with the first job."""
        with JobCluster(self.run().config.cluster) as cluster:
            self._cluster = cluster
            yield self

    def run(self) -> Run:
        """The run, with absolute paths."""
        return Run(load_run(Path(self.config), tuple(self.overrides), base_folder(CLONE)))

    def run_step(self, name: str) -> StepRecord:
        """Have a step done by one job, unless it is on record.

        Raises:
            dg.Failure: the job failed; a mistake of the user is marked as not worth a retry.
        """
        run = self.run()
        config = run.config
        try:
            step = run.step(name, self.force)
            if step.already_finished(self.force):
                return step.ledger.require(name, step.fingerprint, "")
            settled = () if self._cluster.server is None else config.resolved_overrides()
            arguments = [self._cluster.path(Path(self.config)), *self.overrides, *settled, f"root={config.root}"]
            command = self._cluster.command(name, [*arguments, *(["--force"] if self.force else [])])
            work = fingerprint(step=step.fingerprint, length=step.length) if step.length else step.fingerprint
            spec = JobSpec(name, work, command, self._cluster.runtime_env())
            # No record: whatever an earlier job of this name left has been removed since.
            with interruptible():
                outcome = run_job(
                    self._cluster.client,
                    spec,
                    _print_line,
                    repeat_finished=True,
                    stop_on_interrupt=self._cluster.server is None,  # one that stays is attached to by the next run
                )
        except UserError as error:
            raise dg.Failure(f"{name}: {error}", allow_retries=False) from error
        except KeyboardInterrupt as interrupt:  # which Dagster would take for a fault of the machine and try again
            raise dg.Failure(INTERRUPTED, allow_retries=False) from interrupt
        if outcome.exit_code == EXIT_INTERRUPTED or outcome.status == JobStatus.STOPPED:
            raise dg.Failure(INTERRUPTED, allow_retries=False)
        if not outcome.succeeded:
            raise dg.Failure(f"{name}: {outcome.error}", allow_retries=outcome.exit_code != EXIT_USER_ERROR)
        return step.ledger.require(name, step.fingerprint, f"python pipelines/{name}.py --force")


def build_definitions(config_path: Path, overrides: tuple[str, ...] = (), *, force: bool = False) -> dg.Definitions:
    """Assets for the steps a config has, their jobs' cluster, and the nightly schedule of curation."""
    config = load_run(config_path, overrides)
    assets = [step_asset(name, upstream(name, config)) for name in configured_steps(config)]
    # A codec of the run's own is trained on what was curated: it waits for somebody to ask for it.
    last = "encode" if config.codec is None else "curate"
    new_data = dg.AssetSelection.assets(last).upstream()
    return dg.Definitions(
        assets=assets,
        resources={"jobs": RayJobs(config=str(config_path), overrides=list(overrides), force=force)},
        schedules=[dg.ScheduleDefinition(name="nightly_curation", cron_schedule=CURATION_CRON, target=new_data)],
        executor=dg.in_process_executor,  # one process and one Ray head for a run
    )


def step_asset(name: str, deps: tuple[str, ...]) -> dg.AssetsDefinition:
    """The asset of one step; its data version is the step's fingerprint."""

    @dg.asset(name=name, deps=deps, retry_policy=RETRIES, kinds={"ray", "python"}, description=f"pipelines/{name}.py")
    def step(jobs: RayJobs) -> dg.MaterializeResult:
        _print_header(name)
        record = jobs.run_step(name)
        return dg.MaterializeResult(
            metadata=asset_metadata(record), data_version=dg.DataVersion(record.outputs["identity"])
        )

    return step


def main(run: Run, args: argparse.Namespace) -> None:
    """Materialize every step in this process; ends with the place of the report.

    Raises:
        UserError: a step failed.
    """
    config = run.config
    definitions = build_definitions(args.config, args.overrides, force=args.force)
    if server_address(os.environ) is None and not config.cluster.train.gpus:
        say_how_long(run, again=args.force)
    run_job_quietly(definitions)
    print(f"\nreport: {config.folder('report', 'report.html')}", flush=True)


def say_how_long(run: Run, *, again: bool) -> None:
    """Print what this machine computes with, and how long the run, or what is left of it, will take on it."""
    config, expected = run.config, forecast(run, again=again)
    if expected is None:
        return
    workers, dtypes = config.cluster.train, {config.stage(name).engine.precision.compute for name in config.stages()}
    cores = int(workers.num * workers.cpus)
    print(
        f"{config.name} on this machine ({cores} core{'s' * (cores > 1)}, {', '.join(instruction_sets())}, "
        f"{' and '.join(sorted(dtypes))}): {expected}",
        flush=True,
    )


def run_job_quietly(definitions: dg.Definitions) -> None:
    """Run all assets in this process; only the steps' own lines are printed."""
    job = definitions.resolve_implicit_global_asset_job_def()
    silence: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, run_config=silence, raise_on_error=False)
    for event in result.filter_events(lambda event: event.is_step_failure):
        sentence = failure_sentence(event.step_failure_data)
        if sentence == INTERRUPTED:
            raise KeyboardInterrupt
        raise UserError(sentence)


def failure_sentence(failure: Any) -> str:
    """The error of a failed step in its own words; of a step that was retried, the last one."""
    if failure.user_failure_data and failure.user_failure_data.description:
        return failure.user_failure_data.description
    error = failure.error
    while error.cause is not None:
        error = error.cause
    return error.message.strip()


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end a step at once; Dagster would only note them and wait for its end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in previous:
            signal.signal(number, signal.default_int_handler)
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _print_header(name: str) -> None:
    print(f"\n=== {name} " + "=" * (74 - len(name)), flush=True)


def _print_line(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    COMMAND.run(main)
else:
    defs = build_definitions(Path(os.environ.get("MOS_CONFIG", DEFAULT_CONFIG)))

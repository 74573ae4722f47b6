#!/usr/bin/env python3
"""Status: every step of a run, whether it is finished, goes on, can start or waits, and for what.

Reads   the run's folder, and the jobs of the cluster that RAY_API_SERVER_ADDRESS or RAY_ADDRESS names, if one does
Writes  nothing; may be asked while jobs run, and from any machine that sees the folder

  python pipelines/status.py
  python pipelines/status.py my.toml
  python pipelines/status.py my.toml --json
"""

import json
import sys
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.run.cli import Command

COMMAND = Command(__name__, __doc__, flags={"--json": "print it as JSON, for other programs"})

import io
import os
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table

from cluster.head import server_address
from mos.errors import UserError
from mos.ledger import StepRecord
from pipelines.run.steps import TRAINING, Run, Step, configured_steps, upstream
from pipelines.train.job import stage_folder
from pipelines.train.standing import cost_text, standing

State = Literal["finished", "trains", "runs", "stopped", "can start", "waits"]
WIDTH = 140
"""Columns where the output is no terminal."""
COLOURS: Mapping[State, str] = {
    "finished": "green", "trains": "cyan", "runs": "cyan", "stopped": "yellow", "can start": "bold", "waits": "dim",
}  # fmt: skip


@dataclass(frozen=True)
class Status:
    """One step."""

    step: str
    state: State
    about: str
    """What came of it, how far it is, or what it waits for."""
    seconds: float | None = None
    """Wall time that it took, or has taken so far."""
    left_s: float | None = None
    """Seconds until it is done at its speed; None where that is not known."""


def main(run: Run, args: Namespace) -> None:
    """Look, and print."""
    jobs = running_jobs()
    found = [status_of(run, name, jobs) for name in configured_steps(run.config)]
    rejected = rejects(run)
    if args.json:
        print(json.dumps({"steps": [asdict(status) for status in found], "rejected": rejected}, indent=2))
        return
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    console.print(step_table(run.config.name, found))
    if rejected:
        told = ", ".join(f"{reason} {count}" for reason, count in rejected.items())
        console.print(f"rejected by curation: {told}", highlight=False)


def status_of(run: Run, name: str, jobs: Mapping[str, str]) -> Status:
    """Where a step stands; `jobs` are those that run, by name, and what the cluster says of each."""
    said = io.StringIO()  # which samples a stage stands on, for people who start it
    try:
        with redirect_stdout(said):
            step = run.step(name)
    except UserError as error:
        missing = [other for other in upstream(name, run.config) if not run.is_finished(other)]
        return Status(name, "waits", f"for {', '.join(missing)}" if missing else str(error))
    record = step.find()
    if record is not None:
        return Status(name, "finished", result_text(record), record.seconds)
    job = jobs.get(f"{name}-{step.short}")
    if name in TRAINING:
        return stage_status(run, step, job)
    if job is not None:
        return Status(name, "runs", f"job {name}-{step.short} is {job}")
    return Status(name, "can start", f"python pipelines/{name}.py <config>")


def stage_status(run: Run, step: Step, job: str | None) -> Status:
    """Where a stage that is not finished stands."""
    asked = step.length
    found = standing(stage_folder(step, run.config))
    told = [f"{found.updates} of {asked} updates"]
    if found.loss is not None:
        told.append(f"loss {found.loss:.4f}")
    if found.updates_per_s is not None:
        told.append(f"{found.updates_per_s:.3g} updates/s")
    if found.spent is not None:
        told.append(f"{found.spent.share:.0%} goodput, {cost_text(run.config, found.spent.worker_seconds)}")
    if found.silent:
        told.append(f"not heard of: {', '.join(found.silent)}")
    seconds = None if found.spent is None else found.spent.wall
    if found.trains or job is not None:
        return Status(step.name, "trains", "; ".join(told), seconds, found.left_s(asked))
    if found.updates:
        told[0] += f", goes on from {found.saved}"
        return Status(step.name, "stopped", "; ".join(told), seconds, found.left_s(asked))
    return Status(step.name, "can start", f"python pipelines/{step.name}.py <config>")


def result_text(record: StepRecord) -> str:
    """What came of a finished step, in a few words."""
    outputs = record.outputs
    match record.name:
        case "curate":
            return f"{outputs['read']} read, {outputs['kept']} kept, {sum(outputs['rejected'].values())} rejected"
        case "encode":
            return f"{outputs['states']['rows']} contexts, {outputs['latents']['rows']} latents"
        case name if name in TRAINING:
            loss = outputs["final_loss"]
            return f"{outputs['steps']} updates" + ("" if loss is None else f", loss {loss:.4f}")
        case _:
            return ""


def rejects(run: Run) -> dict[str, int]:
    """Items that the newest curation refused, by reason."""
    record = run.find("curate")
    return {} if record is None else record.outputs["rejected"]


def running_jobs() -> dict[str, str]:
    """Jobs of the named cluster that are pending or running, by `<step>-<12 hex>`; none where no cluster is named.

    Raises:
        UserError: the cluster that is named does not answer.
    """
    address = server_address(os.environ)
    if address is None:
        return {}
    from ray.job_submission import JobSubmissionClient

    try:
        jobs = JobSubmissionClient(address).list_jobs()
    except (ConnectionError, RuntimeError) as error:
        raise UserError(
            f"the cluster at {address} does not answer ({error}): correct the address, or unset it"
        ) from error
    live = [job for job in jobs if job.submission_id and not job.status.is_terminal()]
    return {"-".join(str(job.submission_id).split("-")[:2]): str(job.status).lower() for job in live}


def step_table(name: str, found: list[Status]) -> Table:
    """All steps for a terminal."""
    table = Table(title=f"run {name}", title_justify="left")
    for column in ("step", "state", "about", "took", "left"):
        table.add_column(column, justify="right" if column in ("took", "left") else "left")
    for status in found:
        state = f"[{COLOURS[status.state]}]{status.state}[/]"
        table.add_row(status.step, state, status.about, duration(status.seconds), duration(status.left_s))
    return table


def duration(seconds: float | None) -> str:
    """Seconds for people: "42 s", "3 min", "7.5 h", "2.1 days"."""
    if seconds is None:
        return ""
    for most, unit, name in ((90, 1, "s"), (5400, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < most:
            return f"{seconds / unit:.{0 if unit < 3600 else 1}f} {name}"
    return f"{seconds / 86400:.1f} days"


if __name__ == "__main__":
    COMMAND.run(main)

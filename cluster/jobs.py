"""Ray jobs named by what they compute: submitted once, attached to while they run, followed line by line."""

import asyncio
import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from ray.job_submission import JobStatus, JobSubmissionClient

POLL_S = 0.5
"""Seconds between looks at a job's status."""

STOP_WAIT = {"RAY_JOB_STOP_WAIT_TIME_S": "600"}
"""Environment of a job: how long Ray lets it finish its step and write a checkpoint once it is told to stop, instead of
three seconds."""

RAY_OWN_TEXT = re.compile(
    r"^\S+ \S+\tINFO job_manager\.py:.*|^\[[-\d]+ [:,\d]+ [IWE] \d+ \d+\] \w+\.cc:\d+: .*|Running entrypoint for job .*"
)
"""What Ray itself writes into a job's log: how the job started (at times behind the job's own first output), and its
core worker's advice on Ray's own actors."""


@dataclass(frozen=True)
class JobSpec:
    """One unit of work and the command that does it."""

    name: str
    """Step, for example `curate`."""
    fingerprint: str
    """Hex digits over everything that decides the outputs; equal work has an equal fingerprint."""
    entrypoint: str
    """Shell command, run on the cluster's head node."""
    runtime_env: Mapping[str, Any] = field(default_factory=dict)
    """Ray runtime environment of the job and of its workers."""

    def submission_id(self, attempt: int) -> str:
        """`<name>-<12 hex>`, with `-r<attempt>` from the second attempt on."""
        return f"{self.name}-{self.fingerprint[:12]}" + (f"-r{attempt}" if attempt else "")


@dataclass(frozen=True)
class Claim:
    """The job that stands for a piece of work."""

    submission_id: str
    submitted: bool
    """False where the job was there before: running, or finished already."""


@dataclass(frozen=True)
class JobOutcome:
    """End of a job."""

    submission_id: str
    submitted: bool
    status: JobStatus
    """SUCCEEDED, FAILED or STOPPED."""
    exit_code: int | None
    """Of the entrypoint; None where Ray ended the job."""
    error: str | None
    """The job's own `error:` sentence, else Ray's message; None after success."""

    @property
    def succeeded(self) -> bool:
        """True if the work is done."""
        return self.status == JobStatus.SUCCEEDED


def run_job(
    client: JobSubmissionClient,
    spec: JobSpec,
    on_line: Callable[[str], None],
    *,
    repeat_finished: bool = False,
    stop_on_interrupt: bool = False,
) -> JobOutcome:
    """Have a piece of work done by exactly one job, and follow that job to its end.

    A job of this name and fingerprint that is pending or running is attached to, its log read from the start; one
    that succeeded counts as done; after one that failed or was stopped the next attempt is submitted. An exception
    in here (Ctrl-C too, unless it is to stop the job) leaves the job running: the next call attaches to it.

    Args:
        client: Of the cluster's job server.
        spec: The work.
        on_line: Gets every line of the job's log, without its newline, as it appears.
        repeat_finished: Submit again after a success; for a caller who knows that its outputs are gone.
        stop_on_interrupt: At KeyboardInterrupt have Ray stop the job, in which it may finish what it must, and follow
            it to its end; a second one leaves at once.
    """
    claim = claim_job(client, spec, repeat_finished=repeat_finished)
    log = _Log(on_line)
    try:
        asyncio.run(_follow(client, claim.submission_id, log))
    except KeyboardInterrupt:
        if stop_on_interrupt:
            client.stop_job(claim.submission_id)
            asyncio.run(_follow(client, claim.submission_id, log))
        raise
    details = client.get_job_info(claim.submission_id)
    error = None if details.status == JobStatus.SUCCEEDED else log.error or details.message or str(details.status)
    return JobOutcome(claim.submission_id, claim.submitted, details.status, details.driver_exit_code, error)


def claim_job(client: JobSubmissionClient, spec: JobSpec, *, repeat_finished: bool = False) -> Claim:
    """Find the live or finished job for this work, or submit its next attempt."""
    attempt = 0
    while True:
        submission_id = spec.submission_id(attempt)
        status = job_status(client, submission_id)
        if status is None:
            if _submit(client, spec, submission_id):
                return Claim(submission_id, submitted=True)
            continue  # someone else submitted it in between: look again
        if not status.is_terminal() or (status == JobStatus.SUCCEEDED and not repeat_finished):
            return Claim(submission_id, submitted=False)
        attempt += 1


def job_status(client: JobSubmissionClient, submission_id: str) -> JobStatus | None:
    """Status of a job, None where the cluster has never heard of it."""
    try:
        return client.get_job_status(submission_id)
    except RuntimeError as error:
        if "404" in str(error) and "does not exist" in str(error):
            return None
        raise


def _submit(client: JobSubmissionClient, spec: JobSpec, submission_id: str) -> bool:
    """Submit under this id; False where the id was taken in the meantime."""
    try:
        client.submit_job(
            entrypoint=spec.entrypoint,
            submission_id=submission_id,
            runtime_env=dict(spec.runtime_env),
            metadata={"step": spec.name, "fingerprint": spec.fingerprint},
        )
    except RuntimeError as error:
        if "already exists" in str(error):
            return False
        raise
    return True


class _Log:
    """Cuts a job's log into lines and keeps the last sentence that starts with `error:`."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self.num_chars = 0
        self.error: str | None = None
        self._on_line = on_line
        self._partial = ""

    def feed(self, text: str) -> None:
        """Take the next characters of the log."""
        self.num_chars += len(text)
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            self._line(line)

    def close(self) -> None:
        """Hand out a last line that has no newline."""
        if self._partial:
            self._line(self._partial)

    def _line(self, line: str) -> None:
        line, num_cuts = RAY_OWN_TEXT.subn("", line)
        if num_cuts and not line:
            return
        if line.startswith("error: "):
            self.error = line.removeprefix("error: ")
        self._on_line(line)


async def _follow(client: JobSubmissionClient, submission_id: str, log: _Log) -> None:
    """Feed the log until the job has ended and every character of it is read."""
    tail = asyncio.create_task(_tail(client, submission_id, log))
    while not client.get_job_status(submission_id).is_terminal():
        await asyncio.sleep(POLL_S)
    tail.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await tail
    log.feed(client.get_job_logs(submission_id)[log.num_chars :])
    log.close()


async def _tail(client: JobSubmissionClient, submission_id: str, log: _Log) -> None:
    """Stream the log; where a proxy cuts the stream, start over and skip what was read."""
    while True:
        skip = log.num_chars
        with contextlib.suppress(RuntimeError, aiohttp.ClientError):
            async for chunk in client.tail_job_logs(submission_id):
                log.feed(chunk[skip:])
                skip = max(0, skip - len(chunk))
        await asyncio.sleep(POLL_S)

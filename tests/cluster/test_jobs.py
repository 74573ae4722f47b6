import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from cluster.config import ClusterConfig
from cluster.head import LocalHead
from cluster.jobs import JobSpec, claim_job, job_status, run_job

pytestmark = pytest.mark.slow

FINGERPRINT = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def client() -> Iterator[JobSubmissionClient]:
    head = LocalHead(ClusterConfig(num_cpus=2, object_store_mb=100))
    try:
        yield head.connect()
    finally:
        head.stop()


def wait_for(client: JobSubmissionClient, submission_id: str, status: JobStatus) -> None:
    deadline = time.monotonic() + 60
    while job_status(client, submission_id) != status:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_finished_job_counts_as_done(client: JobSubmissionClient):
    spec = JobSpec("curate", FINGERPRINT, "echo one; printf two")
    lines: list[str] = []
    first = run_job(client, spec, lines.append)
    assert (first.succeeded, first.submitted, first.submission_id) == (True, True, "curate-0123456789ab")
    assert lines == ["one", "two"]
    again = run_job(client, spec, lines.append)
    assert (again.succeeded, again.submitted, again.submission_id) == (True, False, first.submission_id)
    repeated = run_job(client, spec, lines.append, repeat_finished=True)
    assert (repeated.submitted, repeated.submission_id) == (True, "curate-0123456789ab-r1")


def test_a_running_job_is_attached_to(client: JobSubmissionClient, tmp_path: Path):
    go = tmp_path / "go"
    spec = JobSpec("encode", FINGERPRINT, f"echo begun; until [ -e {go} ]; do sleep 0.1; done; echo ended")
    claim = claim_job(client, spec)
    wait_for(client, claim.submission_id, JobStatus.RUNNING)
    threading.Timer(1.0, go.touch).start()
    lines: list[str] = []
    outcome = run_job(client, spec, lines.append)
    assert (outcome.succeeded, outcome.submitted) == (True, False)
    assert lines == ["begun", "ended"]


def test_a_failed_job_is_followed_by_the_next_attempt(client: JobSubmissionClient, tmp_path: Path):
    flag = tmp_path / "flag"
    spec = JobSpec("stage1", FINGERPRINT, f"[ -e {flag} ] || {{ touch {flag}; echo 'error: no weights'; exit 2; }}")
    failed = run_job(client, spec, lambda line: None)
    assert (failed.succeeded, failed.exit_code, failed.error) == (False, 2, "no weights")
    second = run_job(client, spec, lambda line: None)
    assert (second.succeeded, second.submission_id) == (True, "stage1-0123456789ab-r1")


def test_a_stopped_job_is_followed_by_the_next_attempt(client: JobSubmissionClient):
    claim = claim_job(client, JobSpec("edit", FINGERPRINT, "sleep 60"))
    wait_for(client, claim.submission_id, JobStatus.RUNNING)
    client.stop_job(claim.submission_id)
    wait_for(client, claim.submission_id, JobStatus.STOPPED)
    second = run_job(client, JobSpec("edit", FINGERPRINT, "true"), lambda line: None)
    assert (second.succeeded, second.submission_id) == (True, "edit-0123456789ab-r1")


def test_two_submitters_share_one_job(client: JobSubmissionClient):
    claims = []
    spec = JobSpec("sample", FINGERPRINT, "true")
    threads = [threading.Thread(target=lambda: claims.append(claim_job(client, spec))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {claim.submission_id for claim in claims} == {"sample-0123456789ab"}
    assert sum(claim.submitted for claim in claims) == 1

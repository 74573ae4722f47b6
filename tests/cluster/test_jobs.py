import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from cluster.config import ClusterConfig
from cluster.head import JobCluster, LocalHead, server_address
from cluster.jobs import JobSpec, claim_job, job_status, run_job
from mos.errors import UserError

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


def test_a_head_takes_no_jobs_without_its_token(client: JobSubmissionClient):
    with pytest.raises(Exception, match=r"(?i)401|403|authenticat"):
        JobSubmissionClient(client.get_address()).list_jobs()


def test_a_head_ends_with_the_process_that_started_it(clone: Path):
    code = (
        "import time\nfrom cluster.head import LocalHead\nfrom cluster.session import ClusterConfig\n"
        "head = LocalHead(ClusterConfig(num_cpus=1, object_store_mb=100))\nhead.connect()\n"
        "print(head._process.pid, flush=True)\ntime.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], cwd=clone, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    head_pid = int(owner.stdout.readline())
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    # A second as a rule; half a minute and more where the head was still starting its parts.
    deadline = time.monotonic() + 90
    while _running(head_pid) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not _running(head_pid)


def _running(group: int) -> bool:
    """Whether any process of the group does more than wait to be reaped."""
    listing = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listing.splitlines()]
    return any(int(pgid) == group and not stat.startswith("Z") for pgid, stat in rows)


def test_jobs_go_to_the_server_the_environment_names(monkeypatch: pytest.MonkeyPatch, clone: Path, tmp_path: Path):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    with JobCluster(ClusterConfig()) as cluster:
        assert cluster.command("curate", ["a b.toml"]) == "python pipelines/curate.py 'a b.toml'"
        assert cluster.runtime_env()["working_dir"] == str(clone)
        assert cluster.path(clone / "pipelines/configs/demo.toml") == "pipelines/configs/demo.toml"
        with pytest.raises(UserError, match=r"does not travel to http://127.0.0.1:1"):
            cluster.path(tmp_path / "mine.toml")
        with pytest.raises(UserError, match=r"no Ray job server answers at http://127.0.0.1:1"):
            _ = cluster.client


def test_a_plain_ray_address_names_no_job_server():
    assert server_address({"RAY_ADDRESS": "10.0.0.1:6379"}) is None
    assert server_address({"RAY_ADDRESS": "http://10.0.0.1:8265"}) == "http://10.0.0.1:8265"
    assert server_address(dict(os.environ)) is None

"""A head of our own, closed to strangers and gone with its owner; where jobs go, their names, and what travels."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ray.job_submission import JobSubmissionClient

from cluster.config import ClusterConfig
from cluster.head import JobCluster, LocalHead, _free_ports, server_address
from cluster.jobs import STOP_WAIT
from mos.errors import UserError

SERVER = "http://127.0.0.1:1"


@pytest.mark.slow
def test_a_head_is_closed_to_strangers_and_ends_with_the_process_that_started_it(clone: Path):
    code = (
        "import os, time\nos.environ['RAY_ADDRESS'] = '10.0.0.1:6379'\n"
        "from cluster.head import LocalHead\nfrom cluster.session import ClusterConfig\n"
        "head = LocalHead(ClusterConfig(num_cpus=1, object_store_mb=100))\nhead.connect()\n"
        "assert os.environ['RAY_ADDRESS'] == '10.0.0.1:6379', 'a cluster elsewhere, which the head is not'\n"
        "print(head._process.pid, head.address, flush=True)\ntime.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], cwd=clone, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    head_pid, address = owner.stdout.readline().split()
    try:
        with pytest.raises(Exception, match=r"(?i)401|403|authenticat"):
            JobSubmissionClient(address).list_jobs()
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    # A second as a rule; half a minute and more where the head was still starting its parts.
    deadline = time.monotonic() + 90
    while _running(int(head_pid)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not _running(int(head_pid))


def _running(group: int) -> bool:
    """Whether any process of the group does more than wait to be reaped."""
    listing = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listing.splitlines()]
    return any(int(pgid) == group and not stat.startswith("Z") for pgid, stat in rows)


def test_a_head_that_does_not_start_says_what_it_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A program in Ray's place that ends at once tells what a head is given: a token of its own, on no command line."""
    program = tmp_path / "program"
    program.write_text(
        '#!/bin/sh\necho "$RAY_AUTH_MODE token of ${#RAY_AUTH_TOKEN} digits, address ${RAY_ADDRESS-unset}"\n'
        'for word in "$@"; do case "$word" in *"$RAY_AUTH_TOKEN"*) echo leaked;; esac; done\nexit 3\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    head = LocalHead(ClusterConfig(num_cpus=1, object_store_mb=100))
    monkeypatch.delenv("RAY_ADDRESS")
    folder = Path(head._folder.name)
    with pytest.raises(RuntimeError, match=r"exit status 3\):\ntoken token of 64 digits, address unset\n$"):
        head.connect()
    head.stop()
    assert not folder.exists()


def test_jobs_go_to_the_server_the_environment_names(monkeypatch: pytest.MonkeyPatch, clone: Path, tmp_path: Path):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", SERVER)
    with JobCluster(ClusterConfig()) as cluster:
        assert cluster.command("curate", ["a b.toml"]) == "python pipelines/curate.py 'a b.toml'"
        runtime_env = cluster.runtime_env()
        assert runtime_env["working_dir"] == str(clone)
        assert {".git", ".venv", "runs"} <= set(runtime_env["excludes"])
        assert "PYTHONPATH" not in runtime_env["env_vars"]
        assert cluster.path(clone / "pipelines/configs/demo.toml") == "pipelines/configs/demo.toml"
        with pytest.raises(UserError, match=rf"mine.toml does not travel to {SERVER}: put it into {clone}/pipelines"):
            cluster.path(tmp_path / "mine.toml")
        with pytest.raises(UserError, match=rf"no Ray job server answers at {SERVER}: start it or correct"):
            _ = cluster.client


def test_without_a_server_jobs_run_in_the_checkout_itself(clone: Path, tmp_path: Path):
    with JobCluster(ClusterConfig(hub_downloads=True)) as cluster:
        command = cluster.command("curate", ["a b.toml", "seed=1"])
        assert command.startswith("exec ")
        script = str(clone / "pipelines/curate.py")
        assert shlex.split(command)[1:] == [sys.executable, script, "a b.toml", "seed=1"]
        runtime_env = cluster.runtime_env()
        assert list(runtime_env) == ["env_vars"]
        environment = runtime_env["env_vars"]
        assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(clone)
        assert (environment["HF_HUB_OFFLINE"], environment["PYTHONUNBUFFERED"]) == ("0", "1")
        assert environment.items() >= STOP_WAIT.items()
        assert cluster.path(tmp_path / "mine.toml") == str(tmp_path / "mine.toml")


def test_nothing_starts_where_data_files_could_run_code(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAY_DATA_AUTOLOAD_PYEXTENSIONTYPE", "1")
    with JobCluster(ClusterConfig()) as cluster, pytest.raises(UserError, match="unset it"):
        _ = cluster.client
    assert cluster._head is None


@pytest.mark.parametrize(
    ("environment", "server"),
    [
        ({}, None),
        ({"RAY_ADDRESS": "10.0.0.1:6379"}, None),
        ({"RAY_ADDRESS": "ray://10.0.0.1:10001"}, None),
        ({"RAY_ADDRESS": "http://10.0.0.1:8265"}, "http://10.0.0.1:8265"),
        ({"RAY_API_SERVER_ADDRESS": "https://ray", "RAY_ADDRESS": "http://10.0.0.1:8265"}, "https://ray"),
        ({"RAY_API_SERVER_ADDRESS": "", "RAY_ADDRESS": "http://10.0.0.1:8265"}, "http://10.0.0.1:8265"),
    ],
    ids=str,
)
def test_a_plain_ray_address_names_no_job_server(environment: dict[str, str], server: str | None):
    assert server_address(environment) == server


def test_ports_of_a_head_are_distinct_and_free():
    ports = _free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))

"""A Ray cluster that takes jobs: the one the environment names, or a head of our own for as long as it is needed."""

import contextlib
import ctypes
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray
from ray.job_submission import JobSubmissionClient

from cluster.jobs import STOP_WAIT
from cluster.session import (
    CHECKOUT_EXCLUDES,
    CLONE,
    ClusterConfig,
    forking_to_exec,
    refuse_old_ray,
    refuse_unsafe_environment,
    worker_environment,
)
from mos.errors import UserError

START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 3


ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Variables that may name a job server; the second one also names clusters, as host:port."""


class LocalHead:
    """A Ray head on the loopback address: random ports, a token of its own, a temporary folder; ends with this process.

    A process of its own because `ray.init` leaves no choice of the agent's port, so that a second one on the same
    machine would take no jobs.
    """

    def __init__(self, config: ClusterConfig) -> None:
        self._token = secrets.token_hex(32)
        self._folder = tempfile.TemporaryDirectory(prefix="mos-ray-", ignore_cleanup_errors=True)
        dashboard, agent, gcs, client = _free_ports(4)
        self.address = f"http://127.0.0.1:{dashboard}"
        self.headers = {"Authorization": f"Bearer {self._token}"}
        # fmt: off
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats",
            "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--port={gcs}",
            f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}",
            f"--ray-client-server-port={client}", "--min-worker-port=0", "--max-worker-port=0",
            f"--temp-dir={self._folder.name}", f"--object-store-memory={config.object_store_mb * 2**20}",
            f"--num-cpus={config.local_cores}",
        ]
        # fmt: on
        environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self._token}
        environment.pop("RAY_ADDRESS", None)
        self._log = Path(self._folder.name, "head.log")
        with self._log.open("wb") as log, forking_to_exec():
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the head in order
                preexec_fn=_end_with_parent,
            )

    def connect(self) -> JobSubmissionClient:
        """Wait until the head takes jobs.

        Raises:
            RuntimeError: it ended, or did not come up in time; the message holds the end of its log.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(ConnectionError, RuntimeError):
                with _unset(*ADDRESSES):  # which a client prefers to what it is told
                    client = JobSubmissionClient(self.address, headers=self.headers)
                client.list_jobs()
                return client
            time.sleep(0.2)
        tail = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise RuntimeError(f"the local Ray head did not start (exit status {self._process.poll()}):\n{tail}")

    def stop(self) -> None:
        """End the head, the jobs on it and every process of theirs, and remove its folder."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT_S)
        self._folder.cleanup()


class JobCluster:
    """Takes Ray jobs; starts nothing before the first one.

    With `RAY_API_SERVER_ADDRESS` (or an http `RAY_ADDRESS`) set, jobs go to that server, the checkout travels with
    each as its working directory, and leaving the block leaves the cluster as it is. Otherwise the first use starts
    a `LocalHead`, jobs run in the checkout itself, and leaving the block ends the head with all that runs on it.
    """

    def __init__(self, config: ClusterConfig) -> None:
        self.config = config
        self.server = server_address(os.environ)
        self._head: LocalHead | None = None
        self._client: JobSubmissionClient | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._head is not None:
            self._head.stop()
        self._head = self._client = None

    @property
    def client(self) -> JobSubmissionClient:
        """Connection to the job server; the first use starts the local head.

        Raises:
            UserError: an environment switch is unsafe, this Ray is too old, or the named server does not answer.
        """
        if self._client is None:
            refuse_unsafe_environment(os.environ)
            refuse_old_ray(ray.__version__)
            self._client = self._connect()
        return self._client

    def command(self, script: str, arguments: Sequence[str]) -> str:
        """Shell command that runs `pipelines/<script>.py` on this cluster."""
        if self.server is not None:
            return shlex.join(["python", f"pipelines/{script}.py", *arguments])
        # `exec` leaves no shell between Ray and the script, so that stopping the job stops the script.
        return "exec " + shlex.join([sys.executable, str(CLONE / "pipelines" / f"{script}.py"), *arguments])

    def runtime_env(self) -> dict[str, Any]:
        """Runtime environment under which jobs find the project on this cluster."""
        environment = {**worker_environment(self.config), **STOP_WAIT, "PYTHONUNBUFFERED": "1"}
        if self.server is None:
            return {"env_vars": environment}
        del environment["PYTHONPATH"]  # Ray puts the unpacked working directory on the path
        return {"working_dir": str(CLONE), "excludes": list(CHECKOUT_EXCLUDES), "env_vars": environment}

    def path(self, path: Path) -> str:
        """Name by which a job calls a file of the checkout.

        Raises:
            UserError: jobs run elsewhere and the file is not in the checkout, so it does not travel.
        """
        if self.server is None:
            return str(path.resolve())
        if not path.resolve().is_relative_to(CLONE):
            raise UserError(f"{path} does not travel to {self.server}: put it into {CLONE / 'pipelines' / 'configs'}")
        return str(path.resolve().relative_to(CLONE))

    def _connect(self) -> JobSubmissionClient:
        if self.server is None:
            self._head = LocalHead(self.config)
            return self._head.connect()
        try:
            return JobSubmissionClient(self.server)
        except ConnectionError as error:
            raise UserError(f"no Ray job server answers at {self.server}: start it or correct the address") from error


def server_address(environment: Mapping[str, str]) -> str | None:
    """Address of the job server that the environment names, None where it names none."""
    for name in ADDRESSES:
        if environment.get(name, "").startswith(("http://", "https://")):
            return environment[name]
    return None


def _free_ports(num: int) -> list[int]:
    """Distinct ports of the loopback address that nobody listens on."""
    with contextlib.ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(num)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]


@contextlib.contextmanager
def _unset(*names: str) -> Iterator[None]:
    """Hide variables of this process's environment for the duration of the block."""
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _end_with_parent() -> None:
    """In the child: have Linux kill it when the parent dies, however it dies; Ray's daemons share its fate."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG

"""One way into Ray for every script: the surrounding job's cluster, `RAY_ADDRESS`, or a local Ray of its own.

Ray is imported when a session begins: what draws or plans needs none.
"""

import json
import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.config import ClusterConfig
from mos.checkout import CLONE
from mos.errors import UserError

CHECKOUT_EXCLUDES = (".git", ".venv", "runs")
"""What does not travel to a cluster with the checkout, besides the entries of .gitignore."""

OLDEST_RAY = (2, 56)
"""Older releases read WebDataset members with pickle and lack the fixes this project relies on."""

START_TRIES = 3
"""Of a local Ray."""

UNSAFE_SWITCHES = ("RAY_DATA_WEBDATASET_ALLOW_UNSAFE_DESERIALIZATION", "RAY_DATA_AUTOLOAD_PYEXTENSIONTYPE")
"""Environment switches that let data files run code on the workers."""


@contextmanager
def ray_session(config: ClusterConfig) -> Iterator[None]:
    """Connect to Ray for the duration of the block.

    Inside a Ray job, or with `RAY_ADDRESS` set, this attaches to that cluster and leaves it running; otherwise it
    starts a local Ray (no dashboard, bounded object store) and stops it at the end. Inside another session it does
    nothing.

    Raises:
        UserError: an environment switch lets data run code, this Ray is too old, `RAY_ADDRESS` does not answer, or a
            local Ray does not come up.
    """
    import ray

    refuse_unsafe_environment(os.environ)
    refuse_old_ray(ray.__version__)
    if ray.is_initialized():
        yield
        return
    auth_mode = os.environ.get("RAY_AUTH_MODE")
    _quiet()
    with forking_to_exec():
        _connect(config)
    try:
        yield
    finally:
        ray.shutdown()
        _restore("RAY_AUTH_MODE", auth_mode)


@contextmanager
def forking_to_exec() -> Iterator[None]:
    """Block that starts processes which run another program at once: Lance's warning of forks does not concern them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="lance is not fork-safe")
        yield


def refuse_unsafe_environment(environment: Mapping[str, str]) -> None:
    """Raise `UserError` if a switch that lets data files run code is set to anything but 0 or false."""
    for name in UNSAFE_SWITCHES:
        if environment.get(name, "0").lower() not in ("", "0", "false"):
            raise UserError(f"{name}={environment[name]} lets a data file run code on the workers: unset it")


def refuse_old_ray(version: str) -> None:
    """Raise `UserError` for a Ray release before `OLDEST_RAY`."""
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) < OLDEST_RAY:
        raise UserError(f"ray {version} is too old: install ray>={OLDEST_RAY[0]}.{OLDEST_RAY[1]}")


def worker_environment(config: ClusterConfig) -> dict[str, str]:
    """Environment variables of every worker process."""
    return {
        "PYTHONPATH": python_path(),
        "HF_HUB_OFFLINE": "0" if config.hub_downloads else "1",
        "TOKENIZERS_PARALLELISM": "false",
        # See pipelines/__init__.py.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"),
        "MKL_CBWR": os.environ.get("MKL_CBWR", "AUTO,STRICT"),
    }


def python_path() -> str:
    """`PYTHONPATH` with this checkout in front, so that workers import it without an installation."""
    others = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != str(CLONE)]
    return os.pathsep.join([str(CLONE), *others])


def _connect(config: ClusterConfig) -> None:
    import ray

    # What workers print stays in Ray's session folder: a step's own lines are the driver's.
    options: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}
    if _inside_job():
        ray.init(runtime_env=_job_runtime_env(config), **options)
    elif address := os.environ.get("RAY_ADDRESS"):
        _attach(config, address, options)
    else:
        start_local(
            num_cpus=config.local_cores,
            object_store_memory=config.object_store_mb * 2**20,
            runtime_env={"env_vars": worker_environment(config)},
            **options,
        )


def start_local(**options: Any) -> None:
    """Start a Ray of this process's own; Ray gives each try 30 seconds, which a machine with other work may exceed.

    Args:
        options: of `ray.init`.

    Raises:
        UserError: it did not come up.
    """
    import ray

    for tries_left in reversed(range(START_TRIES)):
        try:
            ray.init(address="local", include_dashboard=False, **options)
            return
        except Exception as error:  # Ray raises a bare one
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
            if not tries_left:
                raise UserError(
                    f"Ray did not come up within 30 s, {START_TRIES} times: this machine has too much other work, or "
                    "too little memory"
                ) from error
            print("Ray did not come up within 30 s: trying again", file=sys.stderr, flush=True)


def _quiet() -> None:
    """Keep a script's own lines readable: Ray reports problems, not its plans and settings."""
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "WARNING")  # for a ray.data that is imported later
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # says that its bars are off
    # Where RAY_AUTH_MODE is unset, Ray gives a new local cluster a token and says so. That default is what we want.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)


def _inside_job() -> bool:
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def _job_runtime_env(config: ClusterConfig) -> dict[str, Any]:
    """Variables that the job's own runtime environment does not set already (Ray refuses to see one twice)."""
    job = json.loads(os.environ["RAY_JOB_CONFIG_JSON_ENV_VAR"]).get("runtime_env") or {}
    decided = set(job.get("env_vars") or {})
    if "working_dir" in job:
        decided.add("PYTHONPATH")  # Ray puts the unpacked working directory on every worker's path
    # Ray Train's watchdog asks for the cluster by its address, which workers do not inherit from the driver.
    environment = {**worker_environment(config), "RAY_ADDRESS": os.environ["RAY_ADDRESS"]}
    return {"env_vars": {key: value for key, value in environment.items() if key not in decided}}


def _attach(config: ClusterConfig, address: str, options: dict[str, Any]) -> None:
    """Join a cluster from outside a job: the checkout travels as the working directory."""
    import ray

    if "://" in address:
        raise UserError(
            f"RAY_ADDRESS={address} is no address a script can join: give the cluster's host:port, or submit it with "
            f"`ray job submit --working-dir . -- python pipelines/{Path(sys.argv[0]).name}`"
        )
    environment = worker_environment(config)
    del environment["PYTHONPATH"]
    runtime_env = {"working_dir": str(CLONE), "excludes": list(CHECKOUT_EXCLUDES), "env_vars": environment}
    try:
        _probe(address)
        ray.init(runtime_env=runtime_env, **options)
    except OSError as error:
        raise UserError(
            f"no Ray cluster answers at RAY_ADDRESS={address}: start it, or unset RAY_ADDRESS to use this machine alone"
        ) from error


def _probe(address: str) -> None:
    """Raise OSError within seconds where nobody listens; Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=5).close()


def _restore(name: str, value: str | None) -> None:
    """Put an environment variable back; `ray.init` leaves its own authentication mode behind."""
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value

#!/usr/bin/env python3
"""Doctor: whether this machine, or the cluster that is named, can do what a config asks, before anything is spent.

Reads   the config, its sources' listings, its weights' own configs; starts Ray, or asks the cluster of RAY_ADDRESS
Writes  a line for each thing looked at; for a moment one file a node in the run's folder. Ends with status 2 if
        something would fail

  python pipelines/doctor.py
  python pipelines/doctor.py my.toml
  ray job submit --working-dir . -- pipelines/doctor.py my.toml
"""

import sys
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.run.cli import Command

COMMAND = Command(__name__, __doc__)

import fcntl
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from typing import Literal
from uuid import uuid4

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console

from cluster.resources import actor_options, available_cores
from cluster.room import refuse_too_many
from cluster.session import ray_session
from mos.checkout import CLONE
from mos.curation.sources import list_units
from mos.encoders.load import describe_codec, describe_tower
from mos.errors import UserError
from mos.precision import fast_dtype, instruction_sets
from mos.training.given_weights import check_fit
from mos.training.start import GivenWeights
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run

Verdict = Literal["ok", "note", "fault"]
"""Fine; to be known; what would end a job."""
COLOURS = {"ok": "green", "note": "yellow", "fault": "bold red"}
LOW_GB = 20
"""Free disk below which it is told."""
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)")
CONSTRAINTS = CLONE / "constraints.txt"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    verdict: Verdict
    told: str


Check = Callable[[RunConfig], Iterator[Finding]]


def main(run: Run, args: Namespace) -> None:
    """Look at everything, tell it, and fail if something would."""
    console, faults = Console(width=None if sys.stdout.isatty() else 160), 0
    for check in (packages, processor, devices, disks, sources, weights, cluster):
        for finding in found_by(check, run.config):
            faults += finding.verdict == "fault"
            console.print(
                f"[{COLOURS[finding.verdict]}]{finding.verdict:<5}[/] {finding.subject}: {finding.told}",
                highlight=False,
                soft_wrap=True,
            )
    if faults:
        raise UserError(f"{faults} of these would end a job of config {run.config.name!r}: see the lines above")


def found_by(check: Check, config: RunConfig) -> Iterator[Finding]:
    """What a check finds; what it raises for users is a fault under its name."""
    try:
        yield from check(config)
    except UserError as error:
        yield Finding(check.__name__, "fault", str(error))


def packages(config: RunConfig) -> Iterator[Finding]:
    """Versions of packages against the pins that this checkout is tested with."""
    python = ".".join(map(str, sys.version_info[:3]))
    if not CONSTRAINTS.is_file():
        yield Finding("packages", "note", f"Python {python}; no constraints.txt stands here to compare with")
        return
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    pins = {found[1]: found[2] for line in lines if (found := PINNED.match(line))}
    installed = {name: version_of(name) for name in pins}
    missing = [name for name, version in installed.items() if version is None]
    other = {
        name: version for name, version in installed.items() if version is not None and not same(version, pins[name])
    }
    if missing:
        remedy = "run `make setup`, or `pip install -r constraints.txt`"
        yield Finding("packages", "fault", f"{', '.join(missing)} not installed: {remedy}")
    for name, version in other.items():
        yield Finding(
            "packages", "note", f"{name} {version} is here, {pins[name]} is what this checkout is tested with"
        )
    if not missing and not other:
        yield Finding("packages", "ok", f"Python {python}, {len(pins)} packages as pinned")


def version_of(package: str) -> str | None:
    """Version of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def same(version: str, pin: str) -> bool:
    """True if a version is the pinned one, for whichever device it was built."""
    return version.partition("+")[0] == pin.partition("+")[0]


def processor(config: RunConfig) -> Iterator[Finding]:
    """What this machine computes with."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    dtype = fast_dtype("cpu")
    told = f"{available_cores()} cores ({', '.join(instruction_sets())}), {memory_gib:.0f} GiB; auto is {dtype} on them"
    yield Finding("processor", "ok", told)
    asked = [name for name in config.stages() if config.stage(name).engine.precision.compute == "bfloat16"]
    if dtype == "float32" and asked and not config.cluster.train.gpus:
        told = f"{', '.join(asked)} compute in bfloat16, for which these cores have no instructions"
        yield Finding("processor", "note", f"{told}: engine.precision.compute = 'auto' is some 50 times as fast")


def devices(config: RunConfig) -> Iterator[Finding]:
    """GPUs of this machine, where no cluster is named that may have others."""
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    if names:
        yield Finding("devices", "ok", ", ".join(names))
    groups = {"cluster.train": config.cluster.train, "cluster.generate": config.cluster.generate}
    asking = [key for key, group in groups.items() if group.gpus]
    if asking and not names and "RAY_ADDRESS" not in os.environ:
        told = f"{', '.join(asking)} ask for GPUs and torch {torch.__version__} sees none here: set gpus = 0, name a"
        yield Finding("devices", "fault", f"{told} cluster with RAY_ADDRESS, or install torch for CUDA")


def disks(config: RunConfig) -> Iterator[Finding]:
    """Whether the run's folder and the one for temporary files can be written, and their room."""
    root = Path(config.root)
    for name, folder in (("root", root), ("TMPDIR", Path(tempfile.gettempdir()))):
        free_gb = shutil.disk_usage(existing(folder)).free / 1e9
        told = f"{folder} has {free_gb:.0f} GB free"
        yield Finding(name, "note" if free_gb < LOW_GB else "ok", told)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=root, prefix=".doctor-") as file:
            os.fsync(file.fileno())
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except PermissionError as error:
        yield Finding("root", "fault", f"{root} cannot be written by this user ({error.strerror}): set root=")
    except OSError as error:
        told = f"files of {root} cannot be locked ({error}): take care that no two processes train one stage"
        yield Finding("root", "note", told)


def existing(folder: Path) -> Path:
    """A folder, or the nearest one above it that is there."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def sources(config: RunConfig) -> Iterator[Finding]:
    """What curation would read, listed."""
    if config.shapes is not None:
        yield Finding("sources", "ok", f"drawn by `python pipelines/shapes.py`: {config.shapes.num_scenes} scenes")
        return
    curate = config.curate
    for source in curate.sources:
        units = list_units([source], CLONE, curate.files_per_unit)
        size = sum(unit.num_bytes for unit in units) / 1e9
        yield Finding(f"source {source.name}", "ok", f"{len(units)} units of {source.type}, {size:.2f} GB")


def weights(config: RunConfig) -> Iterator[Finding]:
    """Tower, codec and weights that stages start from: there, and of the shape that the model wants."""
    tower = describe_tower(config.encode.tower)
    yield Finding("tower", "ok", f"{tower.num_layers} layers of {tower.dim}; {tower.tower_id}")
    codec = describe_codec(config.encode.vae)
    yield Finding("codec", "ok", f"{codec.channels} channels, stride {codec.stride}; {codec.codec_id}")
    if codec.channels != config.model.latent_channels:
        told = f"the codec has {codec.channels} channels, model.latent_channels = {config.model.latent_channels}"
        yield Finding("model", "fault", f"{told}: make them one")
    if tower.dim != config.model.state_dim:
        told = f"the tower's states have {tower.dim} numbers, model.state_dim = {config.model.state_dim}"
        yield Finding("model", "fault", f"{told}: make them one")
    for name in config.stages():
        stage = config.stage(name)
        if isinstance(stage.start, GivenWeights):
            check_fit(stage.start, config.model, stage.optimizer)
            yield Finding(name, "ok", f"starts from {stage.start.path}")


def cluster(config: RunConfig) -> Iterator[Finding]:
    """Ray, room for the workers, and whether every node sees the run's folder."""
    address = os.environ.get("RAY_ADDRESS")
    if address is not None and os.environ.get("RAY_AUTH_MODE") != "token":
        told = f"{address} is used without a token (RAY_AUTH_MODE is not token)"
        yield Finding("cluster", "note", f"{told}: whoever reaches its ports runs code there")
    with ExitStack() as session:
        try:
            session.enter_context(ray_session(config.cluster))
        except UserError:
            raise
        except Exception as error:  # of whatever kind Ray raises where it does not come up
            yield Finding("cluster", "fault", f"Ray {ray.__version__} does not come up: {str(error).splitlines()[0]}")
            return
        nodes = [node for node in ray.nodes() if node["Alive"]]
        total = ray.cluster_resources()
        told = f"Ray {ray.__version__}, {len(nodes)} nodes, {total.get('CPU', 0):g} cores, {total.get('GPU', 0):g} GPUs"
        yield Finding("cluster", "ok", told)
        for key, group in (("cluster.train", config.cluster.train), ("cluster.generate", config.cluster.generate)):
            try:
                refuse_too_many(f"{key}.num", group.num, actor_options(group))
            except UserError as error:
                yield Finding(key, "fault", str(error))
            else:
                yield Finding(key, "ok", f"room for {group.num} workers of {group.cpus:g} cores, {group.gpus:g} GPUs")
        yield from shared_root(Path(config.root).absolute(), nodes)


def shared_root(root: Path, nodes: list[dict]) -> Iterator[Finding]:
    """Whether what each node writes into the run's folder is seen here."""
    looks = {}
    for node in nodes:
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        looks[node["NodeManagerHostname"]] = leave_file.options(scheduling_strategy=place, num_cpus=0).remote(str(root))
    for host, look in looks.items():
        try:
            path = Path(ray.get(look, timeout=60))
            seen = path.is_file()
            path.unlink(missing_ok=True)
        except (ray.exceptions.RayError, TimeoutError) as error:
            yield Finding(f"node {host}", "fault", f"cannot write {root}: {str(error).strip().splitlines()[-1]}")
            continue
        if seen:
            yield Finding(f"node {host}", "ok", f"writes {root}, and it is seen here")
        else:
            told = f"what it writes into {root} is not seen here: set root= to a folder that all nodes share"
            yield Finding(f"node {host}", "fault", told)


@ray.remote
def leave_file(root: str) -> str:
    """Path of a file that this node has written into a folder."""
    path = Path(root, f".doctor-{socket.gethostname()}-{uuid4().hex[:8]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(socket.gethostname(), encoding="utf-8")
    return str(path)


if __name__ == "__main__":
    COMMAND.run(main)

"""Names of a checkpoint's files, and the content its two JSON files must have to be believed."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, with_config

from mos.training.checksums import Checksum

MARKER, STATE, METADATA = "COMPLETE.json", "state.json", "shards/.metadata"
FORMAT = 3
"""Of the marker. The first one held sizes alone; before the third, states had no losses."""

Parsed = TypeVar("Parsed", bound=BaseModel)
Count = Annotated[int, Field(ge=0)]


@with_config(ConfigDict(extra="forbid", strict=True))
@dataclass(frozen=True)
class TrainState:
    """Counters of a stage; with the weights, all that a resumed run needs."""

    step: Count = 0
    """Batches consumed."""
    nonfinite_steps: Count = 0
    """Updates skipped for a non-finite gradient."""
    losses: tuple[float, ...] = ()
    """Of the latest updates, with which the next ones are compared (`mos.training.spikes`)."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Marker(_Strict):
    """COMPLETE.json."""

    format: int = Field(le=FORMAT)
    files: dict[str, Checksum]


class Saved(_Strict):
    """state.json."""

    state: TrainState
    ema_updates: int = Field(ge=0)
    provenance: dict[str, Any]


class UnusableCheckpointError(Exception):
    """A checkpoint that is complete, but not as it was written; the message says why."""


class NewerCheckpointError(UnusableCheckpointError):
    """A checkpoint of a newer version of this project."""


def step_folders(folder: Path) -> list[Path]:
    """Every folder of a checkpoint, complete or not, in order of steps."""
    found = [path for path in folder.glob("step-*") if re.fullmatch(r"step-\d+(\.before)?", path.name)]
    return sorted(found, key=lambda path: (step_of(path), path.suffix == ""))


def folder_name(step: int) -> str:
    """Of the checkpoint after so many steps."""
    return f"step-{step:09d}"


def step_of(folder: Path) -> int:
    """Steps of the checkpoint in a folder, by its name."""
    return int(folder.stem.removeprefix("step-"))


def set_aside(path: Path) -> Path:
    """Name of a checkpoint while its step is written again."""
    return path.with_name(f"{path.name}.before")


def is_complete(folder: Path) -> bool:
    """True if a folder counts as a checkpoint, good or damaged."""
    return (folder / MARKER).is_file()


def in_rank_order(name: str) -> tuple[int, str]:
    """Order of the shards in a marker: of which each rank checks every n-th, most of them those it will load."""
    match = re.match(r"__(\d+)_", name)
    return (int(match[1]) if match else -1), name


def read_marker(path: Path) -> dict[str, Checksum]:
    """Every file's checksum, from a marker of any format so far.

    Raises:
        UnusableCheckpointError: the marker is damaged or newer.
        OSError: it cannot be read.
    """
    text = path.read_bytes()
    try:
        sizes = TypeAdapter(dict[str, Count]).validate_json(text, strict=True)
        files = {name: Checksum(size=size, sha256=None) for name, size in sizes.items()}
    except ValidationError:
        files = parse(MARKER, Marker, text).files
    for name in (STATE, METADATA):
        refuse(MARKER, None if name in files else f"does not name {name}")
    return files


def parse(name: str, model: type[Parsed], text: bytes) -> Parsed:
    """A JSON file's content.

    Raises:
        UnusableCheckpointError: it is no JSON, or not of this model.
    """
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "json_invalid":
            raise UnusableCheckpointError(f"{name} is no JSON") from error
        if _is_newer(error):
            raise NewerCheckpointError(f"{name} was written by a newer version of this project ({where})") from error
        raise UnusableCheckpointError(f"{name} is not what it should be ({where}: {problem['msg']})") from error


def _is_newer(error: ValidationError) -> bool:
    """True if the format is beyond this version's, or all that this version knows is there, and more."""
    types = {problem["type"] for problem in error.errors()}
    return "less_than_equal" in types or types <= {"extra_forbidden", "unexpected_keyword_argument"}


def refuse(name: str, wrong: str | None) -> None:
    """Raise `UnusableCheckpointError` where something is wrong with a file."""
    if wrong is not None:
        raise UnusableCheckpointError(f"{name} {wrong}")


def write_durably(path: Path, data: bytes) -> None:
    """Write a file that a crash of the machine does not take back."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_names(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

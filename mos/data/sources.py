"""Where raw samples come from, and the units of work they are cut into: one tar, or one chunk of a folder's files."""

import glob
import heapq
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

import fsspec
from pydantic import Field, model_validator

from mos.config import StrictConfig
from mos.errors import UserError
from mos.fingerprint import fingerprint

IMAGE_SUFFIXES = frozenset({"jpg", "jpeg", "png", "webp"})
TEXT_SUFFIXES = frozenset({"txt", "json"})
"""The only extensions that are ever opened."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class FolderSource(StrictConfig):
    """Images in a folder, searched recursively, with captions in sidecar files or in one jsonl."""

    type: Literal["folder"] = "folder"
    name: Name
    """Written to the `source` column; stages mix sources by it."""
    path: str
    """Folder or object-store URI; a relative one stands in the checkout."""
    captions: str | None = None
    """A jsonl with one object a line; null: `<stem>.txt` or `<stem>.json` beside each image."""
    file_key: str = "file"
    """Key of the jsonl that holds the image's path relative to `path`."""
    caption_keys: tuple[str, ...] = ("caption",)
    """The first of these keys that an object has is the caption."""


class WebDatasetSource(StrictConfig):
    """Tar shards whose adjacent members `<key>.jpg|png|webp` and `<key>.txt|json` form a sample."""

    type: Literal["webdataset"] = "webdataset"
    name: Name
    paths: tuple[str, ...] = Field(min_length=1)
    """Tars, globs of tars, or object-store URIs of either; plain or compressed by gzip, bzip2 or xz."""
    caption_keys: tuple[str, ...] = ("caption",)
    """The first of these keys that a sample's JSON has is the caption; a `.txt` member comes before any JSON."""


class EditsSource(StrictConfig):
    """Edit triples: tars with `<key>.source.png`, `<key>.target.png`, `<key>.json`, or a folder with a jsonl."""

    type: Literal["edits"] = "edits"
    name: Name
    paths: tuple[str, ...] = ()
    """Tars, as for a webdataset source."""
    path: str | None = None
    """Folder of the images that `triples` names."""
    triples: str | None = None
    """A jsonl with one object a line."""
    source_key: str = "source"
    target_key: str = "target"
    """Keys of the jsonl, and components of the tar, that hold the image to edit and the result."""
    instruction_keys: tuple[str, ...] = ("instruction",)
    """The first of these keys that an object has is the instruction."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if bool(self.paths) == (self.path is not None) or (self.path is None) != (self.triples is None):
            raise ValueError("give either `paths` (tars) or both `path` and `triples` (a folder and its jsonl)")
        return self

    @property
    def caption_keys(self) -> tuple[str, ...]:
        """The instruction takes the caption's place."""
        return self.instruction_keys


SourceConfig = Annotated[FolderSource | WebDatasetSource | EditsSource, Field(discriminator="type")]


@dataclass(frozen=True)
class Unit:
    """What one reading task works on."""

    index: int
    """Place among all units; with the place inside the unit it orders samples."""
    source: str
    """Name of its source."""
    shard: str
    """Path or URI of the tar or of the folder."""
    id: str
    """Changes when the files do: 64 hex digits over names, sizes and modification stamps."""
    entries: tuple[str, ...] = ()
    """Folder only: one JSON object a sample, see `mos.data.folders`; undecodable bytes as surrogate escapes."""
    num_bytes: int = 0
    """Size of what is to be read; of a part of a folder its share of the folder's bytes."""

    def to_json(self) -> str:
        """The unit as a string that survives Arrow."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The unit `to_json` wrote."""
        fields = json.loads(text)
        return cls(**fields | {"entries": tuple(fields["entries"])})


@dataclass(frozen=True)
class _File:
    name: str
    """Relative to its folder, with forward slashes; or the whole path or URI of a tar."""
    size: int
    stamp: str
    """Modification time, or the object store's tag."""


def list_units(sources: Sequence[SourceConfig], base: Path, files_per_unit: int = 64) -> list[Unit]:
    """Every unit of every source, in the order of the config and of the files' names.

    Args:
        sources: what to list.
        base: folder in which relative paths stand.
        files_per_unit: samples of a folder that are read by one task.

    Raises:
        UserError: a path does not exist or a pattern matches nothing.
    """
    units: list[Unit] = []
    for source in sources:
        for shard, id, entries, num_bytes in _parts(source, base, files_per_unit):
            units.append(Unit(len(units), source.name, shard, id, entries, num_bytes))
    return units


def deal_units(units: Sequence[Unit], num_tasks: int) -> list[list[Unit]]:
    """At most `num_tasks` shares of about equal bytes, the largest units dealt first, each to the lightest share."""
    shares: list[list[Unit]] = [[] for _ in range(min(num_tasks, len(units)))]
    lightest = [(0, 0, place) for place in range(len(shares))]  # bytes, units, place: a heap
    for unit in sorted(units, key=lambda unit: unit.num_bytes, reverse=True):
        num_bytes, num_units, place = heapq.heappop(lightest)
        shares[place].append(unit)
        heapq.heappush(lightest, (num_bytes + unit.num_bytes, num_units + 1, place))
    return shares


def inventory_id(units: Iterable[Unit]) -> str:
    """64 hex digits that change when any file of any source is added, removed or changed."""
    return fingerprint(units=sorted(unit.id for unit in units))


def _parts(source: SourceConfig, base: Path, files_per_unit: int) -> Iterator[tuple[str, str, tuple[str, ...], int]]:
    """(shard, id, entries, bytes) of each unit of one source."""
    match source:
        case FolderSource(captions=None):
            folder = _absolute(source.path, base)
            files = _list_folder(folder, source.name)
            yield from _chunks(source, folder, files, _sidecar_entries(files), files_per_unit)
        case FolderSource(path=path, captions=str(captions)) | EditsSource(path=str(path), triples=str(captions)):
            folder = _absolute(path, base)
            files = _list_folder(folder, source.name)
            keys = (source.file_key,) if isinstance(source, FolderSource) else (source.source_key, source.target_key)
            entries = _jsonl_entries(_absolute(captions, base), files, keys, source.name)
            yield from _chunks(source, folder, files, entries, files_per_unit)
        case WebDatasetSource() | EditsSource():
            for file in _list_tars(source, base):
                yield file.name, fingerprint(source=source, file=[file.name, file.size, file.stamp]), (), file.size


def _chunks(
    source: FolderSource | EditsSource, folder: str, files: list[_File], entries: list[str], size: int
) -> Iterator[tuple[str, str, tuple[str, ...], int]]:
    """A folder's samples, `size` to a unit; any change of the folder changes all its units."""
    state = fingerprint(source=source, files=[[file.name, file.size, file.stamp] for file in files])
    total = sum(file.size for file in files)
    for start in range(0, len(entries), size):
        chunk = tuple(entries[start : start + size])
        yield folder, fingerprint(folder=state, entries=list(chunk)), chunk, total * len(chunk) // len(entries)


def _sidecar_entries(files: list[_File]) -> list[str]:
    """One entry for each stem that has an image, or a text without one."""
    groups: dict[str, list[str]] = {}
    for file in files:
        groups.setdefault(str(PurePosixPath(file.name).with_suffix("")), []).append(file.name)
    return [json.dumps({"key": key, "files": names}) for key, names in groups.items()]


def _jsonl_entries(path: str, files: list[_File], keys: tuple[str, ...], name: str) -> list[str]:
    """The jsonl's lines as they are, then one entry for each image that no line names."""
    try:
        with fsspec.open(path, "rb") as stream:
            lines = [line.decode("utf-8", "surrogateescape") for line in stream.read().splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise UserError(f"source {name!r}: {path} does not exist: name the jsonl that lists its images") from error
    named = {value for line in lines for value in _values(line, keys)}
    images = (file.name for file in files if suffix(file.name) in IMAGE_SUFFIXES)
    return lines + [json.dumps({keys[-1]: image}) for image in images if image not in named]


def _values(line: str, keys: tuple[str, ...]) -> list[str]:
    """The file names in a line; none where it is no JSON object, which its reader will report."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return []
    return [record[key] for key in keys if isinstance(record.get(key), str)] if isinstance(record, dict) else []


def suffix(name: str) -> str:
    """What follows the last dot of a file's name or of a component (`source.png`, `png`), in lower case."""
    return name.rpartition("/")[2].rpartition(".")[2].lower()


def _list_tars(source: WebDatasetSource | EditsSource, base: Path) -> list[_File]:
    """The tars behind paths, globs and URIs, each once, sorted within a pattern."""
    found: dict[str, _File] = {}
    for pattern in source.paths:
        path = _absolute(pattern, base)
        matches = _glob_uri(path) if "://" in path else [_local(Path(match)) for match in sorted(glob.glob(path))]
        if not matches:
            raise UserError(f"source {source.name!r}: no tar matches {path}: correct `paths`, or make the shards first")
        found |= {file.name: file for file in matches}
    return list(found.values())


def _list_folder(folder: str, name: str) -> list[_File]:
    """Every file below a folder, by name."""
    if "://" in folder:
        system, root = fsspec.core.url_to_fs(folder)
        details = system.find(root, detail=True)
        files = [_remote(path.removeprefix(root).lstrip("/"), info) for path, info in details.items()]
    else:
        root_path = Path(folder)
        if not root_path.is_dir():
            raise UserError(f"source {name!r}: folder {folder} does not exist: correct its `path`")
        files = [
            _local(path, path.relative_to(root_path).as_posix())
            for path in root_path.rglob("*")
            if path.is_symlink() or not path.is_dir()
        ]
    return sorted(files, key=lambda file: file.name)


def _glob_uri(uri: str) -> list[_File]:
    system, pattern = fsspec.core.url_to_fs(uri)
    details = system.glob(pattern, detail=True)
    return [_remote(system.unstrip_protocol(path), info) for path, info in sorted(details.items())]


def _local(path: Path, name: str | None = None) -> _File:
    status = path.lstat()
    return _File(name or str(path), status.st_size, str(status.st_mtime_ns))


def _remote(name: str, info: dict) -> _File:
    stamp = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("LastModified") or ""
    return _File(name, int(info.get("size") or 0), str(stamp))


def _absolute(path: str, base: Path) -> str:
    return path if "://" in path else str(base / Path(path).expanduser())

"""Where raw samples come from, and the units of work they are cut into: one tar, or one chunk of a folder's files."""

import glob
import heapq
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mos.config import StrictConfig
from mos.curation import shard_index
from mos.curation.entries import jsonl_entries, sidecar_entries
from mos.curation.listing import (
    ListedFile,
    Refused,
    file_system,
    hub_blobs,
    list_folder,
    local_file,
    may_enter,
    remote_file,
)
from mos.curation.shard_index import IndexedShard
from mos.curation.system_files import is_system_file
from mos.errors import UserError
from mos.fingerprint import fingerprint

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class FolderSource(StrictConfig):
    """Images in a folder, searched recursively, with captions in sidecar files or in one jsonl."""

    type: Literal["folder"] = "folder"
    name: Name
    """Written to the `source` column; stages mix sources by it."""
    path: str
    """Folder or object-store URI; a relative one stands in the checkout."""
    captions: str | None = None
    """A jsonl with one object a line; null: `<stem>.txt`, `<stem>.json`, `<image>.txt` or `<image>.json` beside each
    image."""
    file_key: str = "file"
    """Key of the jsonl that holds the image's path relative to `path`."""
    caption_keys: tuple[str, ...] = ("caption",)
    """The first of these keys under which an object has text is the caption."""
    follow_links: tuple[str, ...] = ()
    """Folders outside `path` that links in it may lead to. A snapshot in the Hugging Face hub's cache needs none."""


class WebDatasetSource(StrictConfig):
    """Tar shards whose adjacent members `<key>.jpg|png|webp` and `<key>.txt|json` form a sample."""

    type: Literal["webdataset"] = "webdataset"
    name: Name
    paths: tuple[str, ...] = Field(min_length=1)
    """Tars, globs of tars, or object-store URIs of either; plain or compressed by zstd, gzip, bzip2, xz or lz4. A
    `.json` is an index in wids' format, which stands for the shards that it lists in its folder."""
    caption_keys: tuple[str, ...] = ("caption",)
    """The first of these keys under which a sample's JSON has text is the caption; a `.txt` member with anything in it
    comes before any JSON."""


class EditsSource(StrictConfig):
    """Edit triples: tars with `<key>.source.png`, `<key>.target.png`, `<key>.json`, or a folder with a jsonl."""

    type: Literal["edits"] = "edits"
    name: Name
    paths: tuple[str, ...] = ()
    """Tars or indexes of tars, as for a webdataset source."""
    path: str | None = None
    """Folder of the images that `triples` names."""
    triples: str | None = None
    """A jsonl with one object a line."""
    source_key: str = "source"
    target_key: str = "target"
    """Keys of the jsonl, and components of the tar, that hold the image to edit and the result."""
    instruction_keys: tuple[str, ...] = ("instruction",)
    """The first of these keys under which an object has text is the instruction."""
    follow_links: tuple[str, ...] = ()
    """Folders outside `path` that links in it may lead to. A snapshot in the Hugging Face hub's cache needs none."""

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
    """Unit of work of one reading task."""

    index: int
    """Place among all units; with the place inside the unit it orders samples."""
    source: str
    """Name of its source."""
    shard: str
    """Path or URI of the tar or of the folder."""
    id: str
    """Changes when the files do: 64 hex digits over names, sizes and modification stamps."""
    entries: tuple[str, ...] = ()
    """Folder only: one JSON object a sample, see `mos.curation.folders`; undecodable bytes as surrogate escapes."""
    num_bytes: int = 0
    """Size of what is to be read; of a part of a folder its share of the folder's bytes."""
    follow: tuple[str, ...] = ()
    """Folder only: real paths of the folders outside that links may lead to."""
    refused: tuple[Refused, ...] = ()
    """What was refused when the folder was listed: one reject each."""
    num_skipped: int = 0
    """Files of operating systems and tools that were passed over when the folder was listed."""

    def to_json(self) -> str:
        """The unit as a string that survives Arrow."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The unit `to_json` wrote."""
        fields = json.loads(text)
        lists = {name: tuple(fields[name]) for name in ("entries", "follow")}
        return cls(**fields | lists | {"refused": tuple(map(tuple, fields["refused"]))})


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
        for unit in _parts(source, base, files_per_unit):
            units.append(replace(unit, index=len(units)))
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


def _parts(source: SourceConfig, base: Path, files_per_unit: int) -> Iterator[Unit]:
    """The units of one source, without their place."""
    match source:
        case FolderSource() | EditsSource(path=str()):
            yield from _folder_units(source, base, files_per_unit)
        case WebDatasetSource() | EditsSource():
            for file in _list_tars(source, base):
                id = fingerprint(source=source, file=[file.name, file.size, file.stamp])
                yield Unit(0, source.name, file.name, id, num_bytes=file.size)


def _folder_units(source: FolderSource | EditsSource, base: Path, size: int) -> Iterator[Unit]:
    """A folder's samples, `size` to a unit; any change of the folder changes all its units."""
    folder = _absolute(str(source.path), base)
    follow = tuple(os.path.realpath(_absolute(path, base)) for path in source.follow_links) + hub_blobs(folder)
    listing = list_folder(folder, source.name, follow)
    jsonl = source.captions if isinstance(source, FolderSource) else source.triples
    keys = (source.file_key,) if isinstance(source, FolderSource) else (source.source_key, source.target_key)
    if jsonl is None:
        entries = sidecar_entries(listing.files)
    else:
        entries = jsonl_entries(_absolute(jsonl, base), folder, listing, keys, source.name)
    files = [[file.name, file.size, file.stamp] for file in listing.files]
    state = fingerprint(source=source, files=files, refused=listing.refused)
    total = sum(file.size for file in listing.files)
    blank = Unit(0, source.name, folder, "", follow=follow)
    if listing.refused or listing.num_skipped:
        id = fingerprint(folder=state, skipped=listing.num_skipped)
        yield replace(blank, id=id, refused=tuple(listing.refused), num_skipped=listing.num_skipped)
    for start in range(0, len(entries), size):
        chunk = tuple(entries[start : start + size])
        id = fingerprint(folder=state, entries=list(chunk))
        yield replace(blank, id=id, entries=chunk, num_bytes=total * len(chunk) // len(entries))


def _list_tars(source: WebDatasetSource | EditsSource, base: Path) -> list[ListedFile]:
    """The tars behind paths, globs and URIs, each once, sorted within a pattern."""
    found: dict[str, ListedFile] = {}
    for pattern in source.paths:
        path = _absolute(pattern, base)
        try:
            matches = _glob_uri(path) if "://" in path else _glob(path)
        except PermissionError as error:
            raise UserError(f"source {source.name!r}: {path} may not be listed with these credentials") from error
        if not matches:
            raise UserError(f"source {source.name!r}: no tar matches {path}: correct `paths`, or make the shards first")
        found |= {file.name: file for match in matches for file in _tars_of(match, source.name)}
    return list(found.values())


def _tars_of(match: ListedFile, source: str) -> list[ListedFile]:
    """A tar itself, or those that an index lists.

    Raises:
        UserError: the index cannot be read, or its shards are not as it says.
    """
    if not match.name.lower().endswith(shard_index.SUFFIX):
        return [match]
    return [_indexed(shard, match.name, source) for shard in shard_index.read_index(match.name, source)]


def _indexed(shard: IndexedShard, index: str, source: str) -> ListedFile:
    try:
        file = _remote(shard.name) if "://" in shard.name else _local(shard.name)
    except FileNotFoundError as error:
        raise UserError(
            f"source {source!r}: {shard.name} is not there, which index {index} lists: fetch it, or list what is there "
            "in `paths`"
        ) from error
    if shard.size not in (None, file.size) and file.stamp != "permission":
        raise UserError(
            f"source {source!r}: {shard.name} has {file.size} bytes, not the {shard.size} that index {index} says: "
            "fetch it again, or name the tars themselves in `paths`"
        )
    return file


def _local(path: str) -> ListedFile:
    if not os.path.lexists(path):
        raise FileNotFoundError(path)
    return local_file(path, path)


def _remote(uri: str) -> ListedFile:
    system, path = file_system(uri)
    return remote_file(system.unstrip_protocol(path), system.info(path))


def _glob(pattern: str) -> list[ListedFile]:
    """The files that match, and what the user may not look into on the way to them: reading that ends in a reject."""
    paths = [pattern] if os.path.lexists(pattern) else [*glob.glob(pattern), *_unseen(pattern)]
    return [local_file(path, path) for path in sorted(set(paths))]


def _unseen(pattern: str) -> Iterator[str]:
    """Folders that a pattern passes through and that may not be listed, which `glob` passes over without a word."""
    parent = os.path.dirname(pattern)
    if not glob.has_magic(pattern):
        if not may_enter(parent, os.X_OK):
            yield pattern
        return
    needed = os.R_OK
    while glob.has_magic(parent):
        yield from (path for path in glob.glob(parent) if not may_enter(path, needed))
        parent, needed = os.path.dirname(parent), os.R_OK | os.X_OK
    if not may_enter(parent, needed):
        yield parent


def _glob_uri(uri: str) -> list[ListedFile]:
    system, pattern = file_system(uri)
    details = system.glob(pattern, detail=True)
    files = [remote_file(system.unstrip_protocol(path), info) for path, info in sorted(details.items())]
    return [file for file in files if not is_system_file(file.name.rpartition("/")[2])]


def _absolute(path: str, base: Path) -> str:
    return path if "://" in path else str(base / Path(path).expanduser())

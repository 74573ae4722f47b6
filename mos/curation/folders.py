"""One entry of a folder source -> a candidate: an image with its sidecars, or a line of a jsonl with its images."""

import errno
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec

from mos.curation.captions import clean_caption, parse_object, take_caption
from mos.curation.config import CurateConfig
from mos.curation.file_names import spellings, suffix
from mos.curation.items import Item, assemble, to_meta
from mos.curation.limits import is_opened, max_bytes
from mos.curation.listing import is_inside, leads_out
from mos.curation.sources import EditsSource, FolderSource
from mos.images.formats import how_to_read
from mos.images.reasons import Reason, Rejected


def read_entry(
    folder: str, entry: str, source: FolderSource | EditsSource, config: CurateConfig, follow: Sequence[str] = ()
) -> Item:
    """The candidate behind `Unit.entries[i]`.

    Args:
        folder: path or URI the entry's file names are relative to.
        entry: `{"key": ..., "files": [...]}` where captions are sidecars, else a line of the jsonl as it stands.
        source: what the entry means.
        config: limits.
        follow: real paths of the folders outside that links may lead to.
    """
    reader = _Reader(folder, config, tuple(follow))
    if isinstance(source, FolderSource) and source.captions is None:
        return _read_sidecars(reader, json.loads(entry), source)
    key = f"line {entry[:40]!r}"
    try:
        record = parse_object(entry.encode("utf-8", "surrogateescape"), config.caption)
        key = _key(record, source, folder)
        return _read_line(reader, key, record, source)
    except Rejected as refusal:
        return Item(key.encode("utf-8", "replace").decode(), refusal=refusal)


def _read_sidecars(reader: "_Reader", entry: dict[str, Any], source: FolderSource) -> Item:
    key = entry["key"].encode("utf-8", "replace").decode()
    parts: dict[str, bytes] = {}
    refused: list[str] = []
    try:
        if key != entry["key"]:
            raise Rejected(Reason.MEMBER_UNSAFE_NAME, f"{key!r} is not UTF-8")
        for name in entry["files"]:
            if is_opened(name, reader.config):
                parts[name] = reader.read(name)
            else:
                refused.append(name)
        return assemble(key, parts, refused, source, reader.config.caption)
    except FileNotFoundError as error:
        return Item(key, refusal=Rejected(Reason.FILE_UNREADABLE, f"{error.filename} is a dead link or was removed"))
    except Rejected as refusal:
        return Item(key, refusal=refusal)


def _read_line(reader: "_Reader", key: str, record: dict[str, Any], source: FolderSource | EditsSource) -> Item:
    caption, rest = take_caption(record, source.caption_keys)
    caption = clean_caption(caption, reader.config.caption)
    if isinstance(source, EditsSource):
        image = _read_image(reader, record, source.target_key, Reason.IMAGE_MISSING)
        reference = _read_image(reader, record, source.source_key, Reason.REFERENCE_MISSING)
        return Item(key, image, reference, caption, to_meta(rest))
    image = _read_image(reader, record, source.file_key, Reason.IMAGE_MISSING)
    return Item(key, image, None, caption, to_meta(rest))


def _key(record: dict[str, Any], source: FolderSource | EditsSource, folder: str) -> str:
    """The record's own key, or the name of its image inside the folder without the extension."""
    key = record.get("key")
    name = record.get(source.file_key if isinstance(source, FolderSource) else source.target_key)
    if isinstance(key, str) and key:
        return os.path.splitext(key)[0]
    if isinstance(name, str) and name:
        return os.path.splitext(next(iter(spellings(name, folder)), name))[0]
    return "(no key)"


def _read_image(reader: "_Reader", record: dict[str, Any], field: str, missing: Reason) -> bytes:
    name = record.get(field)
    if not isinstance(name, str) or not name:
        raise Rejected(missing, f"no file name under {field!r}")
    names = spellings(name, reader.folder)
    if not names:
        raise Rejected(Reason.MEMBER_UNSAFE_NAME, repr(name))
    if (kind := suffix(names[0])) not in reader.config.image.suffixes():
        raise Rejected(Reason.MEMBER_TYPE_REFUSED, f"{name}: {how_to_read(kind)}")
    for spelling in names:
        try:
            return reader.read(spelling)
        except FileNotFoundError:
            continue
    raise Rejected(missing, f"{name} does not exist")


class _Reader:
    """Reads regular files of bounded size that lie inside a folder, or where links in it may lead."""

    def __init__(self, folder: str, config: CurateConfig, follow: tuple[str, ...]) -> None:
        self.folder = folder
        self.config = config
        self._follow = follow

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            FileNotFoundError: there is none.
            Rejected: it may not be read.
        """
        if len(name.encode("utf-8", "surrogateescape")) > self.config.shard.max_name_bytes:
            raise Rejected(Reason.MEMBER_NAME_TOO_LONG, f"{len(name)} characters")
        try:
            return self._read_remote(name) if "://" in self.folder else self._read_local(name)
        except PermissionError as error:
            raise Rejected(Reason.PERMISSION, f"{name} may not be read by this user") from error
        except NotADirectoryError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name) from error
        except (OSError, RuntimeError) as error:
            if isinstance(error, FileNotFoundError) or getattr(error, "errno", None) not in _REASONS:
                raise
            raise Rejected(_REASONS[getattr(error, "errno", None)], f"{name[:200]}: {error}") from error

    def _read_remote(self, name: str) -> bytes:
        with fsspec.open(f"{self.folder.rstrip('/')}/{name}", "rb") as stream:
            return self._bounded(stream.read(max_bytes(name, self.config) + 1), name)

    def _read_local(self, name: str) -> bytes:
        root = os.path.realpath(self.folder)
        path = (Path(root) / name).resolve()
        if not is_inside(str(path), (root, *self._follow)):
            raise Rejected(Reason.MEMBER_NOT_REGULAR, leads_out(name, str(path)))
        if not stat.S_ISREG(path.stat().st_mode):
            raise Rejected(Reason.MEMBER_NOT_REGULAR, f"{name} is no regular file")
        with path.open("rb") as stream:
            return self._bounded(stream.read(max_bytes(name, self.config) + 1), name)

    def _bounded(self, data: bytes, name: str) -> bytes:
        limit = max_bytes(name, self.config)
        if len(data) > limit:
            reason = {"json": Reason.JSON_TOO_LARGE, "txt": Reason.CAPTION_TOO_LONG}.get(suffix(name))
            raise Rejected(reason or Reason.MEMBER_TOO_LARGE, f"{name}: more than {limit} bytes")
        return data


_REASONS = {
    None: Reason.FILE_UNREADABLE,  # a loop of links, as `Path.resolve` reports it
    errno.ELOOP: Reason.FILE_UNREADABLE,
    errno.ENAMETOOLONG: Reason.MEMBER_NAME_TOO_LONG,
}
"""Verdicts by what the operating system says of a path; any other error is one of the disk or the store."""

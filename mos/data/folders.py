"""One entry of a folder source -> a candidate: an image with its sidecars, or a line of a jsonl with its images."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import fsspec

from mos.data.captions import clean_caption, parse_object, take_caption
from mos.data.curation import CurateConfig
from mos.data.items import Item, assemble, to_meta
from mos.data.reasons import Reason, Rejected
from mos.data.sources import IMAGE_SUFFIXES, TEXT_SUFFIXES, EditsSource, FolderSource, suffix
from mos.data.tar import is_safe_name


def read_entry(folder: str, entry: str, source: FolderSource | EditsSource, config: CurateConfig) -> Item:
    """The candidate behind `Unit.entries[i]`.

    Args:
        folder: path or URI the entry's file names are relative to.
        entry: `{"key": ..., "files": [...]}` where captions are sidecars, else a line of the jsonl as it stands.
        source: what the entry means.
        config: limits.
    """
    if isinstance(source, FolderSource) and source.captions is None:
        return _read_sidecars(folder, json.loads(entry), source, config)
    key = f"line {entry[:40]!r}"
    try:
        record = parse_object(entry.encode("utf-8", "surrogateescape"), config.caption)
        key = _key(record, source)
        return _read_line(folder, key, record, source, config)
    except Rejected as refusal:
        return Item(key.encode("utf-8", "replace").decode(), refusal=refusal)


def _read_sidecars(folder: str, entry: dict[str, Any], source: FolderSource, config: CurateConfig) -> Item:
    key = entry["key"].encode("utf-8", "replace").decode()
    parts: dict[str, bytes] = {}
    refused: list[str] = []
    try:
        if key != entry["key"]:
            raise Rejected(Reason.MEMBER_UNSAFE_NAME, f"{key!r} is not UTF-8")
        for name in entry["files"]:
            if suffix(name) in IMAGE_SUFFIXES | TEXT_SUFFIXES:
                parts[name] = _read_file(folder, name, _cap(suffix(name), config), config)
            else:
                refused.append(name)
        return assemble(key, parts, refused, source, config.caption)
    except FileNotFoundError as error:
        return Item(key, refusal=Rejected(Reason.FILE_UNREADABLE, f"{error.filename} is a dead link or was removed"))
    except Rejected as refusal:
        return Item(key, refusal=refusal)


def _read_line(
    folder: str, key: str, record: dict[str, Any], source: FolderSource | EditsSource, config: CurateConfig
) -> Item:
    caption, rest = take_caption(record, source.caption_keys)
    caption = clean_caption(caption, config.caption)
    if isinstance(source, EditsSource):
        image = _read_image(folder, record, source.target_key, Reason.IMAGE_MISSING, config)
        reference = _read_image(folder, record, source.source_key, Reason.REFERENCE_MISSING, config)
        return Item(key, image, reference, caption, to_meta(rest))
    image = _read_image(folder, record, source.file_key, Reason.IMAGE_MISSING, config)
    return Item(key, image, None, caption, to_meta(rest))


def _key(record: dict[str, Any], source: FolderSource | EditsSource) -> str:
    """The record's own key, or the name of its image without the extension."""
    name = record.get(source.file_key if isinstance(source, FolderSource) else source.target_key)
    for value in (record.get("key"), name):
        if isinstance(value, str) and value:
            return os.path.splitext(value)[0]
    return "(no key)"


def _read_image(folder: str, record: dict[str, Any], field: str, missing: Reason, config: CurateConfig) -> bytes:
    name = record.get(field)
    if not isinstance(name, str) or not name:
        raise Rejected(missing, f"no file name under {field!r}")
    if not is_safe_name(name):
        raise Rejected(Reason.MEMBER_UNSAFE_NAME, repr(name))
    if suffix(name) not in IMAGE_SUFFIXES:
        raise Rejected(Reason.MEMBER_TYPE_REFUSED, name)
    try:
        return _read_file(folder, name, config.image.max_bytes, config)
    except FileNotFoundError as error:
        raise Rejected(missing, f"{name} does not exist") from error


def _read_file(folder: str, name: str, max_bytes: int, config: CurateConfig) -> bytes:
    """The bytes of a regular file of bounded size that lies inside the folder."""
    if len(name.encode("utf-8", "surrogateescape")) > config.shard.max_name_bytes:
        raise Rejected(Reason.MEMBER_NAME_TOO_LONG, f"{len(name)} characters")
    if "://" in folder:
        with fsspec.open(f"{folder.rstrip('/')}/{name}", "rb") as stream:
            return _bounded(stream.read(max_bytes + 1), name, max_bytes)
    root = Path(folder).resolve()
    try:
        path = (root / name).resolve()
    except (OSError, RuntimeError) as error:
        raise Rejected(Reason.FILE_UNREADABLE, f"{name}: {error}") from error
    if not path.is_relative_to(root):
        raise Rejected(Reason.MEMBER_NOT_REGULAR, f"{name} is a link out of its folder")
    if not stat.S_ISREG(path.stat().st_mode):
        raise Rejected(Reason.MEMBER_NOT_REGULAR, f"{name} is no regular file")
    try:
        with path.open("rb") as stream:
            return _bounded(stream.read(max_bytes + 1), name, max_bytes)
    except PermissionError as error:
        raise Rejected(Reason.FILE_UNREADABLE, f"{name}: {error.strerror}") from error


def _bounded(data: bytes, name: str, max_bytes: int) -> bytes:
    if len(data) > max_bytes:
        reason = {"json": Reason.JSON_TOO_LARGE, "txt": Reason.CAPTION_TOO_LONG}.get(suffix(name))
        raise Rejected(reason or Reason.MEMBER_TOO_LARGE, f"{name}: more than {max_bytes} bytes")
    return data


def _cap(component: str, config: CurateConfig) -> int:
    match component:
        case "txt":
            return 4 * config.caption.max_chars
        case "json":
            return config.caption.max_json_bytes
        case _:
            return config.image.max_bytes

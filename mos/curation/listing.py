"""Listing of a folder: its files, the folders and links in it that cannot be followed, and what is no sample."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
from fsspec import AbstractFileSystem

from mos.curation.system_files import is_system_file, is_system_folder
from mos.errors import UserError
from mos.images.reasons import Reason

Refused = tuple[str, str, str]
"""Name, reason and detail."""


@dataclass(frozen=True)
class ListedFile:
    """One file."""

    name: str
    """Relative to its folder, with forward slashes; or the whole path or URI of a tar."""
    size: int
    stamp: str
    """Modification time, or the object store's tag."""


@dataclass
class Listing:
    """One folder, searched recursively."""

    files: list[ListedFile] = field(default_factory=list)
    """By name."""
    refused: list[Refused] = field(default_factory=list)
    """Folders that may not be listed, and links to folders that may not be followed."""
    num_skipped: int = 0
    """Files of operating systems and tools, see `mos.curation.system_files`."""


def file_system(uri: str) -> tuple[AbstractFileSystem, str]:
    """What reads a URI, and the path that it has there.

    Raises:
        UserError: nothing here reads such addresses.
    """
    try:
        return fsspec.core.url_to_fs(uri)
    except (ImportError, ValueError) as error:
        raise UserError(
            f"{uri} cannot be read ({error}): install the package that reads {uri.partition('://')[0]}:// here and on "
            "every node, or correct the address"
        ) from error


def list_folder(folder: str, name: str, follow: Sequence[str]) -> Listing:
    """Everything below a folder.

    A link to a folder that lies inside is not followed: its files are listed under their own names.

    Args:
        folder: path or URI.
        name: of the source, for messages.
        follow: real paths of the folders outside that links may lead to.

    Raises:
        UserError: the folder does not exist or may not be read.
    """
    listing = Listing()
    if "://" in folder:
        system, root = file_system(folder)
        try:
            details = system.find(root, detail=True)
        except PermissionError as error:
            raise UserError(f"source {name!r}: {folder} may not be listed with these credentials") from error
        found = [remote_file(path.removeprefix(root).lstrip("/"), info) for path, info in details.items()]
        listing.files = [file for file in found if not is_system_file(file.name)]
        listing.num_skipped = len(found) - len(listing.files)
    else:
        if not os.path.isdir(folder):
            raise UserError(f"source {name!r}: folder {folder} does not exist or is not seen: correct its `path`")
        if not may_enter(folder):
            raise UserError(f"source {name!r}: folder {folder} may not be read by this user: change its permissions")
        real = os.path.realpath(folder)
        _walk(folder, "", (real, *follow), {real}, listing)
    listing.files.sort(key=lambda file: file.name)
    listing.refused.sort()
    return listing


def may_enter(path: str, mode: int = os.R_OK | os.X_OK) -> bool:
    """True if a path is no folder, or one that this user may list and look into."""
    return not os.path.isdir(path) or os.access(path, mode, effective_ids=True)


def local_file(path: str, name: str) -> ListedFile:
    """A file as it is now; of a link what it leads to, if anything."""
    try:
        status = os.stat(path) if os.path.exists(path) else os.lstat(path)
    except PermissionError:
        return ListedFile(name, 0, "permission")
    return ListedFile(name, status.st_size, str(status.st_mtime_ns))


def remote_file(name: str, info: dict) -> ListedFile:
    """An object as its store describes it."""
    stamp = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("LastModified") or ""
    return ListedFile(name, int(info.get("size") or 0), str(stamp))


def hub_blobs(folder: str) -> tuple[str, ...]:
    """The real folder that links in a snapshot of the Hugging Face hub's cache lead to; nothing for other folders."""
    real = Path(os.path.realpath(folder))
    for snapshot in (real, *real.parents):
        repository = snapshot.parent.parent
        is_cached = repository.name.startswith(("datasets--", "models--", "spaces--"))
        if snapshot.parent.name == "snapshots" and is_cached and (repository / "blobs").is_dir():
            return (str(repository / "blobs"),)
    return ()


def is_inside(path: str, roots: Sequence[str]) -> bool:
    """True if a real path is one of some real folders or lies in one."""
    return any(path == root or path.startswith(f"{root.rstrip('/')}/") for root in roots)


def _walk(folder: str, prefix: str, roots: tuple[str, ...], visited: set[str], listing: Listing) -> None:
    """List one folder and those below it; `roots[0]` is the whole folder's real path."""
    for entry in _entries(folder, prefix, listing):
        name = prefix + entry.name
        if not os.path.isdir(entry.path) and not entry.is_dir(follow_symlinks=False):
            if is_system_file(entry.name):
                listing.num_skipped += 1
            else:
                listing.files.append(local_file(entry.path, name))
        elif is_system_folder(entry.name):
            listing.num_skipped += sum(len(files) for _, _, files in os.walk(entry.path))
        elif not entry.is_symlink():
            _walk(entry.path, f"{name}/", roots, visited, listing)
        else:
            _follow(entry.path, name, roots, visited, listing)


def _entries(folder: str, prefix: str, listing: Listing) -> Iterator[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            yield from list(entries)
    except PermissionError:
        detail = f"folder {folder} may not be listed by this user"
        listing.refused.append((prefix, str(Reason.PERMISSION), detail))


def _follow(path: str, name: str, roots: tuple[str, ...], visited: set[str], listing: Listing) -> None:
    """List the folder behind a link, once, where the config allows it."""
    target = os.path.realpath(path)
    if is_inside(target, roots[:1]) or target in visited:
        return
    if not is_inside(target, roots):
        listing.refused.append((f"{name}/", str(Reason.MEMBER_NOT_REGULAR), leads_out(name, target)))
        return
    visited.add(target)
    _walk(path, f"{name}/", roots, visited, listing)


def leads_out(name: str, target: str) -> str:
    """Message for a link that may not be followed."""
    return f"{name} is a link to {target}, out of its folder: name a folder above that in the source's `follow_links`"

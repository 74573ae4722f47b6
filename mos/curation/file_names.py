"""Names of files as people and tools write them -> the files they mean, and which names stay inside a folder."""

import os
import posixpath
import unicodedata
from functools import lru_cache

TEXT_SUFFIXES = frozenset({"txt", "json"})
"""Extensions of the texts that are opened; those of pictures are `mos.images.decode.ImageLimits.suffixes`."""


@lru_cache(maxsize=1024)
def suffix(name: str) -> str:
    """Extension of a file's name or of a component (`source.png`, `png`), in lower case."""
    return name.rpartition("/")[2].rpartition(".")[2].lower()


def is_safe_name(name: str) -> bool:
    """True if a name stays inside the folder it is relative to, on any system, and is no chain of URIs."""
    parts = name.replace("\\", "/").split("/")
    has_drive = len(parts[0]) == 2 and parts[0].endswith(":")
    is_relative = parts[0] != "" and ".." not in parts and not has_drive
    return is_relative and "\0" not in name and "::" not in name


def spellings(name: str, folder: str) -> list[str]:
    """The files below a folder that a name may mean, as names relative to it, the likeliest first.

    `./a.jpg`, `b/../a.jpg`, `b//a.jpg`, a path or URI that begins with the folder's own, backslashes for slashes and
    the other Unicode form of an accent all name one file. Empty where every reading leaves the folder.

    Args:
        name: what a line of a jsonl says.
        folder: path or URI.
    """
    inside = [_inside(text, folder) for text in dict.fromkeys((name, name.replace("\\", "/")))]
    forms = [(text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFD"))) for text in inside if text]
    return list(dict.fromkeys(form for group in forms for form in group))


def _inside(name: str, folder: str) -> str | None:
    """The name relative to the folder, without detours; None where it leads out of it."""
    if name.startswith("/") or "://" in name:
        name = _relative(name.removeprefix("file://"), folder) or ""
    path = posixpath.normpath(name) if name else ""
    return path if path != "." and is_safe_name(path) else None


def _relative(name: str, folder: str) -> str | None:
    """An absolute name relative to the folder, whatever links lead to either."""
    candidates = [(name, folder)]
    if "://" not in folder:
        candidates = [(posixpath.normpath(name), posixpath.normpath(folder))]
        candidates.append((f"{_real(posixpath.dirname(name))}/{posixpath.basename(name)}", _real(folder)))
    for path, root in candidates:
        if path.startswith(f"{root.rstrip('/')}/"):
            return path[len(root.rstrip("/")) + 1 :]
    return None


@lru_cache(maxsize=4096)
def _real(path: str) -> str:
    return os.path.realpath(path)

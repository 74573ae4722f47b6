"""The files of a folder -> its entries, one a sample: an image with its sidecars, or a line of a jsonl."""

import json
import os
import unicodedata
from collections import Counter
from pathlib import PurePosixPath

import fsspec

from mos.curation.captions import decode_marked
from mos.curation.file_names import TEXT_SUFFIXES, spellings, suffix
from mos.curation.listing import ListedFile, Listing
from mos.errors import UserError
from mos.images.formats import PICTURE_SUFFIXES
from mos.images.reasons import Rejected


def sidecar_entries(files: list[ListedFile]) -> list[str]:
    """One entry for each image with its texts, or a text without an image.

    A text belongs to the image of its own stem (`a.txt`) or to the image that it names whole (`a.jpg.txt`). Images
    that share a stem are one sample, hence refused, unless they have texts of the second kind.
    """
    images = {file.name for file in files if suffix(file.name) in PICTURE_SUFFIXES}
    owners = {file.name: _stem(file.name) for file in files if suffix(file.name) in TEXT_SUFFIXES}
    owners = {text: image for text, image in owners.items() if image in images}
    shared = Counter(_stem(image) for image in images)
    own_keys = {image for image in owners.values() if shared[_stem(image)] > 1}
    groups: dict[str, list[str]] = {}
    for file in files:
        image = owners.get(file.name, file.name)
        key = image if image in own_keys else _stem(image)
        groups.setdefault(unicodedata.normalize("NFC", key), []).append(file.name)
    return [json.dumps({"key": key, "files": names}) for key, names in groups.items()]


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return str(path).removesuffix(path.suffix)


def jsonl_entries(path: str, folder: str, listing: Listing, keys: tuple[str, ...], name: str) -> list[str]:
    """The jsonl's lines as they are, then one entry for each image that no line names.

    A folder that was refused is left out of the listing's refusals where lines name images in it: each of these is a
    sample, and will be refused by itself.
    """
    lines = _lines(path, name)
    listed = {file.name for file in listing.files}
    told = [spellings(value, folder) for line in lines for value in _values(line, keys)]
    named = {_listed_name(names, folder, listed) for names in told}
    first = [names[0] for names in told if names]
    listing.refused = [part for part in listing.refused if not any(item.startswith(part[0]) for item in first)]
    images = (file.name for file in listing.files if suffix(file.name) in PICTURE_SUFFIXES)
    return lines + [json.dumps({keys[-1]: image}) for image in images if image not in named]


def _listed_name(names: list[str], folder: str, listed: set[str]) -> str | None:
    """The file of a listing that some spellings mean, also through links to folders; None where it has none."""
    for name in names:
        if name in listed:
            return name
    if "://" in folder:
        return None
    possible = (name for name in names if _may_be_a_file(name))
    real = (os.path.relpath(os.path.realpath(f"{folder}/{name}"), os.path.realpath(folder)) for name in possible)
    return next((name for name in real if name in listed), None)


def _may_be_a_file(name: str) -> bool:
    """True if a file of this system can have the name: one with half a character, or a zero byte, cannot."""
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def _lines(path: str, name: str) -> list[str]:
    """The lines of a jsonl that are not blank; undecodable bytes of UTF-8 as surrogate escapes."""
    try:
        with fsspec.open(path, "rb") as stream:
            text = decode_marked(stream.read(), "surrogateescape")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise UserError(f"source {name!r}: {path} does not exist: name the jsonl that lists its images") from error
    except PermissionError as error:
        raise UserError(f"source {name!r}: {path} may not be read by this user: change its permissions") from error
    except (Rejected, UnicodeError) as error:
        raise UserError(f"source {name!r}: {path} is damaged: {error}") from error
    if _is_array(text):
        raise UserError(f"source {name!r}: {path} is one JSON array: write one object a line")
    lines = text.encode("utf-8", "surrogateescape").splitlines()
    return [text for line in lines if (text := line.decode("utf-8", "surrogateescape").strip("\ufeff \t"))]


def _is_array(text: str) -> bool:
    """True if a text is a JSON array of objects as a whole, as people write who do not know the form with lines."""
    try:
        value = json.loads(text) if text.lstrip().startswith("[") else None
    except (ValueError, RecursionError):
        return False
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _values(line: str, keys: tuple[str, ...]) -> list[str]:
    """The file names in a line; none where it is no JSON object, which its reader will report."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return []
    return [record[key] for key in keys if isinstance(record.get(key), str)] if isinstance(record, dict) else []

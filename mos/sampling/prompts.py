"""Prompts: from a file, with what else its rows say of their pictures; and how much of them a tower reads."""

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mos.encoders.understanding import Tower
from mos.errors import UserError
from mos.sampling import arguments

SHOWN = 40
"""Characters shown on either side of a cut."""


@dataclass(frozen=True)
class PromptRow:
    """A row of a prompt file; what it leaves open is that of all pictures."""

    prompt: str
    negative_prompt: str | None = None
    seed: int | None = None
    """Of the first picture; those of further ones follow it."""
    height: int | None = None
    """Pixels."""
    width: int | None = None
    """Pixels."""
    guidance: float | None = None


class CutPromptWarning(UserWarning):
    """A prompt is longer than what the tower reads."""


def cut_notices(tower: Tower, prompts: Iterable[str]) -> list[str]:
    """A sentence for each distinct prompt that is too long for the tower, with the words on either side of the cut."""
    cuts = [tower.cut(prompt) for prompt in dict.fromkeys(prompts)]
    return [_notice(kept, lost) for kept, lost in cuts if lost.strip()]


def _notice(kept: str, lost: str) -> str:
    before, after = " ".join(kept.split()), " ".join(lost.split())
    before = before if len(before) <= SHOWN else f"…{before[-SHOWN:]}"
    after = after if len(after) <= SHOWN else f"{after[:SHOWN]}…"
    return (
        f"a prompt is longer than what the model reads: it is cut after {before!r}, and the {len(lost.split())} words "
        f"from {after!r} on never reach the model"
    )


def read_prompts(path: str | Path) -> list[str]:
    """The prompts of a file, in order.

    Raises:
        UserError: as for `read_rows`.
    """
    return [row.prompt for row in read_rows(path)]


def read_rows(path: str | Path) -> list[PromptRow]:
    """The rows of a prompt file: text with a prompt a line, JSON lines (GenEval's metadata), CSV or Parquet.

    In a text file blank lines and lines that start with `#` are skipped. The others have a `prompt` and may have the
    fields of `PromptRow`; further ones are left alone, as are empty values.

    Raises:
        UserError: the file is missing, damaged or empty, a row has no `prompt` or a value that cannot be.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"prompt file {path} does not exist: name a text file with one prompt a line")
    try:
        trees = READERS.get(path.suffix.lower(), _read_text)(path)
    except UnicodeDecodeError as error:
        raise UserError(f"prompt file {path} is not UTF-8: {error}") from error
    except (OSError, csv.Error, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"prompt file {path} cannot be read: {' '.join(str(error).split())}") from error
    rows = [_row(tree, f"prompt file {path}, row {number}") for number, tree in enumerate(trees, 1)]
    if not rows:
        raise UserError(f"prompt file {path} holds no prompts: write one a line")
    return rows


def _read_text(path: Path) -> list[Any]:
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [{"prompt": line} for line in lines if line and not line.startswith("#")]


def _read_jsonl(path: Path) -> list[Any]:
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [_parsed(line, path) for line in lines if line]


def _read_csv(path: Path) -> list[Any]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [{name: value or None for name, value in row.items()} for row in csv.DictReader(file, strict=True)]


def _read_parquet(path: Path) -> list[Any]:
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(path)
    known = [name for name in FIELDS if name in file.schema_arrow.names]
    return file.read(columns=known).to_pylist()


READERS: Mapping[str, Callable[[Path], list[Any]]] = {
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
"""Of a file by its ending; any other is text."""


def _parsed(line: str, path: Path) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"prompt file {path} has a line that is not JSON: {line[:80]!r}") from error


def _row(tree: Any, where: str) -> PromptRow:
    prompt = tree.get("prompt") if isinstance(tree, dict) else None
    if not isinstance(prompt, str):
        raise UserError(f"{where} is without a text `prompt`: {arguments.shown(tree)}")
    given = {name: tree[name] for name in FIELDS if tree.get(name) is not None}
    try:
        return PromptRow(**{name: FIELDS[name](name, value) for name, value in given.items()})
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _whole(name: str, value: object) -> int:
    return arguments.whole(name, _number_in(value, int))


def _seed(name: str, value: object) -> int:
    return arguments.seeds(_number_in(value, int), 1)[0]


def _guidance(name: str, value: object) -> float:
    return arguments.sampler(1, _number_in(value, float), 0.0, "linear").guidance


def _number_in(value: object, kind: Callable[[str], object]) -> object:
    """The number in a text, as CSV has it; what is none stays as it is, to be refused."""
    if not isinstance(value, str):
        return value
    try:
        return kind(value)
    except ValueError:
        return value


FIELDS: Mapping[str, Callable[[str, object], Any]] = {
    "prompt": arguments.text,
    "negative_prompt": arguments.text,
    "seed": _seed,
    "height": _whole,
    "width": _whole,
    "guidance": _guidance,
}
"""What a row may say, and how it is read."""

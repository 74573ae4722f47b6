"""Prompts: from a file, which is text with one a line or JSON lines with a `prompt` each (GenEval's metadata); and how
much of them a tower reads.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from mos.encoders.understanding import Tower
from mos.errors import UserError

SHOWN = 40
"""Characters shown on either side of a cut."""


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
    """The prompts of a file, in order; in a text file blank lines and lines that start with `#` are skipped.

    Raises:
        UserError: the file is missing, not UTF-8 or empty, or a JSON line has no `prompt`.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"prompt file {path} does not exist: name a text file with one prompt a line")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise UserError(f"prompt file {path} is not UTF-8: {error}") from error
    if path.suffix == ".jsonl":
        prompts = [_prompt_of(line, path) for line in lines if line]
    else:
        prompts = [line for line in lines if line and not line.startswith("#")]
    if not prompts:
        raise UserError(f"prompt file {path} holds no prompts: write one a line")
    return prompts


def _prompt_of(line: str, path: Path) -> str:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"prompt file {path} has a line that is not JSON: {line[:80]!r}") from error
    prompt = record.get("prompt") if isinstance(record, dict) else None
    if not isinstance(prompt, str):
        raise UserError(f"prompt file {path} has a line without a text `prompt`: {line[:80]!r}")
    return prompt

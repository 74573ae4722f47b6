"""Where a benchmark's files stand in a test."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from mos.benchmarks.benchmark import Place
from mos.benchmarks.config import JudgeConfig


def place_of(folder: Path, prompts: Path, **changes: object) -> Place:
    given = {"pictures": None, "num": 1, "side": 16, "language": "en", "judge": JudgeConfig(), "model": "ours"}
    return Place(folder=folder / "out", prompts=prompts, **{**given, **changes})


def results(place: Place, name: str, text: str) -> None:
    place.results.mkdir(parents=True, exist_ok=True)
    (place.results / name).write_text(text, encoding="utf-8")


def lines(rows: Iterable[Mapping[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)

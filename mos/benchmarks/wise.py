"""WISE (Niu et al. 2025): whether a picture shows what a prompt means to who knows the world; a language model judges.

Formats of github.com/PKU-YuanGroup/WISE at eb51174, of both versions: `WISE_legacy/gpt_eval.py` (consistency, realism
and aesthetic quality of 0 to 2; the paper's tables are of it) and `vllm_eval.py` of WISE_Verified (one score, 0 or 1).
Both read `<prompt_id>.png` and write a line for each prompt; `WISE_legacy/Calculate.py` and `calculate_verified.py`
tell categories by ranges of `prompt_id`, and weigh them.
"""

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from mos.benchmarks import published
from mos.benchmarks.benchmark import Benchmark, Place
from mos.benchmarks.entries import Entry, read_entries, refuse_twice
from mos.benchmarks.item import IMAGES, Item
from mos.benchmarks.score import Scores, mean, weighted
from mos.errors import UserError

PARTS = ("cultural_common_sense", "spatio-temporal_reasoning", "natural_science")
VERIFIED = "_verified"
"""What the names of files of WISE_Verified end in."""
LAST = {"culture": 400, "time": 567, "space": 700, "biology": 800, "physics": 900, "chemistry": 1000}
LAST_VERIFIED = {"culture": 400, "time": 520, "space": 640, "biology": 760, "physics": 880, "chemistry": 1000}
"""Largest `prompt_id` of each category."""
WEIGHTS = {"culture": 0.4, "time": 0.167, "space": 0.133, "biology": 0.1, "physics": 0.1, "chemistry": 0.1}
WEIGHTS_VERIFIED = {"culture": 0.4} | dict.fromkeys(("time", "space", "biology", "physics", "chemistry"), 0.12)


class Wise(Benchmark):
    """1,000 prompts in three files."""

    title: ClassVar = "WISE"
    repository: ClassVar = "https://github.com/PKU-YuanGroup/WISE"
    commit: ClassVar = "eb51174483a5de2e34e8614cf9dfb3319ee7fcd0"
    prompts: ClassVar = "WISE_legacy/data"
    images_per_prompt: ClassVar = 1
    most_images: ClassVar = 1
    table: ClassVar = published.WISE

    def items(self, place: Place) -> Sequence[Item]:
        """A picture named by the number of each prompt."""
        entries = [entry for path in prompt_files(place.prompts) for entry in read_entries(path)]
        numbers = [entry.whole("prompt_id") for entry in entries]
        refuse_twice(((str(number), entry.where) for number, entry in zip(numbers, entries, strict=True)), "prompt_id")
        return [
            Item(entry.where, entry.text("Prompt"), (f"{IMAGES}/{number}.png",))
            for number, entry in zip(numbers, entries, strict=True)
        ]

    def commands(self, place: Place) -> list[str]:
        """A judge for each file whose results are missing: GPT-4o, or for WISE_Verified what vLLM serves."""
        return [_command(path, place) for path in prompt_files(place.prompts) if not _results(path, place).is_file()]

    def scores(self, place: Place) -> Scores | None:
        """WiScores by category, once each file has its results."""
        files = prompt_files(place.prompts)
        if not all(_results(path, place).is_file() for path in files):
            return None
        entries = [entry for path in files for entry in read_entries(_results(path, place))]
        refuse_twice(((str(entry.whole("prompt_id")), entry.where) for entry in entries), "prompt_id")
        verified = "score" in entries[0].fields
        last, weights = (LAST_VERIFIED, WEIGHTS_VERIFIED) if verified else (LAST, WEIGHTS)
        found: dict[str, list[float]] = defaultdict(list)
        for entry in entries:
            found[_category(entry, last)].append(entry.number("score") if verified else _wiscore(entry))
        categories = {name: mean(found[name]) for name in weights if name in found}
        total = sum(weights[name] for name in categories)
        overall = weighted(list(categories.values()), [weights[name] / total for name in categories])
        notes = [
            "Published figures are of the first WISE, these are of WISE_Verified, whose scores are 0 or 1."
            if verified
            else "",
            "" if len(categories) == len(weights) else "The overall score is of these categories alone.",
        ]
        return Scores(categories, overall, " ".join(filter(None, notes)), comparable=not verified)


def prompt_files(prompts: Path) -> list[Path]:
    """The files of a folder of either version, or the one that is named.

    Raises:
        UserError: the folder has not all three.
    """
    if not prompts.is_dir():
        return [prompts]
    for ending in ("", VERIFIED):
        files = [prompts / f"{part}{ending}.json" for part in PARTS]
        if all(path.is_file() for path in files):
            return files
    raise UserError(f"{prompts} has not the three files of WISE ({', '.join(PARTS)}): name WISE_legacy/data")


def _command(path: Path, place: Place) -> str:
    verified, judge = path.stem.endswith(VERIFIED), place.judge
    script = "vllm_eval.py" if verified else "WISE_legacy/gpt_eval.py"
    model = judge.model or ("Qwen3.5-35B-A3B" if verified else "gpt-4o-2024-05-13")
    base = "" if judge.base_url is None else f" --api_base {shlex.quote(judge.base_url)}"
    scores, full = _results(path, place), place.results / f"{path.stem}_full_results.json"
    return (
        f"python {script} --json_path {shlex.quote(str(path))} --image_dir {shlex.quote(str(place.images))} "
        f"--output_dir {shlex.quote(str(place.results))} --result_scores {shlex.quote(str(scores))} "
        f'--result_full {shlex.quote(str(full))} --model {shlex.quote(model)}{base} --api_key "${judge.key_variable}"'
    )


def _results(path: Path, place: Place) -> Path:
    return place.results / f"{path.stem}_scores_results.jsonl"


def _wiscore(entry: Entry) -> float:
    """(0.7 consistency + 0.2 realism + 0.1 aesthetic quality) / 2, in [0, 1]."""
    consistency, realism, quality = (entry.number(name) for name in ("consistency", "realism", "aesthetic_quality"))
    return (0.7 * consistency + 0.2 * realism + 0.1 * quality) / 2


def _category(entry: Entry, last: Mapping[str, int]) -> str:
    number = entry.whole("prompt_id")
    if not 1 <= number <= 1000:
        raise UserError(f"{entry.where}: 'prompt_id' = {number} is not among WISE's, 1 to 1000")
    return next(name for name, largest in last.items() if number <= largest)

"""GenEval (Ghosh et al. 2023): whether a detector finds the objects, colours, counts and places that a prompt names.

Formats of github.com/djghosh13/geneval at af4902f: `evaluation/evaluate_images.py` walks numbered folders with a
`metadata.jsonl` and `samples/<number>.png`, README.md names four pictures and an optional `grid.png`;
`evaluation/summary_scores.py` averages the pictures of each tag, then the tags.
"""

import json
import shlex
from collections import defaultdict
from collections.abc import Sequence
from typing import ClassVar

from mos.benchmarks import published
from mos.benchmarks.benchmark import Benchmark, Place
from mos.benchmarks.entries import Entry, read_entries
from mos.benchmarks.item import IMAGES, Grid, Item
from mos.benchmarks.score import Scores, share, weighted
from mos.errors import UserError


class GenEval(Benchmark):
    """553 prompts in six tags."""

    title: ClassVar = "GenEval"
    repository: ClassVar = "https://github.com/djghosh13/geneval"
    commit: ClassVar = "af4902f24d3ca90ebbb446dd9891a59e0f82725f"
    prompts: ClassVar = "prompts/evaluation_metadata.jsonl"
    images_per_prompt: ClassVar = 4
    table: ClassVar = published.GENEVAL

    def items(self, place: Place) -> Sequence[Item]:
        """A folder for each line of the metadata."""
        return [_item(number, entry, place.num) for number, entry in enumerate(read_entries(place.prompts))]

    def commands(self, place: Place) -> list[str]:
        """The detector, which needs CUDA; its weights are downloaded by the repository's own script."""
        images, results = shlex.quote(str(place.images)), shlex.quote(str(place.results / "results.jsonl"))
        return [
            f"python evaluation/evaluate_images.py {images} --outfile {results} --model-path <folder of the detector>"
        ]

    def scores(self, place: Place) -> Scores | None:
        """Shares of right pictures by tag; the overall score is the mean of the tags."""
        path = place.results / "results.jsonl"
        if not path.is_file():
            return None
        found: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
        for entry in read_entries(path):
            found[entry.text("tag")][entry.text("metadata")].append(_correct(entry))
        tags = {tag: share(list(prompts.values())) for tag, prompts in found.items()}
        return Scores(tags, weighted(list(tags.values())))


def _item(number: int, entry: Entry, num: int) -> Item:
    prompt, _ = entry.text("prompt"), entry.text("tag")
    if not isinstance(entry.fields.get("include"), list):
        raise UserError(f"{entry.where}: 'include' is no list of objects, which each entry needs")
    folder = f"{IMAGES}/{number:05d}"
    pictures = tuple(f"{folder}/samples/{picture:04d}.png" for picture in range(num))
    grid = Grid(f"{folder}/grid.png", columns=num)
    return Item(entry.where, prompt, pictures, grid, {f"{folder}/metadata.jsonl": json.dumps(entry.fields)})


def _correct(entry: Entry) -> bool:
    correct = entry.fields.get("correct")
    if not isinstance(correct, bool):
        raise UserError(f"{entry.where}: 'correct' = {correct!r} is neither true nor false")
    return correct

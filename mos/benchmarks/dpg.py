"""DPG-Bench (Hu et al. 2024): whether a model that sees the picture answers questions about a long prompt with yes.

Formats of github.com/TencentQQGYLab/ELLA at 3c228f1: README.md wants a picture named after each file of
`dpg_bench/prompts`, a grid of 2 x 2; `dpg_bench/compute_dpg_bench.py` cuts it into squares of `--resolution`, and
writes a line of scores for each picture, the categories' means, and in `_detail.txt` every answer. A category's mean is
of the answers to each grid's last picture.
"""

import re
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from mos.benchmarks import published
from mos.benchmarks.benchmark import Benchmark, Place
from mos.benchmarks.entries import read_entries, read_lines
from mos.benchmarks.item import IMAGES, SINGLES, Grid, Item
from mos.benchmarks.score import Score, Scores, mean, share
from mos.errors import UserError

PICTURE = re.compile(r"(?P<path>.+\.\w+), (?P<scores>[\d.e+-]+(, [\d.e+-]+)*)")
CATEGORY = re.compile(r"\t(?P<name>\w+): (?P<value>[\d.]+)")
ANSWER = re.compile(r"(?P<path>.+\.\w+), \(\d+, \d+, \d+, \d+\), (?P<question>.+), (?P<answer>[^,]*)")


class Dpg(Benchmark):
    """1,065 long prompts in files of their own."""

    title: ClassVar = "DPG-Bench"
    repository: ClassVar = "https://github.com/TencentQQGYLab/ELLA"
    commit: ClassVar = "3c228f1dc6c4d3cad0a47493816151a419f14db3"
    prompts: ClassVar = "dpg_bench/prompts"
    images_per_prompt: ClassVar = 4
    most_images: ClassVar = 4
    table: ClassVar = published.DPG

    def items(self, place: Place) -> Sequence[Item]:
        """A picture, or a grid of two columns, named as each text file."""
        files = sorted(place.prompts.glob("*.txt")) if place.prompts.is_dir() else []
        if not files:
            raise UserError(f"{place.prompts} is no folder of .txt files with a prompt each: name {self.prompts}")
        return [_item(path, place.num) for path in files]

    def commands(self, place: Place) -> list[str]:
        """A visual question answering model by ModelScope, on as many GPUs as `accelerate launch` is told."""
        csv, results = place.prompts.parent / "dpg_bench.csv", place.results / "dpg.txt"
        return [
            "accelerate launch --mixed_precision fp16 dpg_bench/compute_dpg_bench.py "
            f"--image-root-path {shlex.quote(str(place.images))} --resolution {place.side} --pic-num {place.num} "
            f"--vqa-model mplug --csv {shlex.quote(str(csv))} --res-path {shlex.quote(str(results))}"
        ]

    def scores(self, place: Place) -> Scores | None:
        """Means of 0 to 100; the overall score is that of the pictures, not of the categories."""
        path = place.results / "dpg.txt"
        if not path.is_file():
            return None
        pictures, means = [], {}
        for _, line in read_lines(path):
            if found := PICTURE.fullmatch(line):
                pictures.append(float(found["scores"].rpartition(", ")[2]))
            elif (found := CATEGORY.fullmatch(line)) and found["name"] not in means:
                means[found["name"]] = float(found["value"])
        if not pictures or not means:
            raise UserError(f"{path} holds no line of a picture, or no category: the scorer has not come to its end")
        answers = _answers(place.results / "dpg_detail.txt", place.prompts.parent / "dpg_bench.csv")
        categories = {
            name: share(list(answers[name].values())).scaled(100) if name in answers else Score(value, None, 0)
            for name, value in means.items()
        }
        note = "" if answers else f"Intervals of categories need dpg_bench.csv beside {place.prompts}."
        return Scores(categories, mean(pictures).scaled(100), note)


def _item(path: Path, num: int) -> Item:
    if "." in path.stem:
        raise UserError(f"{path}: the scorer reads a picture's name up to the first dot: take dots out of it")
    prompt = path.read_text(encoding="utf-8-sig").strip()
    if not prompt:
        raise UserError(f"{path}:1: this file holds no prompt")
    name = f"{IMAGES}/{path.stem}.png"
    if num == 1:
        return Item(f"{path}:1", prompt, (name,))
    pictures = tuple(f"{SINGLES}/{path.stem}/{picture}.png" for picture in range(num))
    return Item(f"{path}:1", prompt, pictures, Grid(name, columns=2))


def _answers(detail: Path, csv: Path) -> Mapping[str, Mapping[str, list[bool]]]:
    """Category -> prompt -> whether each of its questions about the last picture was answered with yes."""
    if not detail.is_file() or not csv.is_file():
        return {}
    asked = {
        (entry.text("item_id"), entry.text("question_natural_language")): _category(entry.text("tuple"))
        for entry in read_entries(csv)
    }
    last: dict[tuple[str, str], bool] = {}
    for where, line in read_lines(detail):
        found = ANSWER.fullmatch(line)
        if found is None:
            raise UserError(f"{where}: neither path, crop, question and answer: {line[:80]!r}")
        last[Path(found["path"]).name.split(".")[0], found["question"]] = found["answer"] == "yes"
    answers: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for (prompt, question), yes in last.items():
        if (prompt, question) in asked:
            answers[asked[prompt, question]][prompt].append(yes)
    return answers


def _category(told: str) -> str:
    """The first level of "attribute - color (car, red)"."""
    return told.partition("(")[0].partition("-")[0].strip()

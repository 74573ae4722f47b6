"""OneIG-Bench (Chang et al. 2025): alignment, text, reasoning, style and diversity, each by models of its own.

Formats of github.com/OneIG-Bench/OneIG-Benchmark at 41b4983: `OneIG-Bench.csv` or `OneIG-Bench-ZH.csv` has the prompts;
README.md and `text2image.py` want `<class>/<model>/<id>.webp`, a grid of four; `scripts/utils/utils.py` cuts it by
`--image_grid columns,rows` and passes over black cells; `scripts/*/*_score.py` write CSVs with a row, or a column, for
each model.
"""

import shlex
from collections.abc import Sequence
from math import ceil, sqrt
from pathlib import Path
from typing import ClassVar

from mos.benchmarks import published
from mos.benchmarks.benchmark import Benchmark, Place
from mos.benchmarks.entries import Entry, read_entries, refuse_twice
from mos.benchmarks.item import IMAGES, SINGLES, Grid, Item
from mos.benchmarks.score import Score, Scores, mean, weighted
from mos.errors import UserError

CLASSES = {
    "Anime_Stylization": "anime",
    "Portrait": "human",
    "General_Object": "object",
    "Text_Rendering": "text",
    "Knowledge_Reasoning": "reasoning",
    "Multilingualism": "multilingualism",
}
"""Category of a prompt -> folder."""
FOLDERS = {"alignment": "", "text": "/text", "reasoning": "/reasoning", "style": "/anime", "diversity": ""}
"""Dimension -> where its script is to look, below the images."""
TEXT_SCORE = "text score"
"""Column of the one dimension whose score is no mean over prompts."""


class OneIg(Benchmark):
    """1,120 English or 1,320 Chinese prompts in five or six classes."""

    title: ClassVar = "OneIG-Bench"
    repository: ClassVar = "https://github.com/OneIG-Bench/OneIG-Benchmark"
    commit: ClassVar = "41b49831e79e6dde5323618c164da1c4cf0f699d"
    prompts: ClassVar = "OneIG-Bench.csv"
    images_per_prompt: ClassVar = 4
    table: ClassVar = published.ONEIG

    def items(self, place: Place) -> Sequence[Item]:
        """A grid for each row."""
        entries = read_entries(place.prompts)
        items = [_item(entry, place) for entry in entries]
        names = [item.grid.path for item in items if item.grid is not None]
        refuse_twice(zip(names, (entry.where for entry in entries), strict=True), "the picture")
        return items

    def commands(self, place: Place) -> list[str]:
        """Five scripts, which need CUDA, and their tables brought here."""
        mode = _mode(place)
        columns = ceil(sqrt(place.num))
        grid = f"{columns},{ceil(place.num / columns)}"
        everywhere = "anime human object" + (" multilingualism" if mode == "ZH" else "")
        classes = {"alignment": everywhere, "diversity": f"{everywhere} text reasoning"}
        lines = [
            f"python -m scripts.{name}.{name}_score --mode {mode} "
            f"--image_dirname {shlex.quote(f'{place.images}{below}')} "
            f"--model_names {shlex.quote(place.model)} --image_grid {grid}"
            + (f" --class_items {classes[name]}" if name in classes else "")
            for name, below in FOLDERS.items()
            if _newest(place, f"{name}_score") is None
        ]
        return [*lines, f"cp results/*_score_{mode}_*.csv {shlex.quote(str(place.results))}/"]

    def scores(self, place: Place) -> Scores | None:
        """Each dimension, in [0, 1]; the overall score is their mean."""
        if any(_newest(place, f"{name}{part}") is None for name in FOLDERS for part in ("_score", "_prompt_score")):
            return None
        found = {name: _dimension(name, place) for name in FOLDERS}
        mean_of_all = weighted(list(found.values()))
        overall = Score(mean_of_all.value, mean_of_all.margin, found["diversity"].num)  # which is of all prompts
        chinese = _mode(place) == "ZH"
        notes = [
            "text is a product of means over all words: its scorer leaves nothing to take an interval from.",
            "Published figures are of the English prompts." if chinese else "",
        ]
        return Scores(found, overall, " ".join(filter(None, notes)), comparable=not chinese)


def _item(entry: Entry, place: Place) -> Item:
    category, number = entry.text("category"), entry.file_name("id")
    if category not in CLASSES:
        raise UserError(f"{entry.where}: 'category' = {category!r} is none of {', '.join(CLASSES)}")
    prompt = entry.text("prompt_cn" if "prompt_cn" in entry.fields else "prompt_en")
    folder, columns = CLASSES[category], ceil(sqrt(place.num))
    pictures = tuple(f"{SINGLES}/{folder}/{number}/{picture}.png" for picture in range(place.num))
    grid = Grid(f"{IMAGES}/{folder}/{place.model}/{number}.webp", columns)
    return Item(entry.where, prompt, pictures, grid)


def _mode(place: Place) -> str:
    return "ZH" if "prompt_cn" in read_entries(place.prompts)[0].fields else "EN"


def _newest(place: Place, name: str) -> Path | None:
    """The last table of a name; its time is part of its own name."""
    return max(place.results.glob(f"{name}_{_mode(place)}_*.csv"), default=None)


def _dimension(name: str, place: Place) -> Score:
    prompts = _newest(place, f"{name}_prompt_score")
    table = _newest(place, f"{name}_score")
    assert prompts is not None
    assert table is not None
    scored = [entry for entry in read_entries(prompts) if _cell(entry, place.model, prompts)]
    if name != "text":
        return mean([entry.number(place.model) for entry in scored])
    rows = [entry for entry in read_entries(table) if entry.fields.get("") == place.model]
    if not rows:
        raise UserError(f"{table} has no row of {place.model!r}: name the model as it was scored with model_name=")
    return Score(rows[0].number(TEXT_SCORE), None, len(scored))


def _cell(entry: Entry, model: str, path: Path) -> str:
    """What stands of a model in a row of a table by prompts; empty where a prompt has no score."""
    if model not in entry.fields:
        raise UserError(f"{path} has no column of {model!r}: name the model as it was scored with model_name=")
    return str(entry.fields[model])

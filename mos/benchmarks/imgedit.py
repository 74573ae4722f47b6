"""ImgEdit-Bench (Ye et al. 2025), its basic part: edits of nine types, judged by GPT-4o in three respects of 1 to 5.

Formats of github.com/PKU-YuanGroup/ImgEdit at 547185d, in `Benchmark/Basic`: `basic_edit.json` has the edits by key;
`basic_bench.py` reads `<key>.png` beside the pictures to edit and writes `result.json` among the results,
`step1_get_avgscore.py` the mean of each edit, and `step2_typescore.py` averages them by type.
"""

import shlex
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar

from mos.benchmarks import published
from mos.benchmarks.benchmark import Benchmark, Place
from mos.benchmarks.entries import Entry, as_file_name, read_entries, read_figures, refuse_twice
from mos.benchmarks.item import IMAGES, Item
from mos.benchmarks.score import Scores, mean, weighted
from mos.errors import UserError


class ImgEdit(Benchmark):
    """737 edits; the pictures are a download of their own."""

    title: ClassVar = "ImgEdit-Bench"
    repository: ClassVar = "https://github.com/PKU-YuanGroup/ImgEdit"
    commit: ClassVar = "547185d12c08267a862b94248576e1746e479937"
    prompts: ClassVar = "Benchmark/Basic/basic_edit.json"
    images_per_prompt: ClassVar = 1
    most_images: ClassVar = 1
    edits: ClassVar = True
    table: ClassVar = published.IMGEDIT

    def items(self, place: Place) -> Sequence[Item]:
        """A picture named by the key of each edit."""
        if place.pictures is None:
            raise UserError(
                f"{self.title} has no pictures to edit: name the folder that its ids begin in with pictures="
            )
        return [_item(entry, place.pictures) for entry in _edits(place)]

    def commands(self, place: Place) -> list[str]:
        """The judge, then its means; the judge's address and key stand in its code."""
        images, edits = shlex.quote(str(place.images)), shlex.quote(str(place.prompts))
        judged, means = shlex.quote(str(place.images / "result.json")), place.results / "average_score.json"
        judge = (
            f"python Benchmark/Basic/basic_bench.py --result_img_folder {images} --edit_json {edits} "
            f"--origin_img_root {shlex.quote(str(place.pictures))} --prompts_json Benchmark/Basic/prompts.json"
            f"    # set api_key (${place.judge.key_variable}) and base_url in its call_gpt first"
        )
        average = (
            f"python Benchmark/Basic/step1_get_avgscore.py --result_json {judged} "
            f"--average_score_json {shlex.quote(str(means))}"
        )
        return [average] if (place.images / "result.json").is_file() else [judge, average]

    def scores(self, place: Place) -> Scores | None:
        """Means of 1 to 5 by type; the overall score is the mean of the types."""
        path = place.results / "average_score.json"
        if not path.is_file():
            return None
        types = {entry.key: entry.text("edit_type") for entry in _edits(place)}
        found: dict[str, list[float]] = defaultdict(list)
        for key, (value, where) in read_figures(path).items():
            if key not in types:
                raise UserError(f"{where}: edit {key!r} is not in {place.prompts}")
            found[types[key]].append(value)
        categories = {name: mean(values) for name, values in found.items()}
        return Scores(categories, weighted(list(categories.values())))


def _edits(place: Place) -> list[Entry]:
    entries = read_entries(place.prompts)
    refuse_twice(((entry.key, entry.where) for entry in entries), "edit")
    return entries


def _item(entry: Entry, pictures: Path) -> Item:
    name, _ = PurePosixPath(entry.text("id")), entry.text("edit_type")
    source = pictures / name
    if name.is_absolute() or ".." in name.parts or not source.is_file():
        raise UserError(f"{entry.where}: picture to edit {str(name)!r} is not in {pictures}")
    key = as_file_name(entry.key, f"{entry.where}: key")
    return Item(entry.where, entry.text("prompt"), (f"{IMAGES}/{key}.png",), source=source)

"""MJHQ-30K (Li et al. 2024a): Fréchet distance to 30,000 chosen pictures of ten categories, over all and by category.

Formats of the data set playgroundai/MJHQ-30K at 15b0a65: `meta_data.json` has prompt and category of each picture's
hash, whose JPEG is `<category>/<hash>.jpg`; its card reports FID at 1024 x 1024. FID reads folders of pictures,
whatever they are called: `cleanfid/fid.py` of github.com/GaParmar/clean-fid at e88c4d6 finds them at any depth.
"""

import shlex
from collections.abc import Sequence
from typing import ClassVar

from mos.benchmarks import published
from mos.benchmarks.benchmark import Benchmark, Place
from mos.benchmarks.entries import Entry, as_file_name, read_entries, read_figures, refuse_twice
from mos.benchmarks.item import IMAGES, Item
from mos.benchmarks.score import Score, Scores
from mos.errors import UserError

FID = (
    "import json, pathlib, sys; from cleanfid import fid; own, real, out = map(pathlib.Path, sys.argv[1:]); "
    "names = sorted(path.name for path in own.iterdir() if path.is_dir()); "
    "found = {name: fid.compute_fid(str(real / name), str(own / name)) for name in names}; "
    'found["FID"] = fid.compute_fid(str(real), str(own)); out.write_text(json.dumps(found))'
)
"""A program that takes our folder, that of the data set's pictures, and the file of its results."""


class Mjhq(Benchmark):
    """30,000 prompts."""

    title: ClassVar = "MJHQ-30K"
    repository: ClassVar = "https://huggingface.co/datasets/playgroundai/MJHQ-30K"
    commit: ClassVar = "15b0a659e066e763d0e9a6cd8f00e25f8af5e084"
    prompts: ClassVar = "meta_data.json"
    images_per_prompt: ClassVar = 1
    most_images: ClassVar = 1
    table: ClassVar = published.MJHQ

    def items(self, place: Place) -> Sequence[Item]:
        """A picture for each hash, in the folder of its category."""
        return [_item(entry) for entry in _entries(place)]

    def commands(self, place: Place) -> list[str]:
        """Clean-fid, with the pictures of the data set unpacked."""
        real = "<folder of mjhq30k_imgs>" if place.pictures is None else shlex.quote(str(place.pictures))
        out = shlex.quote(str(place.results / "fid.json"))
        return [
            f"python -c {shlex.quote(FID)} {shlex.quote(str(place.images))} {real} {out}    # pip install clean-fid"
        ]

    def scores(self, place: Place) -> Scores | None:
        """Distances; all prompts make one, so there is no interval."""
        path = place.results / "fid.json"
        if not path.is_file():
            return None
        figures = read_figures(path)
        if "FID" not in figures:
            raise UserError(f"{path}:1: 'FID' is missing: run the command again")
        nums: dict[str, int] = {}
        for entry in _entries(place):
            nums[entry.text("category")] = nums.get(entry.text("category"), 0) + 1
        found = {name: Score(value, None, nums.get(name, 0)) for name, (value, _) in figures.items() if name != "FID"}
        overall = Score(figures["FID"][0], None, sum(nums.values()))
        return Scores(found, overall, "Lower is better. A Fréchet distance is one figure of all pictures: no interval.")


def _entries(place: Place) -> list[Entry]:
    entries = read_entries(place.prompts)
    refuse_twice(((entry.key, entry.where) for entry in entries), "picture")
    return entries


def _item(entry: Entry) -> Item:
    name = f"{IMAGES}/{entry.file_name('category')}/{as_file_name(entry.key, f'{entry.where}: key')}.png"
    return Item(entry.where, entry.text("prompt"), (name,))

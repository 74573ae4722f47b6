"""Prompts and edits that a run is judged on: held-out scenes where the data was drawn, else rows of its own tables."""

from dataclasses import dataclass
from itertools import chain

from PIL import Image

from mos.images.decode import ImageLimits, decode_image
from mos.shapes.captions import Prompt, evaluation_prompts
from mos.shapes.edits import Edit, evaluation_edits
from mos.shapes.render import render
from mos.shapes.scene import Category
from mos.tables.lance import TableVersion
from mos.tables.schema import TASK_EDIT, TASK_GENERATE


@dataclass(frozen=True)
class EditCase:
    """A picture to edit."""

    source: Image.Image
    instruction: str
    target: Image.Image
    edit: Edit | None
    """What the checker needs; None where nobody can check."""


def scored_prompts(num_single_object: int, num_per_category: int, seed: int) -> list[Prompt]:
    """Held-out prompts, category by category."""
    nums = dict.fromkeys(Category, num_per_category) | {Category.SINGLE_OBJECT: num_single_object}
    return list(chain.from_iterable(evaluation_prompts(category, num, seed) for category, num in nums.items()))


def shown_prompts(num: int, seed: int) -> list[Prompt]:
    """Held-out prompts in rows of six: one of each category, then the next of each."""
    per_category = -(-num // len(Category))
    columns = [evaluation_prompts(category, per_category, seed) for category in Category]
    return list(chain.from_iterable(zip(*columns, strict=True)))[:num]


def stored_captions(samples: TableVersion, num: int) -> list[str]:
    """Distinct captions of a samples table, in the order of their sample ids."""
    rows = samples.open().to_table(columns=["sample_id", "caption"], filter=f"task = '{TASK_GENERATE}'")
    captions = rows.sort_by("sample_id").column("caption").to_pylist()
    return list(dict.fromkeys(captions))[:num]


def drawn_edits(num: int, seed: int, resolution: int) -> list[EditCase]:
    """Held-out edits of drawn scenes, as squares of a resolution in pixels."""
    return [
        EditCase(
            source=Image.fromarray(render(edit.source, resolution, resolution)),
            instruction=edit.instruction,
            target=Image.fromarray(render(edit.target, resolution, resolution)),
            edit=edit,
        )
        for edit in evaluation_edits(num, seed)
    ]


def stored_edits(samples: TableVersion, num: int, limits: ImageLimits) -> list[EditCase]:
    """Editing triples of a samples table, in the order of their sample ids: what the model has seen, not held out."""
    light = samples.open().to_table(columns=["sample_id"], filter=f"task = '{TASK_EDIT}'")
    chosen = sorted(light.column("sample_id").to_pylist())[:num]
    if not chosen:
        return []
    wanted = ", ".join(f"'{sample_id}'" for sample_id in chosen)
    columns = ["sample_id", "image", "reference", "caption"]
    rows = samples.open().to_table(columns=columns, filter=f"sample_id IN ({wanted})").sort_by("sample_id")
    return [
        EditCase(decode_image(row["reference"], limits), row["caption"], decode_image(row["image"], limits), None)
        for row in rows.to_pylist()
    ]

"""Pictures of held-out prompts in, GenEval's six scores out, by the checker of drawn scenes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image

from mos.shapes.captions import Prompt
from mos.shapes.checker import CategoryScore, CheckResult, check, score_images
from mos.shapes.edits import Edit, check_edit
from mos.shapes.scene import Category


@dataclass(frozen=True)
class Scores:
    """Text-to-image scores of one model."""

    categories: dict[Category, CategoryScore]
    results: tuple[CheckResult, ...]
    """What the checker said of each picture, in the order of the prompts."""

    @property
    def overall(self) -> float:
        """Mean of the categories' shares of correct pictures, as GenEval takes it."""
        return float(np.mean([score.correct for score in self.categories.values()]))

    def as_dict(self) -> dict[str, object]:
        """Plain data for scores.json."""
        categories = {str(category): asdict(score) for category, score in self.categories.items()}
        return {"overall": self.overall, "categories": categories}


def score_pictures(pictures: Sequence[Image.Image], prompts: Sequence[Prompt]) -> Scores:
    """Check every picture against the scene its prompt promises."""
    arrays = [np.asarray(picture) for picture in pictures]
    scenes = [prompt.scene for prompt in prompts]
    results = tuple(check(array, scene) for array, scene in zip(arrays, scenes, strict=True))
    return Scores(score_images(arrays, scenes), results)


def edit_is_correct(picture: Image.Image, edit: Edit) -> bool:
    """True if the edit happened and nothing else did."""
    return check_edit(np.asarray(picture), edit).correct

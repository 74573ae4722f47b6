"""Pictures of held-out prompts in, GenEval's six scores out, by the checker of drawn scenes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image
from scipy.stats import binomtest

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

    @property
    def overall_margin(self) -> float:
        """Half the 95% interval of `overall`: the categories' margins are those of independent pictures."""
        margins = [margin(score.correct, score.num) for score in self.categories.values()]
        return float(np.linalg.norm(margins)) / len(margins)

    @property
    def overall_in_words(self) -> str:
        """`overall` and its margin: "0.40 ± 0.02"."""
        return _in_words(self.overall, self.overall_margin)

    def as_dict(self) -> dict[str, object]:
        """Plain data for scores.json; `margin` is half the 95% interval of `correct`."""
        categories = {
            str(category): asdict(score) | {"margin": margin(score.correct, score.num)}
            for category, score in self.categories.items()
        }
        return {"overall": self.overall, "overall_margin": self.overall_margin, "categories": categories}


def interval(share: float, num: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share that was counted over `num` pictures."""
    found = binomtest(round(share * num), num).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


def margin(share: float, num: int) -> float:
    """Half the width of `interval`."""
    low, high = interval(share, num)
    return (high - low) / 2


def with_margin(share: float, num: int) -> str:
    """A share and half its 95% interval in words: "0.72 ± 0.05"."""
    return _in_words(share, margin(share, num))


def _in_words(share: float, half_width: float) -> str:
    return f"{share:.2f} ± {half_width:.2f}"


def score_pictures(pictures: Sequence[Image.Image], prompts: Sequence[Prompt]) -> Scores:
    """Check every picture against the scene its prompt promises."""
    arrays = [np.asarray(picture) for picture in pictures]
    scenes = [prompt.scene for prompt in prompts]
    results = tuple(check(array, scene) for array, scene in zip(arrays, scenes, strict=True))
    return Scores(score_images(arrays, scenes), results)


def edit_is_correct(picture: Image.Image, edit: Edit) -> bool:
    """True if the edit happened and nothing else did."""
    return check_edit(np.asarray(picture), edit).correct

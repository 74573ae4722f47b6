"""Pictures of held-out prompts in, GenEval's six scores out, by the checker of drawn scenes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image
from scipy.stats import binomtest

from mos.shapes.captions import Prompt
from mos.shapes.checker import CategoryScore, CheckResult, check, score_results
from mos.shapes.edits import Edit, EditKind, check_edit
from mos.shapes.layout import is_held_out
from mos.shapes.scene import Category


@dataclass(frozen=True)
class Scores:
    """Text-to-image scores of one model."""

    categories: dict[Category, CategoryScore]
    results: tuple[CheckResult, ...]
    """What the checker said of each picture, in the order of the prompts."""
    unseen: tuple[int, float] | None = None
    """Prompts that ask for a shape in a colour which training showed alone and never beside another object, and the
    share of right pictures of them; None where there are no such prompts."""

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
        told: dict[str, object] = {"overall": self.overall, "overall_margin": self.overall_margin}
        if self.unseen is not None:
            num, correct = self.unseen
            told["unseen_combinations"] = {"num": num, "correct": correct, "margin": margin(correct, num)}
        return told | {"categories": categories}


@dataclass(frozen=True)
class EditScores:
    """Edits of one model."""

    kinds: dict[EditKind, tuple[int, float]]
    """Edits of each kind that occurs, and the share of them that are right: done, and nothing else changed."""

    @property
    def overall(self) -> tuple[int, float]:
        """All edits, and the mean of the kinds' shares."""
        return sum(num for num, _ in self.kinds.values()), float(np.mean([right for _, right in self.kinds.values()]))

    def as_dict(self) -> dict[str, object]:
        """Plain data for scores.json."""
        return {str(kind): {"num": num, "correct": right, "margin": margin(right, num)}
                for kind, (num, right) in self.kinds.items()}  # fmt: skip


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
    results = tuple(check(np.asarray(picture), prompt.scene) for picture, prompt in zip(pictures, prompts, strict=True))
    unseen = [
        result.correct
        for prompt, result in zip(prompts, results, strict=True)
        if prompt.scene.category.names_colour and is_held_out(prompt.scene)
    ]
    return Scores(score_results(results), results, (len(unseen), float(np.mean(unseen))) if unseen else None)


def score_edits(pictures: Sequence[Image.Image], edits: Sequence[Edit]) -> EditScores:
    """Check every edited picture against the scene its instruction asks for."""
    right = [edit_is_correct(picture, edit) for picture, edit in zip(pictures, edits, strict=True)]
    by_kind = {kind: [ok for ok, edit in zip(right, edits, strict=True) if edit.kind is kind] for kind in EditKind}
    return EditScores({kind: (len(group), float(np.mean(group))) for kind, group in by_kind.items() if group})


def edit_is_correct(picture: Image.Image, edit: Edit) -> bool:
    """True if the edit happened and nothing else did."""
    return check_edit(np.asarray(picture), edit).correct

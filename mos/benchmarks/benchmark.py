"""What a benchmark is to us: prompts in, files of its scorer's layout out, and that scorer's results read back."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from mos.benchmarks.config import JudgeConfig
from mos.benchmarks.item import IMAGES, Item
from mos.benchmarks.published import Table
from mos.benchmarks.score import Scores


@dataclass(frozen=True)
class Place:
    """Where a benchmark's pictures and results stand."""

    folder: Path
    model: str
    """Name of the model, which some scorers have in their paths."""
    prompts: Path
    pictures: Path | None
    """Folder that the paths of pictures to edit begin in, where it is not that of the prompts."""
    num: int
    """Pictures of each prompt."""
    side: int
    """Pixels of a picture's side."""
    language: str
    """Of the instructions, where a benchmark has them in several."""
    judge: JudgeConfig
    """Who judges, where a language model does."""

    @property
    def images(self) -> Path:
        """What the scorer is given."""
        return self.folder / IMAGES

    @property
    def results(self) -> Path:
        """Folder that the scorer's results are read from; it is told to write them there."""
        return self.folder / "results"

    def below(self, name: str) -> "Place":
        """The same in a folder of this one."""
        return replace(self, folder=self.folder / name)


class Benchmark(ABC):
    """One benchmark as its own repository has it."""

    title: ClassVar[str]
    repository: ClassVar[str]
    """On GitHub, or the data set's on the Hugging Face hub; its formats are of `commit`."""
    commit: ClassVar[str]
    prompts: ClassVar[str]
    """Where its prompts stand in the repository."""
    images_per_prompt: ClassVar[int]
    """As published figures have it."""
    most_images: ClassVar[int | None] = None
    """As the layout has room for."""
    edits: ClassVar[bool] = False
    """Whether its prompts are instructions to edit pictures."""
    table: ClassVar[Table]
    """Published figures."""
    digits: ClassVar[int] = 2
    """Decimals that scores are told with."""

    @abstractmethod
    def items(self, place: Place) -> Sequence[Item]:
        """What is to be drawn, in the order of the prompts.

        Raises:
            UserError: a prompt file is missing or not of its form; names file and line.
        """

    def prepare(self, place: Place, items: Sequence[Item]) -> None:
        """Files that must be there before anything is drawn; most benchmarks have none.

        Raises:
            UserError: what they are made of cannot be read.
        """
        return

    @abstractmethod
    def commands(self, place: Place) -> list[str]:
        """Shell lines that score the pictures, in a checkout of the repository with its own environment."""

    @abstractmethod
    def scores(self, place: Place) -> Scores | None:
        """What the scorer found; None where it has not run.

        Raises:
            UserError: a result file is not of its form; names file and line.
        """

"""Where a stage's first weights come from: new ones, the stage before it, or an export or a checkpoint of any run."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mos.checkout import CLONE
from mos.config import StrictConfig
from mos.errors import UserError
from mos.fingerprint import file_digest, fingerprint
from mos.identity import HOW, NUMBERS
from mos.model.exported import INDEX, WEIGHTS, is_export, weight_files
from mos.training.checkpoint_format import MARKER, is_complete


class NewWeights(StrictConfig):
    """Weights drawn from the run's seed."""

    type: Annotated[Literal["new"], NUMBERS] = "new"


class PreviousStage(StrictConfig):
    """The last weights and average of the stage before this one; the first stage has new ones."""

    type: Annotated[Literal["previous"], NUMBERS] = "previous"


class GivenWeights(StrictConfig):
    """Weights of an export or a checkpoint, of this run or another."""

    type: Annotated[Literal["weights"], NUMBERS] = "weights"
    path: Annotated[str, HOW]
    """Folder of an export, or of a checkpoint (`step-000001000`); a relative one stands in the checkout."""
    average: Annotated[bool, NUMBERS] = True
    """Begin with the moving average of a checkpoint, false: with the weights themselves and the average beside them. An
    export holds the average alone."""
    partial: Annotated[bool, NUMBERS] = False
    """Take of an export what fits by name and shape, and list what does not: it keeps new weights."""
    optimizer: Annotated[bool, NUMBERS] = False
    """Take the state of a checkpoint's optimizer, too, which belongs to its weights: with `average = false`."""

    @model_validator(mode="after")
    def _optimizer_is_of_the_weights(self) -> Self:
        if self.optimizer and (self.average or self.partial):
            raise ValueError(
                "start.optimizer = true takes what belongs to a checkpoint's own weights: set start.average = false "
                "and start.partial = false"
            )
        return self

    @property
    def folder(self) -> Path:
        """Of the export or checkpoint."""
        return CLONE / Path(self.path).expanduser()

    @property
    def is_checkpoint(self) -> bool:
        """True for a checkpoint, false for an export.

        Raises:
            UserError: the folder holds neither.
        """
        if is_complete(self.folder):
            return True
        if not is_export(self.folder):
            raise UserError(
                f"start.path = {self.path!r} holds neither an export ({INDEX}, {WEIGHTS}) nor a checkpoint "
                f"({MARKER}): name the `export` or a `step-…` folder of a stage"
            )
        return False

    def identity(self) -> str:
        """64 hex digits over the weights, wherever they stand."""
        if self.is_checkpoint:
            return file_digest(self.folder / MARKER)  # which has the checksum of every file
        digests = [file_digest(path) for path in weight_files(self.folder)]
        return digests[0] if len(digests) == 1 else fingerprint(shards=digests)


StartConfig = Annotated[PreviousStage | NewWeights | GivenWeights, Field(discriminator="type")]

"""The loss of a finished stage on each sample of its view: measured by a pool of actors, written beside the samples."""

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import ray

from cluster.data import map_on_actors
from cluster.session import ray_session
from mos.errors import UserError
from mos.evaluation.theme import LIGHT, figure_png
from mos.feeding.config import CacheStates
from mos.ledger import StepRecord
from mos.loader.checks import check_tables
from mos.loader.index import EncodedTables, SampleIndex
from mos.loader.join import build_index
from mos.losses.column import write_columns
from mos.losses.extremes import extremes, extremes_figure, read_pictures
from mos.losses.names import loss_column
from mos.losses.parts import MeasuredParts
from mos.losses.summary import summarise
from mos.tables.lance import TableMovedError, TableVersion
from mos.tables.lost_files import refuse_lost_files
from mos.tables.payloads import REMEDY, LatentTable, RowCache, StateTable
from mos.workers import WorkerResources
from operators.measure_losses import TASKS, MeasureLosses
from pipelines.run.steps import Run, Step
from pipelines.run.views import encoded_view
from pipelines.train.job import chosen_states, encoded_tables

TELL_EVERY_S = 2.0
PICTURE = "losses.png"


class StageLosses:
    """The losses of one stage: what there is to measure, what is measured, and where it stands."""

    def __init__(self, run: Run, stage: str, step: Step | None = None) -> None:
        """Find the stage's weights and the tables it was trained on.

        Args:
            run: of the stage.
            stage: finished.
            step: one that chooses samples by these losses; None: the newest samples that the stage is finished for.

        Raises:
            UserError: the stage is not finished, or its hidden states are in no table.
        """
        self.run, self.stage = run, stage
        self.step = run.losses(stage, step)
        encoded = run.require_for(self.step, "encode").outputs
        self.trained = run.require_for(self.step, stage).outputs
        self.tables: EncodedTables = encoded_tables(run.require_for(self.step, "curate").outputs, encoded)
        states = chosen_states(run.config, stage, encoded)
        if not isinstance(states, CacheStates):
            raise UserError(
                f"{stage}.states = {states.type!r}, so the hidden states that its loss needs are in no table: set "
                f"{stage}.states.type = 'cache' and run `python pipelines/encode.py <config>` first"
            )
        self._ids = encoded["tower_id"], encoded["codec_id"]

    @property
    def folder(self) -> Path:
        """Of its parts and its picture; row addresses are of one version of the samples."""
        return self.run.config.folder("losses", self.stage, f"{self.step.short}-v{self.tables.samples.version}")

    @property
    def parts(self) -> MeasuredParts:
        """What is measured so far."""
        return MeasuredParts(self.folder / "parts")

    def find(self) -> StepRecord | None:
        """The record of these losses, if their column stands beside the samples as they are."""
        record = self.step.find()
        return record if record is not None and record.outputs["base"] == asdict(self.tables.samples) else None

    def index(self, folder: Path) -> SampleIndex:
        """The samples of the stage's view, held-out ones included, that are encoded; the index is left in a folder.

        Raises:
            UserError: tables and model do not fit, a table has lost files, or nothing is encoded.
        """
        pinned = self.tables
        states, latents = StateTable(pinned.states, RowCache(0)), LatentTable(pinned.latents, RowCache(0))
        check_tables(states, latents, self.run.config.model, *self._ids)
        for table in (pinned.states, pinned.latents):
            refuse_lost_files(table, REMEDY)
        return build_index(pinned, encoded_view(self.run.config, self.stage), folder)

    def measure(self, index: SampleIndex) -> pa.Table:
        """MEASURED of `mos.losses.parts` for every sample of the index, by address; no part on disk is done again."""
        known = self.parts.read()
        todo = tasks_of(index, known)
        if len(known):
            print(f"losses: {len(known)} samples were measured before", flush=True)
        if todo:
            with ray_session(self.run.config.cluster):
                self._run_pool(todo)
        measured = self.parts.read()
        return measured.filter(pc.is_in(measured["address"], pa.array(index.address)))

    def _run_pool(self, todo: pa.Table) -> None:
        config = self.run.config
        pool, size = config.cluster.generate, config.losses.samples_per_part
        blocks = [todo.slice(start, size) for start in range(0, len(todo), size)]
        arguments = (
            self.trained["export"],
            self.tables,
            self.parts.folder,
            config.losses.num_timesteps,
            WorkerResources(**pool.model_dump(exclude={"num"})),
        )
        rows = ray.data.from_arrow(blocks)
        done = map_on_actors(rows, MeasureLosses, arguments, pool, (1, pool.num), key="cluster.generate")
        progress = Progress(len(todo))
        for batch in done.iter_batches(batch_size=None, batch_format="pyarrow"):
            progress.advance(batch)
        progress.close()

    def write(self, measured: pa.Table) -> tuple[TableVersion, dict[str, str]]:
        """Put the losses beside the samples, with those of the run's other stages that were measured on the same ones.

        Returns the new version, and of each column the fingerprint of what it holds.

        Raises:
            UserError: another run changed the table meanwhile.
        """
        columns, names = {loss_column(self.stage): measured}, {loss_column(self.stage): self.step.fingerprint}
        for other in self._others():
            columns[loss_column(other.stage)] = other.parts.read()
            names[loss_column(other.stage)] = other.step.fingerprint
        try:
            return write_columns(self.tables.samples, columns), names
        except TableMovedError as error:
            raise UserError(f"{error}: start this again, nothing is measured twice") from error

    def _others(self) -> Iterator["StageLosses"]:
        for stage in self.run.config.stages():
            if stage == self.stage:
                continue
            with suppress(UserError):
                other = StageLosses(self.run, stage, self.step)
                if other.find() is not None and other.parts.folder.is_dir():
                    yield other

    def draw(self, measured: pa.Table) -> Path:
        """Leave the picture of the hardest and the easiest samples in the folder."""
        limits, samples = self.run.config.curate.image, self.tables.samples
        hardest, easiest = (read_pictures(samples, rows, limits) for rows in extremes(measured))
        path = self.folder / PICTURE
        path.write_bytes(figure_png(lambda theme: extremes_figure(self.stage, hardest, easiest, theme), LIGHT))
        return path


def measure_losses(losses: StageLosses, *, force: bool = False) -> StepRecord:
    """Measure what is not measured, write the column, record it; the record where all that was done before.

    Args:
        losses: what to measure.
        force: whether to begin anew.
    """
    record = None if force else losses.find()
    if record is not None:
        losses.step.ledger.confirm(record, losses.step.settings)
        return record
    if force:
        shutil.rmtree(losses.folder, ignore_errors=True)
    index = losses.index(losses.folder / "index")
    print(f"losses: of {losses.stage} on {len(index)} samples, by source {index.counts('source')}", flush=True)
    measured = losses.measure(index)
    summary = summarise(index, measured)
    samples, columns = losses.write(measured)
    return losses.step.finish(
        {
            "stage": losses.stage,
            "column": loss_column(losses.stage),
            "base": asdict(losses.tables.samples),
            "samples": asdict(samples),
            "columns": columns,
            "folder": str(losses.folder),
            "picture": str(losses.draw(measured)),
            **asdict(summary),
        }
    )


def tasks_of(index: SampleIndex, known: pa.Table) -> pa.Table:
    """TASKS of `operators.measure_losses` for the samples that are not known, by address."""
    columns = [index.address, index.state, index.latent, index.reference]
    tasks = pa.table([pa.array(column) for column in columns], TASKS).sort_by("address")
    return tasks.filter(pc.invert(pc.is_in(tasks["address"], known["address"])))


class Progress:
    """Counts samples as parts come back and prints a line every two seconds."""

    def __init__(self, num: int) -> None:
        self._num, self._done, self._left_out, self._sum = num, 0, 0, 0.0
        self._printed_at = time.monotonic()
        self._first: tuple[int, float] | None = None

    def advance(self, batch: pa.Table) -> None:
        """Count what `MeasureLosses` returned."""
        for part in batch.to_pylist():
            self._done += part["num"]
            self._left_out += part["left_out"]
            self._sum += part["sum"]
        if self._first is None:  # until then the actors started
            self._first = self._done, time.monotonic()
        if time.monotonic() - self._printed_at >= TELL_EVERY_S:
            self._print()

    def close(self) -> None:
        """Print the last line."""
        self._print()

    def _print(self) -> None:
        self._printed_at = time.monotonic()
        mean = self._sum / max(1, self._done - self._left_out)
        print(f"losses: {self._done}/{self._num} samples, mean {mean:.4f}{self._speed()}", flush=True)

    def _speed(self) -> str:
        """Of all parts but the first, in words."""
        done, at = self._first or (0, self._printed_at)
        if self._done == done or self._printed_at == at:
            return ""
        rate = (self._done - done) / (self._printed_at - at)
        return f", {rate:.1f} samples/s, {(self._num - self._done) / rate:.0f} s left"

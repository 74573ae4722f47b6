"""The sets of samples of one stage, by number: 0 is what it began with, each later one holds newer samples.

<stage>/index/, contexts.arrow       of set 0
<stage>/newer/0001/                  the same of set 1, with tables.json: the versions that it pins
<stage>/epochs/                      which set each epoch is of (mos.loader.segments)
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from mos.errors import UserError
from mos.feeding.config import CacheStates
from mos.feeding.contexts import list_contexts, load_contexts, save_contexts, with_newer
from mos.files import written_whole
from mos.loader.checks import check_view
from mos.loader.index import EncodedTables, SampleIndex
from mos.loader.join import build_index
from mos.loader.plan import BatchPlan
from mos.loader.segments import Decisions, Segments
from mos.tables.lost_files import refuse_lost_files
from mos.tables.payloads import REMEDY, LatentTable, RowCache
from mos.tables.views import View
from pipelines.train.job import StageJob, encoded_tables, stage_plan


class StageSamples:
    """The sets that stand in a stage's folder, which driver and workers share."""

    def __init__(self, job: StageJob) -> None:
        self._job = job

    def newest(self) -> int:
        """Number of the newest set."""
        return max((int(path.parent.name) for path in self._job.folder.glob("newer/*/tables.json")), default=0)

    def tables(self, number: int) -> EncodedTables:
        """The versions that a set pins."""
        return self._read(number)[1] if number else self._job.tables

    def curations(self) -> list[str]:
        """Fingerprint of the curation of each later set, in order."""
        return [self._read(number)[0] for number in range(1, self.newest() + 1)]

    def index(self, number: int) -> SampleIndex:
        """A set, joined with its encodings."""
        return SampleIndex.load(self._folder(number) / "index")

    def contexts(self, number: int) -> pa.Table:
        """Contexts of a set and of all before it, CONTEXT_TASKS, for states that no table holds yet."""
        return load_contexts(self._folder(number) / "contexts.arrow")

    def segments(self) -> Segments:
        """Which set each step is of; a stage that may take newer samples decides it as its epochs begin."""

        def load(number: int) -> tuple[SampleIndex, BatchPlan]:
            index = self.index(number)
            return index, stage_plan(self._job, index)

        newest = self.newest if self._job.stage.refresh else None
        return Segments(load, Decisions(self._job.folder / "epochs", newest))

    def taken(self) -> Iterator[dict[str, int]]:
        """Each later set that an epoch was decided to be of: `epoch`, `step` and `samples`, as they came."""
        last = 0
        for segment in Decisions(self._job.folder / "epochs", None).made():
            if segment.samples != last:
                yield asdict(segment)
            last = segment.samples

    def join(self, number: int, tables: EncodedTables, view: View) -> SampleIndex:
        """Join a set with its encodings, and leave that in its folder.

        Raises:
            UserError: a table has lost files, the view does not fit the samples or the stage, or none is encoded.
        """
        stage, contexts, folder = self._job.stage, None, self._folder(number)
        cached = isinstance(self._job.states, CacheStates)
        refuse_lost_files(tables.samples, "put the file back, or curate again into another `tables` folder")
        for table in (tables.latents, *([tables.states] if cached else [])):
            refuse_lost_files(table, REMEDY)
        if not cached:
            contexts = list_contexts(tables.samples, view, tables.sees_images)
            if number:
                contexts = with_newer(self.contexts(number - 1), contexts)
        token_px = LatentTable(tables.latents, RowCache(0)).stride * self._job.model.patch
        try:
            index = build_index(tables, view, folder / "index", contexts)
            check_view(index, batch_size=stage.batch_size, token_px=token_px, sources=dict(stage.sources))
        except UserError:
            shutil.rmtree(folder / "index", ignore_errors=True)
            with suppress(OSError):  # something else is there
                folder.rmdir()
            raise
        if contexts is not None:
            save_contexts(contexts, folder / "contexts.arrow")
        return index

    def add(self, number: int, tables: EncodedTables, curation: str) -> None:
        """Make a set that was joined the newest one: the next epoch may be of it."""
        with written_whole(self._folder(number) / "tables.json") as partial:
            partial.write_text(json.dumps({"curation": curation, "tables": asdict(tables)}, indent=2), encoding="utf-8")

    def _folder(self, number: int) -> Path:
        return self._job.folder / "newer" / f"{number:04d}" if number else self._job.folder

    def _read(self, number: int) -> tuple[str, EncodedTables]:
        known = json.loads((self._folder(number) / "tables.json").read_text(encoding="utf-8"))
        return known["curation"], encoded_tables(known["tables"], known["tables"])

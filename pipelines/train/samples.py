"""The sets of samples of one stage, by number: 0 is what it began with, each later one holds newer samples.

<stage>/index.npz, contexts.arrow    of set 0
<stage>/newer/0001/                  the same of set 1, with tables.json: the versions that it pins
<stage>/epochs/                      which set each epoch is of (mos.loader.segments)
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from mos.feeding.config import CacheStates
from mos.feeding.contexts import list_contexts, load_contexts, save_contexts, with_newer
from mos.files import written_whole
from mos.loader.index import EncodedTables, SampleIndex, build_index
from mos.loader.plan import BatchPlan
from mos.loader.segments import Decisions, Segments
from mos.tables.lance import TableVersion
from mos.tables.views import View
from pipelines.train.job import StageJob, stage_plan


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
        return SampleIndex.load(self._folder(number) / "index.npz")

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

    def join(
        self, number: int, tables: EncodedTables, view: View, check: Callable[[SampleIndex], None] = lambda _: None
    ) -> SampleIndex:
        """Join a set with its encodings, and leave that in its folder, unless `check` raises.

        Raises:
            UserError: the view does not fit the samples, or none is encoded.
        """
        contexts, folder = None, self._folder(number)
        if not isinstance(self._job.states, CacheStates):
            contexts = list_contexts(tables.samples, view, tables.sees_images)
            if number:
                contexts = with_newer(self.contexts(number - 1), contexts)
        index = build_index(tables, view, contexts)
        check(index)
        folder.mkdir(parents=True, exist_ok=True)
        if contexts is not None:
            save_contexts(contexts, folder / "contexts.arrow")
        index.save(folder / "index.npz")
        return index

    def add(self, number: int, tables: EncodedTables, curation: str) -> None:
        """Make a set that was joined the newest one: the next epoch may be of it."""
        with written_whole(self._folder(number) / "tables.json") as partial:
            partial.write_text(json.dumps({"curation": curation, "tables": asdict(tables)}, indent=2), encoding="utf-8")

    def _folder(self, number: int) -> Path:
        return self._job.folder / "newer" / f"{number:04d}" if number else self._job.folder

    def _read(self, number: int) -> tuple[str, EncodedTables]:
        known = json.loads((self._folder(number) / "tables.json").read_text(encoding="utf-8"))
        pinned = {name: TableVersion(**known["tables"][name]) for name in ("samples", "states", "latents")}
        return known["curation"], EncodedTables(**known["tables"] | pinned)

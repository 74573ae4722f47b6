"""Newer samples for a stage that trains: looked for by its driver, taken by its workers when an epoch begins."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mos.errors import UserError
from mos.loader.index import EncodedTables
from mos.watching import watching
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run
from pipelines.run.views import view_of
from pipelines.train.job import StageJob, encoded_tables
from pipelines.train.samples import StageSamples

LOOK_EVERY_S = 30.0
"""Seconds between looks for a curation and an encoding that were finished meanwhile."""


class NewerSamples:
    """The newest samples of a run that are encoded, for one of its stages."""

    def __init__(self, job: StageJob, config: RunConfig, curation: str) -> None:
        """`curation` is the fingerprint of the one that the stage stands on."""
        self._job = job
        self._config = config
        self._samples = StageSamples(job)
        self._seen = {curation, *self._samples.curations()}

    def look(self) -> None:
        """Add what was encoded since the last look; what does not fit the stage is said, and left."""
        found = Run(self._config).newest_encoded()
        if found is None or found[0].fingerprint in self._seen:
            return
        curated, encoded = found
        self._seen.add(curated.fingerprint)
        number = self._samples.newest() + 1
        tables = encoded_tables(curated.outputs, encoded.outputs)
        try:
            count = self._join(number, tables)
        except UserError as error:
            print(f"{self._job.name}: the newest samples are not taken: {error}", flush=True)
            return
        self._samples.add(number, tables, curated.fingerprint)
        print(f"{self._job.name}: {count} samples, the newest, are trained on from the next epoch on", flush=True)

    def _join(self, number: int, tables: EncodedTables) -> int:
        job = self._job
        if (tables.codec_id, tables.sees_images) != (job.tables.codec_id, job.tables.sees_images):
            raise UserError(f"their latents are of codec {tables.codec_id}, the stage trains on {job.tables.codec_id}")
        return len(self._samples.join(number, tables, view_of(self._config, job.name)))


@contextmanager
def taking_newer(newer: NewerSamples | None) -> Iterator[None]:
    """Look for newer samples now, and for the duration of the block; None: the stage keeps those it began with."""
    if newer is None:
        yield
        return
    newer.look()

    def watch(ended: threading.Event) -> None:
        while not ended.wait(LOOK_EVERY_S):
            newer.look()

    with watching("newer-samples", watch):
        yield

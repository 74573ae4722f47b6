"""Samples that cannot be trained on because a latent or a hidden state is not a number: named once, and counted."""

import threading
from collections.abc import Callable

from mos.errors import UserError
from mos.loader.index import SampleIndex
from mos.tables.lance import TableVersion, rows_at

MOST_SHARE = 0.01
"""Of a view's samples: beyond it a table is damaged rather than a sample bad."""
ALWAYS_BORNE = 10
"""Samples of a small view."""


class LeftOutSamples:
    """The samples that one rank has left out of its batches so far."""

    def __init__(self, index: SampleIndex, samples: TableVersion, say: Callable[[str], None]) -> None:
        """`say` gets a line for every sample, the first time."""
        self._index = index
        self._samples = samples
        self._say = say
        self._most = max(ALWAYS_BORNE, int(MOST_SHARE * len(index)))
        self._known: set[int] = set()
        self._lock = threading.Lock()

    def add(self, sample: int, reason: str) -> None:
        """Leave out a sample of the index.

        Raises:
            UserError: more are left out than a sound table has.
        """
        with self._lock:
            if sample in self._known:
                return
            self._known.add(sample)
        self._say(f"sample {self._name(sample)} is left out: {reason}")
        if len(self._known) > self._most:
            raise UserError(
                f"{len(self._known)} of {len(self._index)} samples are left out, the last because {reason}: the "
                "table is damaged, remove it and run `python pipelines/encode.py <config> --force`"
            )

    def _name(self, sample: int) -> str:
        """Id, source and row; looked up, because an index of many samples has no room for ids."""
        address = int(self._index.address[sample])
        fragment, row = address >> 32, address & 0xFFFFFFFF
        source = self._index.sources[self._index.source[sample]]
        (sample_id,) = rows_at(self._samples, ["sample_id"], [address])["sample_id"].to_pylist()
        return f"{sample_id} (source {source}, row {row} of fragment {fragment} of {self._samples.uri})"

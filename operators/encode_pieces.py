"""Pieces of a table of tasks, each by its place in it, -> what another operator makes of their tasks."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from mos.tables.lance import TableVersion


class EncodePieces:
    """Callable class for `Dataset.map_batches` on Arrow tables; holds an operator, and reads its tasks for it, so that
    they pass neither the driver nor Ray's object store.

    Reads   start, stop: rows of the table of tasks
    Writes  what the operator writes
    """

    def __init__(self, tasks: TableVersion, operator: type, *arguments: Any) -> None:
        self._tasks = tasks.open()
        self._operate = operator(*arguments)

    def __call__(self, pieces: pa.Table) -> Iterator[pa.Table]:
        """Work on each piece, at least one, as on a block of its own."""
        for piece in pieces.to_pylist():
            start, stop = piece["start"], piece["stop"]
            yield from self._operate(self._tasks.to_table(offset=start, limit=stop - start))

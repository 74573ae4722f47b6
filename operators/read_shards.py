"""Units of work -> candidates with their bytes."""

from collections import Counter
from collections.abc import Iterator, Mapping

import pyarrow as pa

from mos.curation.config import CurateConfig
from mos.curation.items import ITEMS, Item
from mos.curation.shards import read_unit
from mos.curation.sources import EditsSource, SourceConfig, Unit
from mos.images.reasons import Notice
from mos.tables.schema import TASK_EDIT, TASK_GENERATE

BATCH_ROWS = 256
BATCH_BYTES = 16 * 2**20
"""A batch is passed on when it has either."""


class ReadShards:
    """Reads each unit front to back and yields batches bounded in rows and bytes.

    Reads   unit: str, `mos.curation.sources.Unit` as JSON
    Writes  the columns of `mos.curation.items.ITEMS`; every item of the unit once, refused ones without bytes, then a
            row for each kind of notice, its code for a reason and its number for a detail
    """

    def __init__(self, config: CurateConfig) -> None:
        self._config = config
        self._sources = {source.name: source for source in config.sources}

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """One or more tables for each unit."""
        for text in batch.column("unit").to_pylist():
            unit = Unit.from_json(text)
            source = self._sources[unit.source]
            yield from self._batches(unit, source)

    def _batches(self, unit: Unit, source: SourceConfig) -> Iterator[pa.Table]:
        rows: list[Item] = []
        num_bytes = 0
        notices = Counter[Notice]()
        for item in read_unit(unit, source, self._config, notices):
            rows.append(item)
            num_bytes += item.num_bytes
            if len(rows) >= BATCH_ROWS or num_bytes >= BATCH_BYTES:
                yield _table(unit, source, rows)
                rows, num_bytes = [], 0
        if rows:
            yield _table(unit, source, rows)
        if +notices:
            yield _notices(unit, source, +notices)


def _notices(unit: Unit, source: SourceConfig, notices: Mapping[Notice, int]) -> pa.Table:
    """Rows that count what is no item; the last column of each tells how many."""
    table = _table(unit, source, [Item("")] * len(notices))
    for name, values in (("reason", [str(notice) for notice in notices]), ("detail", map(str, notices.values()))):
        index = table.schema.get_field_index(name)
        table = table.set_column(index, table.schema.field(index), pa.array(values, pa.string()))
    return table


def _table(unit: Unit, source: SourceConfig, rows: list[Item]) -> pa.Table:
    task = TASK_EDIT if isinstance(source, EditsSource) else TASK_GENERATE
    columns = {
        "source": [unit.source] * len(rows),
        "shard": [unit.shard] * len(rows),
        "key": [_storable(item.key) for item in rows],
        "task": [task] * len(rows),
        "unit": [unit.index] * len(rows),
        "order": [unit.index << 32 | item.place for item in rows],
        "image": [item.image for item in rows],
        "reference": [item.reference for item in rows],
        "caption": [item.caption for item in rows],
        "meta": [item.meta for item in rows],
        "reason": [item.refusal and str(item.refusal.reason) for item in rows],
        "detail": [item.refusal and _storable(item.refusal.detail) for item in rows],
    }
    return pa.table(columns, schema=ITEMS)


def _storable(text: str) -> str:
    """Text from outside may hold lone surrogates, which no table takes."""
    return text.encode("utf-8", "backslashreplace").decode()

"""Small samples tables with several sources, fragments and deleted rows."""

from pathlib import Path

import pyarrow as pa

from mos.tables.lance import TableVersion, commit_fragments, create_table, latest_version, write_rows
from mos.tables.schema import samples_schema
from tests import samples
from tests.samples import RESOLUTIONS, Pair

COLOURS = ("red", "green", "blue", "yellow")


def samples_table(folder: Path, fragments: tuple[int, ...] = (7, 1, 10)) -> TableVersion:
    """Pairs of the sources `odd` and `even`, every third row an edit of `edits`; the row with key 4 is deleted."""
    schema, uri = samples_schema(RESOLUTIONS), str(folder / "samples.lance")
    create_table(uri, schema)
    number = 0
    for num in fragments:
        rows = [sample_row(index) for index in range(number, number + num)]
        commit_fragments(uri, write_rows(uri, pa.Table.from_pylist(rows, schema=schema)), num)
        number += num
    latest_version(uri).open().delete("key = '4'")
    return latest_version(uri)


def sample_row(index: int) -> dict:
    """Row `index`: its key is its number."""
    is_edit = index % 3 == 2
    row = samples.sample_row(index, Pair(f"caption {index}", COLOURS[index % 4], "white" if is_edit else None))
    source = "edits" if is_edit else "odd" if index % 2 else "even"
    meta = None if index % 5 else '{"license": "CC0", "ünïcode": [1, 2]}'
    return row | {"source": source, "width": 64 + index, "meta": meta}

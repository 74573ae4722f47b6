"""The distinct contexts of a stage's view, numbered: what a stage asks for where no table holds its states yet."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mos.files import written_whole
from mos.tables.encode_plan import distinct_contexts
from mos.tables.lance import TableVersion
from mos.tables.views import View


def list_contexts(samples: TableVersion, view: View, sees_images: bool) -> pa.Table:
    """One row of CONTEXT_TASKS per distinct context of a view, null contexts included, in order of appearance.

    Raises:
        UserError: the view's resolution or filter does not fit the samples table.
    """
    return distinct_contexts(samples, view, sees_images)


def with_newer(contexts: pa.Table, newer: pa.Table) -> pa.Table:
    """Contexts and those of a newer list that are not among them, behind them: numbers stay as they are."""
    known = pc.index_in(newer["context_key"], contexts["context_key"])
    return pa.concat_tables([contexts, newer.filter(pc.is_null(known))]).combine_chunks()


def save_contexts(contexts: pa.Table, path: Path) -> None:
    """Write them in one rename."""
    with (
        written_whole(path) as partial,
        pa.OSFile(str(partial), "wb") as file,
        pa.ipc.new_file(file, contexts.schema) as writer,
    ):
        writer.write_table(contexts)


def load_contexts(path: Path) -> pa.Table:
    """Contexts of a file of `save_contexts`, mapped into memory rather than read."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()

"""The distinct contexts of a stage's view, numbered: what a stage asks for where no table holds its states yet."""

from pathlib import Path

import pyarrow as pa

from mos.files import written_whole
from mos.states.keys import context_key
from mos.tables.encode_tasks import CONTEXT_TASKS, NO_IMAGE
from mos.tables.lance import TableVersion
from mos.tables.schema import TASK_EDIT
from mos.tables.views import View, count_view


def list_contexts(samples: TableVersion, view: View, sees_images: bool) -> pa.Table:
    """One row of CONTEXT_TASKS per distinct context of a view, null contexts included, in order of appearance.

    Raises:
        UserError: the view's resolution or filter does not fit the samples table.
    """
    dataset = samples.open()
    count_view(dataset, view)  # explains what is wrong with a view
    columns = ["task", "caption", "reference_hash", "_rowoffset"]
    scanner = dataset.scanner(columns=columns, filter=view.predicate(), scan_in_order=True)
    tasks: dict[str, tuple[str, int]] = {}
    for batch in scanner.to_batches():
        for task, caption, reference, row in zip(*(batch.column(name).to_pylist() for name in columns), strict=True):
            image = reference if sees_images and task == TASK_EDIT else None
            for text in (caption, ""):
                tasks.setdefault(context_key(text, image), (text, NO_IMAGE if image is None else row))
    columns_of = zip(*((key, *task) for key, task in tasks.items()), strict=True) if tasks else ((), (), ())
    return pa.table(list(map(pa.array, columns_of)), names=CONTEXT_TASKS.names).cast(CONTEXT_TASKS)


def save_contexts(contexts: pa.Table, path: Path) -> None:
    """Write them in one rename."""
    with (
        written_whole(path) as partial,
        pa.OSFile(str(partial), "wb") as file,
        pa.ipc.new_file(file, contexts.schema) as writer,
    ):
        writer.write_table(contexts)


def load_contexts(path: Path) -> pa.Table:
    """What `save_contexts` wrote, mapped into memory rather than read."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()

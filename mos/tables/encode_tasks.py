"""Encoding tasks of a samples table: its distinct contexts and latents, as light rows that point back into it.

A task names its image by row number and column of a pinned samples version; the bytes never pass the driver.
"""

from collections.abc import Iterable, Iterator

import pyarrow as pa

from mos.states.keys import context_key, latent_key
from mos.tables.lance import TableVersion
from mos.tables.schema import TASK_EDIT
from mos.tables.views import View, count_view

NO_IMAGE = -1
"""Row number of a context without an image."""

CONTEXT_TASKS = pa.schema(
    [
        pa.field("context_key", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),  # samples row whose `reference` the tower sees, or NO_IMAGE
        pa.field("version", pa.int64(), nullable=False),  # of the samples table that has the row
    ]
)

LATENT_TASKS = pa.schema(
    [
        pa.field("latent_key", pa.string(), nullable=False),
        pa.field("bucket", pa.string(), nullable=False),  # "<height>x<width>" px
        pa.field("column", pa.string(), nullable=False),  # `image` or `reference`
        pa.field("row", pa.int64(), nullable=False),  # samples row that holds the image
    ]
)


def distinct_contexts(samples: TableVersion, predicate: str, sees_images: bool) -> pa.Table:
    """One row of CONTEXT_TASKS per distinct context of the samples that a filter chooses, in order of appearance.

    An edit's reference image belongs to its context, and to the null context beside it, if the tower sees images.
    """
    columns = ["task", "caption", "reference_hash", "_rowoffset"]
    scanner = samples.open().scanner(columns=columns, filter=predicate, scan_in_order=True)
    tasks: dict[str, tuple[str, int]] = {}
    for batch in scanner.to_batches():
        for task, caption, reference, row in zip(*(batch.column(name).to_pylist() for name in columns), strict=True):
            image = reference if sees_images and task == TASK_EDIT else None
            for text in (caption, ""):
                tasks.setdefault(context_key(text, image), (text, NO_IMAGE if image is None else row))
    return _table([(key, text, row, samples.version) for key, (text, row) in tasks.items()], CONTEXT_TASKS)


def plan_contexts(samples: TableVersion, views: Iterable[View], sees_images: bool) -> pa.Table:
    """The distinct contexts of the samples of some views, longest text first, and the null one.

    Neighbours share a forward pass: equal lengths waste no padding, and the most memory is needed first.

    Raises:
        UserError: a view does not fit the samples table.
    """
    predicates = []
    for view in views:
        count_view(samples.open(), view)  # explains what is wrong with a view
        predicates.append(f"({view.predicate()})")
    rows = distinct_contexts(samples, " OR ".join(predicates), sees_images).to_pylist() if predicates else []
    null = context_key("")
    if all(row["context_key"] != null for row in rows):
        rows.append({"context_key": null, "text": "", "row": NO_IMAGE, "version": samples.version})
    return pa.Table.from_pylist(sorted(rows, key=lambda row: -len(row["text"])), CONTEXT_TASKS)


def plan_latents(samples: TableVersion, views: Iterable[View], codec_id: str) -> pa.Table:
    """One row of LATENT_TASKS per distinct image and bucket of some views, bucket by bucket; references share the
    target's bucket.
    """
    tasks: dict[str, tuple[str, str, int]] = {}
    for view in views:
        for row, sample in _light_rows(samples, view):
            images = [("image", sample["image_hash"])]
            if sample["task"] == TASK_EDIT:
                images.append(("reference", sample["reference_hash"]))
            for column, image_hash in images:
                tasks.setdefault(latent_key(image_hash, codec_id, sample["bucket"]), (sample["bucket"], column, row))
    return _table(sorted(((key, *task) for key, task in tasks.items()), key=lambda task: task[1:]), LATENT_TASKS)


def keep_missing(tasks: pa.Table, present: Iterable[str]) -> pa.Table:
    """The tasks whose key, their first column, is not among those present."""
    known = set(present)
    return tasks.filter(pa.array([key not in known for key in tasks.column(0).to_pylist()], pa.bool_()))


def num_pieces(num_rows: int, rows_per_fragment: int, num_workers: int) -> int:
    """Into how many fragments to cut tasks: none above its bound, one for each actor while there are rows enough."""
    return max(-(-num_rows // rows_per_fragment), min(num_workers, num_rows))


def _light_rows(samples: TableVersion, view: View) -> Iterator[tuple[int, dict]]:
    """Row number, and task, hashes and bucket, of every sample of a view, in row order, without its images."""
    columns = ["task", "image_hash", "reference_hash", f"bucket_{view.resolution}", "_rowoffset"]
    for batch in samples.open().scanner(columns=columns, filter=view.predicate(), scan_in_order=True).to_batches():
        for row in batch.rename_columns([*columns[:3], "bucket", "row"]).to_pylist():
            yield row.pop("row"), row


def _table(rows: list[tuple], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )

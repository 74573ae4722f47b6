"""A stage's view, joined: for every sample the rows of its states, latent and reference. Built once per stage.

The index is what the batch plan and every rank work from: a few integers a sample, in one `.npz` file beside the
stage's checkpoints, so that ranks neither scan tables nor compute keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mos.errors import UserError
from mos.schema import TASK_EDIT
from mos.states.keys import latent_key, sample_contexts
from mos.tables import TableVersion

NO_ROW = -1
"""Row of a reference where a sample has none."""


@dataclass(frozen=True, eq=False)
class SampleIndex:
    """Rows of a view, ordered as in the samples table; every array is [samples] unless said otherwise."""

    group: NDArray[np.int16]
    """Index into `groups`."""
    groups: tuple[str, ...]
    """What the samples of a batch share: `<task> <height>x<width>`, sorted."""
    source: NDArray[np.int16]
    """Index into `sources`."""
    sources: tuple[str, ...]
    """Names of the configured sources, sorted."""
    state: NDArray[np.int64]
    """Row of the context in the states table."""
    null_state: NDArray[np.int64]
    """Row of the context that replaces it under caption dropout."""
    latent: NDArray[np.int64]
    """Row of the image in the latents table."""
    reference: NDArray[np.int64]
    """Row of the image to edit in the latents table, or `NO_ROW`."""

    def __len__(self) -> int:
        return len(self.group)

    def counts(self, column: str) -> dict[str, int]:
        """Samples by `group` or by `source`."""
        names = self.groups if column == "group" else self.sources
        numbers = np.bincount(getattr(self, column), minlength=len(names))
        return dict(zip(names, numbers.tolist(), strict=True))

    def save(self, path: Path) -> None:
        """Write the index in one rename."""
        partial = path.with_name(f".{path.stem}.partial.npz")
        arrays: dict[str, Any] = {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}
        np.savez(partial, **arrays)
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "SampleIndex":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            values: dict[str, Any] = {field.name: arrays[field.name] for field in fields(cls)}
        for name in ("groups", "sources"):
            values[name] = tuple(values[name].tolist())
        return cls(**values)


@dataclass(frozen=True)
class EncodedTables:
    """Pinned versions of what a stage trains on, and how their keys are made."""

    samples: TableVersion
    states: TableVersion
    latents: TableVersion
    codec_id: str
    sees_images: bool
    """Whether the tower reads the image to edit."""


def build_index(tables: EncodedTables, *, resolution: int, filter: str = "", tasks: Sequence[str]) -> SampleIndex:
    """Join a view of the samples with its encodings.

    Args:
        tables: the pinned tables.
        resolution: column `bucket_<resolution>`; samples too small for it are left out.
        filter: Lance SQL over the columns of the samples table; empty keeps every row.
        tasks: kinds of sample to keep.

    Raises:
        UserError: the table has no such resolution, the filter is not understood, the view is empty, or an
            encoding is missing.
    """
    view = _scan(tables.samples, f"bucket_{resolution}", filter, tasks)
    if not view.num_rows:
        raise UserError(
            f"the view of tasks {tuple(tasks)} at resolution {resolution} with filter {filter!r} has 0 of the "
            f"{tables.samples.rows} samples: loosen the filter or add larger images"
        )
    states, null_states = _context_keys(view, tables.sees_images)
    bucket = view["bucket"]
    latents = _latent_keys(view["image_hash"], bucket, tables.codec_id)
    references = _latent_keys(_references(view), bucket, tables.codec_id)
    group, groups = _codes(pc.binary_join_element_wise(view["task"], bucket, " "))
    source, sources = _codes(view["source"])
    state_keys = tables.states.open().to_table(columns=["context_key"])["context_key"]
    image_keys = tables.latents.open().to_table(columns=["latent_key"])["latent_key"]
    return SampleIndex(
        group=group,
        groups=groups,
        source=source,
        sources=sources,
        state=_find(states, state_keys, tables.states.uri),
        null_state=_find(null_states, state_keys, tables.states.uri),
        latent=_find(latents, image_keys, tables.latents.uri),
        reference=_find(references, image_keys, tables.latents.uri),
    )


def _scan(samples: TableVersion, bucket: str, filter: str, tasks: Sequence[str]) -> pa.Table:
    """Light columns of the view, with the stage's bucket renamed `bucket`."""
    dataset = samples.open()
    if bucket not in dataset.schema.names:
        has = [name for name in dataset.schema.names if name.startswith("bucket_")]
        raise UserError(f"table {samples.uri} has no column {bucket}, only {has}: add the resolution to [curate]")
    kept = f"{bucket} IS NOT NULL AND task IN ({', '.join(repr(task) for task in tasks)})"
    columns = ["task", "source", "caption", "image_hash", "reference_hash", bucket]
    try:
        view = dataset.to_table(columns=columns, filter=f"({filter}) AND {kept}" if filter else kept)
    except (ValueError, OSError) as error:
        raise UserError(f"filter {filter!r} is not understood by table {samples.uri}: {error}") from error
    return view.rename_columns([*columns[:-1], "bucket"])


def _context_keys(view: pa.Table, sees_images: bool) -> tuple[list[str], list[str]]:
    pairs = zip(view["caption"].to_pylist(), _references(view), strict=True)
    keys = [sample_contexts(caption, reference, sees_images) for caption, reference in pairs]
    return [key for key, _ in keys], [null for _, null in keys]


def _references(view: pa.Table) -> list[str | None]:
    """Hash of the image to edit, for samples whose task is to edit one."""
    pairs = zip(view["task"].to_pylist(), view["reference_hash"].to_pylist(), strict=True)
    return [reference if task == TASK_EDIT else None for task, reference in pairs]


def _latent_keys(image_hashes: pa.ChunkedArray | list[str | None], bucket: pa.ChunkedArray, codec_id: str) -> list:
    hashes = image_hashes if isinstance(image_hashes, list) else image_hashes.to_pylist()
    pairs = zip(hashes, bucket.to_pylist(), strict=True)
    return [None if image is None else latent_key(image, codec_id, size) for image, size in pairs]


def _codes(names: pa.ChunkedArray) -> tuple[NDArray[np.int16], tuple[str, ...]]:
    """Each name as a number into the sorted distinct names."""
    distinct = sorted(names.unique().to_pylist())
    return pc.index_in(names, pa.array(distinct)).to_numpy().astype(np.int16), tuple(distinct)


def _find(keys: Sequence[str | None], present: pa.ChunkedArray, uri: str) -> NDArray[np.int64]:
    """Row of each key in a table; `NO_ROW` for no key."""
    wanted = pa.array(keys, pa.string())
    rows = pc.fill_null(pc.index_in(wanted, present, skip_nulls=True), NO_ROW).to_numpy(zero_copy_only=False)
    num_missing = int(((rows == NO_ROW) & pc.is_valid(wanted).to_numpy(zero_copy_only=False)).sum())
    if num_missing:
        raise UserError(
            f"table {uri} lacks {num_missing} of the {len(keys)} rows that this stage needs: run pipelines/encode.py"
        )
    return rows.astype(np.int64)

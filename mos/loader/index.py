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
from mos.files import written_whole
from mos.states.keys import latent_key, sample_contexts
from mos.tables.lance import TableVersion
from mos.tables.schema import TASK_EDIT
from mos.tables.views import View, count_view

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
    address: NDArray[np.int64]
    """Row address of the sample in the samples table, Lance's `_rowaddr`."""
    num_left_out: int = 0
    """Samples of the view without encodings, which are not here."""
    num_without_states: int = 0
    """Those of them whose hidden states are in no table; the others lack a latent."""

    def __len__(self) -> int:
        return len(self.group)

    def counts(self, column: str) -> dict[str, int]:
        """Samples by `group` or by `source`."""
        names = self.groups if column == "group" else self.sources
        numbers = np.bincount(getattr(self, column), minlength=len(names))
        return dict(zip(names, numbers.tolist(), strict=True))

    def save(self, path: Path) -> None:
        """Write the index in one rename."""
        arrays: dict[str, Any] = {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}
        with written_whole(path) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> "SampleIndex":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            values: dict[str, Any] = {field.name: arrays[field.name] for field in fields(cls)}
        for name in ("groups", "sources"):
            values[name] = tuple(values[name].tolist())
        return cls(**values | {name: int(values[name]) for name in ("num_left_out", "num_without_states")})


@dataclass(frozen=True)
class EncodedTables:
    """Pinned versions of what a stage trains on, and how their keys are made."""

    samples: TableVersion
    states: TableVersion
    latents: TableVersion
    codec_id: str
    sees_images: bool
    """Whether the tower reads the image to edit."""


def build_index(tables: EncodedTables, view: View, contexts: pa.Table | None = None) -> SampleIndex:
    """Join a view of the samples with its encodings; samples that have none are left out.

    Args:
        tables: what the stage trains on.
        view: its samples.
        contexts: for states that no table holds yet, the contexts (`mos.feeding.contexts`) that `state` and
            `null_state` then number.

    Raises:
        UserError: the view's resolution or filter does not fit the samples table, or nothing is left.
    """
    samples = _scan(tables.samples, view)
    states, null_states = _context_keys(samples, tables.sees_images)
    bucket, references = samples["bucket"], _references(samples)
    known = tables.states.open().to_table(columns=["context_key"]) if contexts is None else contexts
    state_keys = known["context_key"]
    image_keys = tables.latents.open().to_table(columns=["latent_key"])["latent_key"]
    group, groups = _codes(pc.binary_join_element_wise(samples["task"], bucket, " "))
    source, sources = _codes(samples["source"])
    columns: dict[str, NDArray] = {
        "group": group,
        "source": source,
        "address": samples["_rowaddr"].to_numpy().astype(np.int64),
        "state": _find(states, state_keys),
        "null_state": _find(null_states, state_keys),
        "latent": _find(_latent_keys(samples["image_hash"].to_pylist(), bucket, tables.codec_id), image_keys),
        "reference": _find(_latent_keys(references, bucket, tables.codec_id), image_keys),
    }
    is_edit = np.array([reference is not None for reference in references], dtype=bool)
    told = np.minimum(columns["state"], columns["null_state"]) != NO_ROW
    kept = told & (columns["latent"] != NO_ROW) & (~is_edit | (columns["reference"] != NO_ROW))
    if not kept.any():
        raise UserError(
            f"the view {view.predicate()!r} has {len(kept)} samples in {tables.samples.uri}, of which 0 are encoded: "
            "loosen the filter, add larger images, or run pipelines/encode.py"
        )
    arrays: dict[str, Any] = {name: values[kept] for name, values in columns.items()}
    arrays |= {"num_left_out": int((~kept).sum()), "num_without_states": int((~told).sum())}
    return SampleIndex(groups=groups, sources=sources, **arrays)


def _scan(samples: TableVersion, view: View) -> pa.Table:
    """Light columns of the view, with the stage's bucket renamed `bucket`."""
    dataset = samples.open()
    count_view(dataset, view)  # explains what is wrong with a view
    columns = ["task", "source", "caption", "image_hash", "reference_hash", f"bucket_{view.resolution}"]
    rows = dataset.scanner(columns=columns, filter=view.predicate(), with_row_address=True).to_table()
    return rows.rename_columns([*columns[:-1], "bucket", "_rowaddr"])


def _context_keys(view: pa.Table, sees_images: bool) -> tuple[list[str], list[str]]:
    pairs = zip(view["caption"].to_pylist(), _references(view), strict=True)
    keys = [sample_contexts(caption, reference, sees_images) for caption, reference in pairs]
    return [key for key, _ in keys], [null for _, null in keys]


def _references(view: pa.Table) -> list[str | None]:
    """Hash of the image to edit, for samples whose task is to edit one."""
    pairs = zip(view["task"].to_pylist(), view["reference_hash"].to_pylist(), strict=True)
    return [reference if task == TASK_EDIT else None for task, reference in pairs]


def _latent_keys(image_hashes: Sequence[str | None], bucket: pa.ChunkedArray, codec_id: str) -> list[str | None]:
    pairs = zip(image_hashes, bucket.to_pylist(), strict=True)
    return [None if image is None else latent_key(image, codec_id, size) for image, size in pairs]


def _codes(names: pa.ChunkedArray) -> tuple[NDArray[np.int16], tuple[str, ...]]:
    """Each name as a number into the sorted distinct names."""
    distinct = sorted(names.unique().to_pylist())
    return pc.index_in(names, pa.array(distinct, pa.string())).to_numpy().astype(np.int16), tuple(distinct)


def _find(keys: Sequence[str | None], present: pa.ChunkedArray) -> NDArray[np.int64]:
    """Row of each key in a table; `NO_ROW` where it has none."""
    rows = pc.index_in(pa.array(keys, pa.string()), present, skip_nulls=True)
    return pc.fill_null(rows, NO_ROW).to_numpy(zero_copy_only=False).astype(np.int64)

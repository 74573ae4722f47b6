"""A stage's view, joined: for every sample the rows of its states, latent and reference. Built once per stage.

The index is what the batch plan and every rank work from: 44 bytes a sample, in files of a folder beside the stage's
checkpoints. Ranks neither scan tables nor compute keys: they map the files, so that those of one machine share one copy
of what was looked at and opening it takes no time, however many samples there are. What belongs to one sample lies
together: a sample that nobody on a machine has looked at costs one read of a page.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mos.loader.cells import CellRows
from mos.loader.columns import map_column
from mos.tables.lance import TableVersion

NO_ROW = -1
"""Row of a reference where a sample has none."""
SAMPLE = np.dtype(
    [
        ("state", np.int64),
        ("null_state", np.int64),
        ("latent", np.int64),
        ("reference", np.int64),
        ("address", np.int64),
        ("group", np.int16),
        ("source", np.int16),
    ]
)
"""One sample in `samples.npy`; beside it `by_cell.npy` and `cells.npy`, and `names.json` of what is numbered."""


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
    cells: CellRows
    """The samples by group (a cell's bucket) and source, for the batch plan."""
    num_left_out: int = 0
    """Samples of the view without encodings, which are not here."""
    num_without_states: int = 0
    """Those of them whose hidden states are in no table; the others lack a latent."""

    def __len__(self) -> int:
        return len(self.group)

    def counts(self, column: str) -> dict[str, int]:
        """Samples by `group` or by `source`."""
        names, place = (self.groups, 1) if column == "group" else (self.sources, 0)
        counted = dict.fromkeys(names, 0)
        for cell in self.cells.cells.tolist():
            counted[names[cell[place]]] += cell[2]
        return counted

    def first(self, group: int, count: int) -> NDArray[np.intp]:
        """The first samples of a group, at most so many, in order."""
        ends = np.cumsum(self.cells.cells[:, 2]).tolist()
        parts = [
            self.cells.rows[end - size : end][:count]
            for end, (_, number, size) in zip(ends, self.cells.cells.tolist(), strict=True)
            if number == group
        ]
        return np.sort(np.concatenate(parts)).astype(np.intp)[:count]

    @classmethod
    def load(cls, folder: Path) -> "SampleIndex":
        """The index that `mos.loader.join.build_index` left in a folder, its columns mapped."""
        names = json.loads((folder / "names.json").read_text(encoding="utf-8"))
        samples = map_column(folder / "samples.npy")
        return cls(
            groups=tuple(names["groups"]),
            sources=tuple(names["sources"]),
            num_left_out=names["num_left_out"],
            num_without_states=names["num_without_states"],
            cells=CellRows(map_column(folder / "by_cell.npy"), np.load(folder / "cells.npy")),
            **{name: samples[name] for name in SAMPLE.fields or ()},
        )


@dataclass(frozen=True)
class EncodedTables:
    """Pinned versions of what a stage trains on, and how their keys are made."""

    samples: TableVersion
    states: TableVersion
    latents: TableVersion
    codec_id: str
    sees_images: bool
    """Whether the tower reads the image to edit."""

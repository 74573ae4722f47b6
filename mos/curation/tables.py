"""The samples and rejects tables: where the last finished run left them, and what a new run adds, exactly once.

A run appends, then deletes the copies it found, then appends its rejects: three commits. Until its record names the
last versions they are not part of the run, and the next run first puts both tables back to the recorded ones.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import lance
import pyarrow as pa

from mos.curation.manifest import Manifest
from mos.errors import UserError
from mos.fingerprint import fingerprint
from mos.tables.key_columns import NUM_KEYS
from mos.tables.lance import (
    TableMovedError,
    TableVersion,
    append_fragments,
    delete_places,
    open_table,
    write_rows,
)
from mos.tables.schema import REJECTS, samples_schema


@dataclass(frozen=True)
class CurationOutputs:
    """Both tables after a finished run; what the step's record holds."""

    samples: TableVersion
    rejects: TableVersion
    read: int
    """Items read so far, over all runs that built these tables."""
    kept: int
    rejected: dict[str, int]
    """Items by reason."""
    buckets: dict[str, dict[str, int]]
    """Rows by resolution and bucket."""
    settings: str
    """`CurateConfig.settings_id` the tables were made under."""
    units: list[str]
    """Ids of the units read so far."""
    identity: str
    """Changes with the settings or with the set of samples, and with nothing else."""
    notices: dict[str, int] = field(default_factory=dict)
    """What was counted apart, by `mos.images.reasons.Notice`."""
    sum_of_ids: str = ""
    """Of the samples, 64 hex digits, see `mos.tables.key_columns.add_words`; a run that adds samples adds theirs."""

    def outputs(self) -> dict[str, Any]:
        """Plain data for the record."""
        return asdict(self)

    @classmethod
    def from_outputs(cls, outputs: dict[str, Any]) -> Self:
        """Outputs of the curate step, as its record holds them."""
        tables = {name: TableVersion(**outputs[name]) for name in ("samples", "rejects")}
        return cls(**outputs | tables)

    def can_grow_into(self, settings: str, units: Sequence[str], uri: str) -> bool:
        """True if these tables hold nothing that a run over `units` would not: then only new units are read.

        If a unit was changed or removed, a copy dropped for its sake might now be missing: everything is read again.
        """
        return self.settings == settings and self.samples.uri == uri and set(self.units) <= set(units)


@dataclass(frozen=True)
class SampleTables:
    """Both tables, ready to be added to."""

    samples: TableVersion
    rejects: TableVersion
    base: CurationOutputs | None
    """What they hold; None: nothing."""

    @property
    def kept(self) -> TableVersion | None:
        """The samples of earlier runs; None where there are none."""
        return self.samples if self.samples.rows else None


def open_sample_tables(
    samples_uri: str, rejects_uri: str, resolutions: tuple[int, ...], base: CurationOutputs | None
) -> SampleTables:
    """Put both tables into the state `base` recorded, or make them empty where it is None."""
    if base is None:
        return SampleTables(_empty(samples_uri, samples_schema(resolutions)), _empty(rejects_uri, REJECTS), None)
    return SampleTables(_restore(base.samples), _restore(base.rejects), base)


def add_marks(tables: SampleTables, marks: Manifest, units: Sequence[str], settings: str) -> CurationOutputs:
    """Commit what a run wrote, without the copies it found, and its rejects.

    Args:
        tables: the tables the run wrote fragments for.
        marks: every item the run read, duplicates refused.
        units: ids of all units the tables now cover.
        settings: see `CurationOutputs`.

    Raises:
        RuntimeError: items went missing on the way: read is not kept plus rejected.
        UserError: another run changed the tables meanwhile.
    """
    base = tables.base
    samples = _commit_samples(tables.samples, marks)
    rejects = _append(tables.rejects, *_write_rejects(tables.rejects.uri, marks))
    read = marks.num_items + (base.read if base else 0)
    if read != samples.rows + rejects.rows:
        raise RuntimeError(f"read {read} items, but kept {samples.rows} and rejected {rejects.rows}")
    total = (marks.sum_of_ids() + (int(base.sum_of_ids, 16) if base else 0)) % NUM_KEYS
    sum_of_ids = f"{total:064x}"
    return CurationOutputs(
        samples=samples,
        rejects=rejects,
        read=read,
        kept=samples.rows,
        rejected=_added(base.rejected if base else {}, marks.reasons()),
        buckets={side: _added(base.buckets[side] if base else {}, new) for side, new in marks.buckets().items()},
        settings=settings,
        units=list(units),
        identity=fingerprint(settings=settings, samples=f"{samples.rows}:{sum_of_ids}"),
        notices=_added(base.notices if base else {}, marks.notices),
        sum_of_ids=sum_of_ids,
    )


def _added(before: Mapping[str, int], new: Mapping[str, int]) -> dict[str, int]:
    """Counts of both, the largest first."""
    return dict((Counter(before) + Counter(new)).most_common())


def _write_rejects(uri: str, marks: Manifest) -> tuple[list[str], int]:
    """Fragments of the refused items, and how many they are."""
    fragments, num = [], 0
    for refused in marks.rejects():
        fragments += write_rows(uri, refused)
        num += refused.num_rows
    return fragments, num


def _commit_samples(table: TableVersion, marks: Manifest) -> TableVersion:
    """Append the run's fragments, then delete the rows whose mark was refused after they were written."""
    committed = _append(table, marks.fragments(), marks.num_written)
    number = {fragment.metadata.files[0].path: fragment.fragment_id for fragment in committed.open().get_fragments()}
    copies = ((number[name], places) for name, places in marks.written_copies())
    return _unmoved(lambda: delete_places(committed, copies))


def _append(table: TableVersion, fragments: Sequence[str], num_rows: int) -> TableVersion:
    return _unmoved(lambda: append_fragments(table, fragments, num_rows))


def _unmoved(commit: Callable[[], TableVersion]) -> TableVersion:
    try:
        return commit()
    except TableMovedError as error:
        raise UserError(f"{error}: let the other curate run finish, then start this one again") from error


def _empty(uri: str, schema: pa.Schema) -> TableVersion:
    """An empty table; versions of an earlier one stay readable for the records that name them."""
    lance.LanceDataset.commit(uri, lance.LanceOperation.Overwrite(schema, []))
    return TableVersion(uri, open_table(uri).version, 0)


def _restore(recorded: TableVersion) -> TableVersion:
    dataset = open_table(recorded.uri)
    if dataset.version != recorded.version:
        open_table(recorded.uri, recorded.version).restore()
        dataset = open_table(recorded.uri)
    return TableVersion(recorded.uri, dataset.version, dataset.count_rows())

"""The samples and rejects tables: where the last finished run left them, and what a new run adds, exactly once.

A run appends, then deletes the copies it found, then appends its rejects: three commits. Until its record names the
last versions they are not part of the run, and the next run first puts both tables back to the recorded ones.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import lance
import pyarrow as pa

from mos.curation.duplicates import Mark
from mos.curation.hashing import pair_id
from mos.curation.manifest import count_reasons, mark_of, rejects_of
from mos.errors import UserError
from mos.fingerprint import fingerprint
from mos.tables.lance import (
    TableMovedError,
    TableVersion,
    append_fragments,
    delete_rows,
    open_table,
    read_column,
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

    def kept_marks(self, near_bits: int) -> Iterator[Mark]:
        """The samples of earlier runs, as far as deciding about duplicates needs them."""
        columns = ["sample_id", "shard", "key", *(["caption", "reference_hash", "phash"] if near_bits else [])]
        for batch in self.samples.open().to_batches(columns=columns):
            for row in batch.to_pylist():
                pair = pair_id(row["reference_hash"], row["caption"]) if near_bits else ""
                yield mark_of({"phash": "0", **row, "pair": pair})


def open_sample_tables(
    samples_uri: str, rejects_uri: str, resolutions: tuple[int, ...], base: CurationOutputs | None
) -> SampleTables:
    """Put both tables into the state `base` recorded, or make them empty where it is None."""
    if base is None:
        return SampleTables(_empty(samples_uri, samples_schema(resolutions)), _empty(rejects_uri, REJECTS), None)
    return SampleTables(_restore(base.samples), _restore(base.rejects), base)


def add_marks(
    tables: SampleTables,
    marks: pa.Table,
    units: Sequence[str],
    settings: str,
    notices: Mapping[str, int] | None = None,
) -> CurationOutputs:
    """Commit what a run wrote, without the copies it found, and its rejects.

    Args:
        tables: the tables the run wrote fragments for.
        marks: every item the run read, in order, duplicates refused.
        units: ids of all units the tables now cover.
        settings: see `CurationOutputs`.
        notices: what the run counted apart.

    Raises:
        RuntimeError: items went missing on the way: read is not kept plus rejected.
        UserError: another run changed the tables meanwhile.
    """
    samples = _commit_samples(tables.samples, marks)
    refused = rejects_of(marks)
    fragments = write_rows(tables.rejects.uri, refused) if refused.num_rows else []
    rejects = _append(tables.rejects, fragments, refused.num_rows)
    read = marks.num_rows + (tables.base.read if tables.base else 0)
    rejected = count_reasons(rejects.open().to_table(columns=["reason"]))
    if read != samples.rows + sum(rejected.values()):
        raise RuntimeError(f"read {read} items, but kept {samples.rows} and rejected {sum(rejected.values())}")
    ids = sorted(read_column(samples, "sample_id"))
    return CurationOutputs(
        samples=samples,
        rejects=rejects,
        read=read,
        kept=samples.rows,
        rejected=rejected,
        buckets=count_buckets(samples.open()),
        settings=settings,
        units=list(units),
        identity=fingerprint(settings=settings, samples=ids),
        notices=dict((Counter(tables.base.notices if tables.base else {}) + Counter(notices)).most_common()),
    )


def count_buckets(samples: lance.LanceDataset) -> dict[str, dict[str, int]]:
    """Rows by resolution and bucket, the fullest first."""
    names = [name for name in samples.schema.names if name.startswith("bucket_")]
    rows = samples.to_table(columns=names)
    counts = {name: Counter(rows.column(name).drop_null().to_pylist()) for name in names}
    return {name.removeprefix("bucket_"): dict(count.most_common()) for name, count in counts.items()}


def _commit_samples(table: TableVersion, marks: pa.Table) -> TableVersion:
    """Append the run's fragments, then delete the rows whose mark was refused after they were written."""
    written = marks.filter(marks.column("place").is_valid())
    fragments = written.column("fragment").drop_null().to_pylist()
    committed = _append(table, fragments, written.num_rows)
    copies = written.filter(written.column("reason").is_valid()).select(["fragment_name", "place"]).to_pylist()
    if not copies:
        return committed
    dataset = committed.open()
    number = {fragment.metadata.files[0].path: fragment.fragment_id for fragment in dataset.get_fragments()}
    addresses = [number[copy["fragment_name"]] << 32 | copy["place"] for copy in copies]
    delete_rows(dataset, "_rowaddr", addresses)
    after = open_table(table.uri)
    if after.count_rows() != committed.rows - len(copies):
        raise RuntimeError(f"{committed.rows - after.count_rows()} rows deleted for {len(copies)} copies")
    return TableVersion(table.uri, after.version, after.count_rows())


def _append(table: TableVersion, fragments: Sequence[str], num_rows: int) -> TableVersion:
    try:
        return append_fragments(table, fragments, num_rows)
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

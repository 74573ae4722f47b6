"""Lance tables, written as fragments by many processes; a commit stands on the version it was made for, or fails.

Lance lets two appends that were prepared on the same version both succeed, so a writer that checks for its keys and
then appends can double rows. What refuses whenever anybody else added, deleted or compacted rows in between is a merge:
the new list of fragments as a whole, valid for one version only. Every commit of rows here is one.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import lance
import pyarrow as pa
import pyarrow.compute as pc
from lance.commit import CommitConflictError
from lance.file import LanceFileSession
from lance.fragment import FragmentMetadata, write_fragments

from mos.errors import UserError
from mos.tables.blobs import plain_schema, storage_version, stored_rows, stored_schema

METADATA_CACHE_BYTES = 64 * 2**20
"""Bound on what an open table keeps of its files' metadata; Lance's own is 1 GiB a table."""
INDEX_CACHE_BYTES = 2**20
"""Bound on pages of indices, of which no table here has any; Lance's own is 6 GiB a table."""
VALUES_PER_DELETE = 5000
"""Values of one filter: a longer one overflows the parser's stack."""


@dataclass(frozen=True)
class TableVersion:
    """A table as it was at one commit; what every reader pins and every step record names."""

    uri: str
    version: int
    rows: int

    def open(self) -> lance.LanceDataset:
        """Open exactly this version."""
        return open_table(self.uri, self.version)


class TableMovedError(RuntimeError):
    """Somebody else changed a table's rows since the version a commit was made for; nothing was committed."""


def table_exists(uri: str) -> bool:
    """True if a table was ever committed at this uri."""
    try:
        lance.dataset(uri)
    except (ValueError, FileNotFoundError, OSError):
        return False
    return True


def open_table(uri: str, version: int | None = None) -> lance.LanceDataset:
    """Open a table, at one version where given.

    Raises:
        UserError: nothing was ever committed at this uri, or not this version.
    """
    try:
        return lance.dataset(
            uri,
            version=version,
            metadata_cache_size_bytes=METADATA_CACHE_BYTES,
            index_cache_size_bytes=INDEX_CACHE_BYTES,
        )
    except (ValueError, FileNotFoundError, OSError) as error:
        wanted = "" if version is None else f" at version {version}"
        raise UserError(f"table {uri} cannot be opened{wanted}: {error}") from error


def create_table(uri: str, schema: pa.Schema) -> TableVersion:
    """Create an empty table unless there is one; the one there must have the same columns and metadata.

    Raises:
        UserError: the table at this uri was made for something else (another tower, codec or set of columns).
    """
    if not table_exists(uri):
        _create(uri, schema)
    dataset = open_table(uri)
    if not dataset.schema.equals(stored_schema(schema), check_metadata=False) or (schema.metadata or {}) != (
        dataset.schema.metadata or {}
    ):
        raise UserError(
            f"table {uri} holds {_describe(dataset.schema)}, but {_describe(schema)} is to be written: "
            "use another `tables` folder or remove this table"
        )
    return latest_version(uri)


def write_rows(uri: str, rows: pa.Table) -> list[str]:
    """Write rows as uncommitted fragments of an existing table; returns each fragment's metadata as JSON.

    Safe to repeat: fragments that are never committed are invisible to every reader.
    """
    stored = stored_rows(rows)
    version = storage_version(rows.schema)
    fragments = write_fragments(stored, uri, schema=stored.schema, mode="append", data_storage_version=version)
    return [json.dumps(fragment.to_json()) for fragment in fragments]


def is_written(uri: str, fragment: str, packs: Mapping[str, int] | None = None) -> bool:
    """True if every data file of a fragment that `write_rows` wrote is still there, and as long as it was.

    A crash of the machine can cut short what was written last.

    Args:
        uri: the table.
        fragment: FragmentMetadata as JSON.
        packs: the fragment's pack files as `pack_sizes` gave them, where they are to be looked at, too.
    """
    files = LanceFileSession(uri)
    sizes = {f"data/{file.path}": file.file_size_bytes or 1 for file in FragmentMetadata.from_json(fragment).files}
    return all(_reaches(files, path, size) for path, size in (sizes | dict(packs or {})).items())


def pack_sizes(uri: str, fragment: str) -> dict[str, int]:
    """Bytes of every pack file of a fragment that was just written, by its path in the table's folder.

    An object store shows a file only once it is whole: there one byte stands for all.
    """
    stems = [file.path.rpartition(".")[0] for file in FragmentMetadata.from_json(fragment).files]
    files = LanceFileSession(uri)
    packs = [f"data/{stem}/{Path(name).name}" for stem in stems for name in files.list(f"data/{stem}")]
    return {pack: 1 if "://" in uri else Path(uri, pack).stat().st_size for pack in packs}


def read_written(uri: str, fragment: str) -> pa.Table:
    """The rows of a fragment that `write_rows` wrote, committed or not.

    They are read through a detached version, which no reader of the table ever sees.
    """
    dataset = open_table(uri)
    append = lance.LanceOperation.Append([FragmentMetadata.from_json(fragment)])
    detached = lance.LanceDataset.commit(uri, append, read_version=dataset.version, detached=True)
    rows = detached.scanner(fragments=detached.get_fragments()[-1:], blob_handling="all_binary").to_table()
    return rows.cast(plain_schema(dataset.schema))


def write_table(uri: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> TableVersion:
    """Write a new table of light rows, one batch in memory at a time."""
    reader = pa.RecordBatchReader.from_batches(schema, batches)
    dataset = lance.write_dataset(reader, uri, mode="create")
    return TableVersion(uri, dataset.version, dataset.count_rows())


def append_fragments(table: TableVersion, fragments: Sequence[str], expected_rows: int) -> TableVersion:
    """Append written fragments on top of exactly this version of a table: all of them, in one commit, or none.

    The cost grows with the number of fragments the table has: 0.8 s at 20,000 of them.

    Raises:
        TableMovedError: rows were added, deleted or compacted since; nothing is committed.
        RuntimeError: a file is gone, or the fragments hold another number of rows than expected; nothing is committed.
    """
    new = [FragmentMetadata.from_json(text) for text in fragments]
    held = sum(fragment.num_rows for fragment in new)
    if held != expected_rows:
        raise RuntimeError(f"{len(new)} fragments for {table.uri} hold {held} rows, expected {expected_rows}")
    if not all(is_written(table.uri, fragment) for fragment in fragments):
        raise RuntimeError(f"table {table.uri} lost fragments before they were committed: start the run again")
    if not new:
        return table
    dataset = table.open()
    old = [fragment.metadata for fragment in dataset.get_fragments()]
    if old:  # Lance numbers the first fragments of an empty table itself, beyond those it once had
        for number, fragment in enumerate(new, start=max(fragment.id for fragment in old) + 1):
            fragment.id = number
    return _commit(table, lance.LanceOperation.Merge([*old, *new], dataset.lance_schema))


def drop_fragments(table: TableVersion, numbers: Sequence[int]) -> TableVersion:
    """The table without some of its fragments, whose files need not be there; one commit.

    Raises:
        TableMovedError: rows of these fragments were deleted or compacted since; nothing is committed.
    """
    return _commit(table, lance.LanceOperation.Delete([], list(numbers), "true"), max_retries=0)


def commit_fragments(uri: str, fragments: Sequence[str], expected_rows: int) -> TableVersion:
    """`append_fragments` on top of the table as it is now."""
    return append_fragments(latest_version(uri), fragments, expected_rows)


def latest_version(uri: str) -> TableVersion:
    """The table as it is now."""
    dataset = open_table(uri)
    return TableVersion(uri, dataset.version, dataset.count_rows())


def drop_table(uri: str) -> None:
    """Remove a table with all its versions, if there is one."""
    if table_exists(uri):
        lance.LanceDataset.drop(uri)


def read_column(table: TableVersion, column: str) -> list[str]:
    """One light column of a pinned table, as a list."""
    return table.open().to_table(columns=[column]).column(column).to_pylist()


def rows_at(table: TableVersion, columns: Sequence[str], addresses: Sequence[int]) -> pa.Table:
    """Rows at some addresses, one or more, in the order of the table; their fragments alone are looked at.

    Args:
        table: pinned, which the addresses are of.
        columns: to read; `_rowaddr` stands beside them.
        addresses: Lance's `_rowaddr`.
    """
    dataset = table.open()
    fragments = [dataset.get_fragment(number) for number in sorted({address >> 32 for address in addresses})]
    chosen = f"_rowaddr IN ({', '.join(map(str, addresses))})"
    scanner = dataset.scanner(columns=list(columns), filter=chosen, fragments=fragments, with_row_address=True)
    return scanner.to_table()


def held_among(table: TableVersion, values: Collection[str]) -> set[str]:
    """Those values that are in the first column of a pinned table, which is read a batch at a time."""
    if not values:
        return set()
    dataset, wanted = table.open(), pa.array(list(values), pa.string())
    found: set[str] = set()
    for batch in dataset.scanner(columns=dataset.schema.names[:1]).to_batches():
        column = batch.column(0)
        found.update(column.filter(pc.is_in(column, wanted)).to_pylist())
    return found


def delete_places(table: TableVersion, places: Iterable[tuple[int, Sequence[int]]]) -> TableVersion:
    """The table without some rows: in one commit, unless there are more places in one fragment than a filter takes.

    Args:
        table: the table.
        places: fragment by fragment its number, and the places of rows in it.

    Raises:
        TableMovedError: rows of these fragments were deleted or compacted since; these are not deleted.
        RuntimeError: the table has not so many rows less, since some were gone or others were added meanwhile.
    """
    dataset, num = table.open(), 0
    changed: list[FragmentMetadata] = []
    emptied: list[int] = []
    later: list[tuple[int, Sequence[int]]] = []
    for number, chosen in places:
        now, rest = chosen[:VALUES_PER_DELETE], chosen[VALUES_PER_DELETE:]
        addresses = ", ".join(str(number << 32 | place) for place in now)
        fragment = dataset.get_fragment(number).delete(f"_rowaddr IN ({addresses})")
        if fragment is None:
            emptied.append(number)
        else:
            changed.append(fragment)
        num += len(now)
        if rest:
            later.append((number, rest))
    if not num:
        return table
    left = _commit(table, lance.LanceOperation.Delete(changed, emptied, "rows at places"), max_retries=0)
    if left.rows != table.rows - num:
        raise RuntimeError(f"{table.rows - left.rows} rows of {table.uri} were deleted for {num} places")
    return delete_places(left, later) if later else left


def delete_rows(dataset: lance.LanceDataset, column: str, values: Sequence[str]) -> None:
    """Remove the rows with these values of a column, so many in one commit that Lance's parser bears the filter."""
    for start in range(0, len(values), VALUES_PER_DELETE):
        chosen = ", ".join(f"'{value}'" for value in values[start : start + VALUES_PER_DELETE])
        dataset.delete(f"{column} IN ({chosen})")


def _commit(table: TableVersion, operation: lance.LanceOperation.BaseOperation, **options: int) -> TableVersion:
    """The table after an operation on top of a version of it; `TableMovedError` where another run came in between."""
    try:
        after = lance.LanceDataset.commit(table.uri, operation, read_version=table.version, **options)
    except CommitConflictError as error:
        raise TableMovedError(f"table {table.uri} was changed by another run since version {table.version}") from error
    return TableVersion(table.uri, after.version, after.count_rows())


def schema_metadata(schema: pa.Schema) -> dict[str, str]:
    """Metadata of a table as text."""
    return {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}


def _create(uri: str, schema: pa.Schema) -> None:
    """An empty table; of several processes that create it at once, one does and the others find it.

    Without the zero retries, as with `mode="create"`, a second creator may put an empty version on top of the first's.
    """
    try:
        lance.LanceDataset.commit(uri, lance.LanceOperation.Overwrite(stored_schema(schema), []), max_retries=0)
    except OSError:
        if not table_exists(uri):
            raise


def _reaches(files: LanceFileSession, path: str, size: int) -> bool:
    """True if a file has so many bytes."""
    try:
        return size == 0 or len(files.read_range(path, size - 1, 1)) == 1
    except OSError:
        files.contains(path)  # raises where it is the store that fails, not the file
        return False


def _describe(schema: pa.Schema) -> str:
    return f"columns {schema.names} with {schema_metadata(schema) or 'no metadata'}"

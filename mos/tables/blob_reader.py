"""Payloads of a pinned table into memory: straight from the pack files Lance wrote, or through Lance.

Lance tells each value's file, position and size; reading it there takes what the disk or the page cache takes, several
times less than Lance's own `read_blobs` (figures at `mos.tables.schema.PAYLOAD`). That one reads object stores, and is
the reference the files are held to: by the tests, and by one row whenever a table is opened.
"""

import os
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mos.tables.lance import TableVersion

READ_THREADS = 8
"""Reads in flight: what a disk needs. From the page cache one thread is as fast, and eight lose little."""
OPEN_FILES = 256
"""Pack files kept open between reads."""
READ_AHEAD_BYTES = 64 * 2**20
"""Bytes that Lance may hold while it reads."""
ROWS_PER_SCAN_BATCH = 65_536
"""Rows whose places are read at a time when a table is opened."""
_IN_PACK_FILE, _IN_OWN_FILE = 1, 2
"""Kinds of blob that are bytes of a `.blob` file."""


@dataclass(frozen=True, eq=False)
class BlobIndex:
    """Place of each row's payload: 20 bytes of memory a row, and the light columns."""

    files: tuple[Path, ...]
    """Relative to the table's folder."""
    file: NDArray[np.int32]
    """Index into `files`."""
    position: NDArray[np.int64]
    """First byte in the file."""
    size: NDArray[np.int64]
    """Bytes of the payload."""
    light: pa.Table
    """Small columns of every row, strings as a dictionary."""
    in_files: bool
    """Whether every payload is in a file of the table itself; if not, only Lance can find it."""


class BlobReader(Protocol):
    """Reads payloads; for one thread at a time."""

    def read(self, rows: Sequence[int], buffers: Sequence[memoryview]) -> None:
        """Fill one buffer for each of these distinct rows, of the size of its payload."""
        ...


def index_blobs(dataset: lance.LanceDataset, column: str, light: Sequence[str]) -> BlobIndex:
    """Places of a dataset's payloads, in row order: one scan of their descriptors, not of their bytes."""
    folders = _blob_folders(dataset, column)
    numbers: dict[tuple[int, int], int] = {}
    parts: list[tuple[NDArray, ...]] = []
    tables: list[pa.Table] = []
    in_files = all(folder is not None for folder in folders.values())
    scanner = dataset.scanner(
        columns=[*light, column],
        with_row_address=True,
        scan_in_order=True,
        batch_size=ROWS_PER_SCAN_BATCH,
        io_buffer_size=READ_AHEAD_BYTES,
    )
    for batch in scanner.to_batches():
        kind, position, size, blob = (batch.column(column).field(i).to_numpy(zero_copy_only=False) for i in range(4))
        in_files &= bool((np.isin(kind, (_IN_PACK_FILE, _IN_OWN_FILE)) | (size == 0)).all())
        pairs = batch.column("_rowaddr").to_numpy() >> 32 << 32 | blob
        distinct, place = np.unique(pairs, return_inverse=True)
        known = [numbers.setdefault((int(pair >> 32), int(pair & 0xFFFFFFFF)), len(numbers)) for pair in distinct]
        parts.append((np.array(known, np.int32)[place], position.astype(np.int64), size.astype(np.int64)))
        tables.append(pa.table({name: batch.column(name) for name in light}))
    file, position, size = (np.concatenate(arrays) for arrays in zip(*parts, strict=True)) if parts else _no_rows()
    files = tuple((folders[fragment] or Path()) / _file_name(blob) for fragment, blob in numbers)
    return BlobIndex(files, file, position, size, _compact(tables, light), in_files)


def open_blobs(table: TableVersion, column: str, light: Sequence[str]) -> tuple[BlobIndex, BlobReader]:
    """Places of a table's payloads and the faster reader that can read them.

    Raises:
        RuntimeError: the installed Lance lays files out in another way than this module expects.
    """
    dataset = table.open()
    index, through_lance = index_blobs(dataset, column, light), LanceReader(dataset, column)
    if not index.in_files or "://" in table.uri:
        return index, through_lance
    reader = FileReader(Path(table.uri), index)
    _check_one_row(index, reader, through_lance)
    return index, reader


class LanceReader:
    """Through Lance's own planned reads: any store, any kind of blob."""

    def __init__(self, dataset: lance.LanceDataset, column: str) -> None:
        self._dataset = dataset
        self._column = column

    def read(self, rows: Sequence[int], buffers: Sequence[memoryview]) -> None:
        """Fill one buffer for each of these distinct rows, of the size of its payload."""
        read = self._dataset.read_blobs(
            self._column, indices=list(rows), io_buffer_size=READ_AHEAD_BYTES, preserve_order=True
        )
        for buffer, (_, payload) in zip(buffers, read, strict=True):
            buffer[:] = payload


class _Read(NamedTuple):
    """One payload to read."""

    descriptor: int
    position: int
    buffer: memoryview


class FileCutShortError(RuntimeError):
    """A file of payloads is shorter than when it was committed."""


class FileReader:
    """Threads of `preadv` into the caller's buffers, for tables on a file system."""

    def __init__(self, folder: Path, index: BlobIndex) -> None:
        self._folder = folder
        self._index = index
        self._threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="read-payloads")
        self._open: OrderedDict[int, int] = OrderedDict()
        weakref.finalize(self, _close_all, self._open)

    def read(self, rows: Sequence[int], buffers: Sequence[memoryview]) -> None:
        """Fill one buffer for each of these distinct rows, of the size of its payload.

        Raises:
            FileNotFoundError: a file is gone.
            FileCutShortError: a file ends before a payload does.
        """
        reads = [
            _Read(self._descriptor(int(self._index.file[row])), int(self._index.position[row]), buffer)
            for row, buffer in zip(rows, buffers, strict=True)
            if len(buffer)
        ]
        shares = [reads[first::READ_THREADS] for first in range(min(READ_THREADS, len(reads)))]
        running = [self._threads.submit(_read_all, share) for share in shares]
        wait(running)  # before any error is raised: the caller may lend the buffers again
        for share in running:
            share.result()
        while len(self._open) > OPEN_FILES:
            os.close(self._open.popitem(last=False)[1])

    def _descriptor(self, file: int) -> int:
        if file not in self._open:
            self._open[file] = os.open(self._folder / self._index.files[file], os.O_RDONLY | os.O_CLOEXEC)
        self._open.move_to_end(file)
        return self._open[file]


def _read_all(reads: list[_Read]) -> None:
    for read in reads:
        done = 0
        while done < len(read.buffer):
            count = os.preadv(read.descriptor, [read.buffer[done:]], read.position + done)
            if count == 0:
                raise FileCutShortError(
                    f"a payload of {len(read.buffer)} bytes ends after {done}: its file is cut short"
                )
            done += count


def _close_all(descriptors: OrderedDict[int, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)


def _check_one_row(index: BlobIndex, reader: BlobReader, reference: BlobReader) -> None:
    """Read the smallest payload that is not empty both ways."""
    filled = np.flatnonzero(index.size)
    if not len(filled):
        return
    row = int(filled[index.size[filled].argmin()])
    read, expected = bytearray(index.size[row]), bytearray(index.size[row])
    reader.read([row], [memoryview(read)])
    reference.read([row], [memoryview(expected)])
    if read != expected:
        raise RuntimeError(f"pylance {lance.__version__} lays blobs out in another way than {__name__} reads")


def _blob_folders(dataset: lance.LanceDataset, column: str) -> dict[int, Path | None]:
    """Folder of a fragment's pack files, by fragment; None where they belong to another table."""
    (field,) = (field.id() for field in dataset.lance_schema.fields() if field.name() == column)
    folders: dict[int, Path | None] = {}
    for fragment in dataset.get_fragments():
        (file,) = (file for file in fragment.data_files() if field in file.fields)
        folders[fragment.fragment_id] = None if file.base_id is not None else Path("data") / Path(file.path).stem
    return folders


def _file_name(blob: int) -> str:
    """Lance spreads names over an object store's shards: 32 bits, the lowest first."""
    return f"{blob:032b}"[::-1] + ".blob"


def _no_rows() -> tuple[NDArray, ...]:
    return np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int64)


def _compact(tables: list[pa.Table], names: Sequence[str]) -> pa.Table:
    if not tables:
        return pa.table({name: pa.array([], pa.null()) for name in names})
    whole = pa.concat_tables(tables)
    for place, name in enumerate(names):
        if pa.types.is_string(whole.column(name).type):
            whole = whole.set_column(place, name, whole.column(name).dictionary_encode())
    return whole.combine_chunks()

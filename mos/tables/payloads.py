"""Rows of the states and latents tables: read in batches, the first of them kept in bounded RAM.

Dimension key
    channels, h, w  of a latent
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Generic, TypeVar

from jaxtyping import Float
from torch import Tensor

from mos.images.buckets import Bucket
from mos.states.latents import unpack_latent
from mos.states.packed import PackedStates
from mos.tables.blob_reader import BlobIndex, BlobReader, FileCutShortError, open_blobs
from mos.tables.buffers import Buffers
from mos.tables.lance import TableVersion, schema_metadata
from mos.tables.lost_files import lost_error
from mos.tables.state_tables import codec_of

REMEDY = "run `python pipelines/encode.py <config> --force`, which encodes its rows again"
"""What to do about a table of states or latents that has lost files."""

Row = TypeVar("Row", Tensor, PackedStates)


class RowCache:
    """Rows as their readers give them, bounded in bytes; shared by several readers. What is kept stays.

    An epoch reads every row once, in another order each time. A cache of a quarter of the rows then answers 25% of the
    reads if it keeps the first rows it sees, and 3.5% if it drops those not used for longest (half: 50% and 15%).
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0
        self._rows: dict[tuple[str, int], Any] = {}

    @property
    def room(self) -> int:
        """Bytes that may still be put."""
        return self.max_bytes - self.held_bytes

    def get(self, key: tuple[str, int]) -> Any:
        """The row, if it was kept; None if not."""
        return self._rows.get(key)

    def clear(self) -> None:
        """Forget every row."""
        self._rows.clear()
        self.held_bytes = 0

    def put(self, key: tuple[str, int], row: Tensor | PackedStates) -> None:
        """Keep a row if there is room for it."""
        if row.nbytes <= self.room and key not in self._rows:
            self._rows[key] = row
            self.held_bytes += row.nbytes


class PayloadTable(Generic[Row]):
    """A pinned table of payloads; safe to use from one thread at a time.

    Its memory is what the caller still views, the largest batch read so far, the cache, and 20 bytes a row.
    """

    def __init__(self, table: TableVersion, light: list[str], cache: RowCache, remedy: str = REMEDY) -> None:
        self.table = table
        self._remedy = remedy
        self.metadata = schema_metadata(table.open().schema)
        self._light = light
        self._cache = cache
        self._buffers = Buffers()

    def payloads(self, rows: list[int]) -> list[memoryview]:
        """The stored bytes of distinct rows, in the order given, in memory that is used again once nothing views it."""
        buffers = self._buffers.lend(self._index.size[rows].tolist())
        self._fill(rows, buffers)
        return buffers

    def _fill(self, rows: list[int], buffers: list[memoryview]) -> None:
        with _naming_lost_files(self.table.uri, self._remedy):
            self._reader.read(rows, buffers)

    @cached_property
    def _blobs(self) -> tuple[BlobIndex, BlobReader]:
        with _naming_lost_files(self.table.uri, self._remedy):
            return open_blobs(self.table, "payload", self._light)

    @property
    def _index(self) -> BlobIndex:
        return self._blobs[0]

    @property
    def _reader(self) -> BlobReader:
        return self._blobs[1]

    def _read(self, rows: Iterable[int], decode: Callable[[memoryview, dict[str, Any]], Row]) -> list[Row]:
        """Rows in the order given; `decode` may view the payload it gets, with the row's light columns."""
        wanted = list(rows)
        cached = {row: self._cache.get((self.table.uri, row)) for row in set(wanted)}
        found = {row: value for row, value in cached.items() if value is not None}
        missing = sorted(cached.keys() - found.keys())
        if missing:
            found |= self._fetch(missing, decode)
        return [found[row] for row in wanted]

    def _fetch(self, rows: list[int], decode: Callable[[memoryview, dict[str, Any]], Row]) -> dict[int, Row]:
        """Distinct rows from the table; those the cache has room for get memory of their own, which it then keeps."""
        sizes = self._index.size[rows]
        num_kept = int((sizes.cumsum() <= self._cache.room).sum())
        own = [Buffers().lend([size])[0] for size in sizes[:num_kept].tolist()]
        payloads = own + self._buffers.lend(sizes[num_kept:].tolist())
        self._fill(rows, payloads)
        light = self._index.light.take(rows).to_pylist()
        found = {row: decode(*values) for row, *values in zip(rows, payloads, light, strict=True)}
        for row in rows[:num_kept]:
            self._cache.put((self.table.uri, row), found[row])
        return found


@contextmanager
def _naming_lost_files(uri: str, remedy: str) -> Iterator[None]:
    """Raise a file that is missing or cut short, by whoever looks for it, as `LostFilesError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise lost_error(uri, f"{error.filename} is missing", remedy) from error
    except FileCutShortError as error:
        raise lost_error(uri, str(error).replace(":", ","), remedy) from error
    except (OSError, ValueError) as error:  # as Lance says it
        _, lost, path = str(error).partition("Not found: ")
        if not lost:
            raise
        raise lost_error(uri, f"{path.partition(', ')[0]} is missing", remedy) from error


class StateTable(PayloadTable[PackedStates]):
    """Hidden states of contexts.

    Args:
        table: What to read.
        cache: Where rows are kept.
        layers: Hidden states of the tower to read, ascending; default is all that the table holds.
        remedy: What to do where it has lost files.

    Raises:
        ValueError: the table lacks one of the layers.
    """

    def __init__(
        self, table: TableVersion, cache: RowCache, layers: tuple[int, ...] | None = None, remedy: str = REMEDY
    ) -> None:
        super().__init__(table, ["num_tokens"], cache, remedy)
        self.tower = self.metadata["tower"]
        self.codec = codec_of(table.open().schema, table.uri)
        self.layers = self.codec.layers if layers is None else layers
        """Hidden states of the tower that `read` gives."""
        self.dim = self.codec.dim
        if not set(self.layers) <= set(self.codec.layers):
            raise ValueError(f"table {table.uri} holds layers {self.codec.layers}, not all of {self.layers}")
        indices = [self.codec.layers.index(layer) for layer in self.layers]
        self._indices = None if self.layers == self.codec.layers else indices

    def read(self, rows: Iterable[int]) -> list[PackedStates]:
        """States of table rows, in the order given; not to be written to. Those of a damaged row are not finite."""
        return self._read(rows, self._unpack)

    def _unpack(self, payload: memoryview, light: dict[str, Any]) -> PackedStates:
        try:
            packed = self.codec.unpack(payload, light["num_tokens"])
        except ValueError:
            packed = self.codec.unknown(light["num_tokens"])
        return packed if self._indices is None else packed.select(self._indices)


class LatentTable(PayloadTable[Tensor]):
    """Latents of images."""

    def __init__(self, table: TableVersion, cache: RowCache) -> None:
        super().__init__(table, ["bucket"], cache)
        self.codec = self.metadata["codec"]
        self.channels = int(self.metadata["channels"])
        self.stride = int(self.metadata["stride"])

    def read(self, rows: Iterable[int]) -> list[Float[Tensor, "channels h w"]]:
        """Latents of table rows in float32, in the order given; not to be written to."""
        return self._read(rows, self._decode)

    def _decode(self, payload: memoryview, light: dict[str, Any]) -> Tensor:
        bucket = Bucket.parse(light["bucket"])
        grid = bucket.height // self.stride, bucket.width // self.stride
        return unpack_latent(payload, self.channels, grid)

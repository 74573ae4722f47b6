"""Rows of the states and latents tables, decoded: read in batches, the latest kept in bounded RAM.

Dimension key
    ctx  tokens of one context     layers  m + 1 hidden states     dim  width of the tower
    channels, h, w  of a latent
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from jaxtyping import BFloat16, Float
from torch import Tensor

from mos.data.buckets import Bucket
from mos.states.latents import unpack_latent
from mos.states.payload import state_format
from mos.tables import TableVersion


class RowCache:
    """Least recently used tensors, bounded in bytes; shared by several readers."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0
        self._rows: OrderedDict[tuple[str, int], Tensor] = OrderedDict()

    def get(self, key: tuple[str, int]) -> Tensor | None:
        """The tensor, which is now the latest used."""
        tensor = self._rows.get(key)
        if tensor is not None:
            self._rows.move_to_end(key)
        return tensor

    def put(self, key: tuple[str, int], tensor: Tensor) -> None:
        """Keep a tensor, at the cost of those not used for longest; one larger than the bound is not kept."""
        if tensor.nbytes > self.max_bytes or key in self._rows:
            return
        self._rows[key] = tensor
        self.held_bytes += tensor.nbytes
        while self.held_bytes > self.max_bytes:
            self.held_bytes -= self._rows.popitem(last=False)[1].nbytes


class PayloadTable:
    """A pinned table of payloads; safe to use from one thread at a time."""

    def __init__(self, table: TableVersion, columns: list[str], cache: RowCache) -> None:
        self.table = table
        self._dataset = table.open()
        self._columns = columns
        self._cache = cache
        self.metadata = {key.decode(): value.decode() for key, value in (self._dataset.schema.metadata or {}).items()}

    def _read(self, rows: Iterable[int], decode: Callable[[dict[str, Any]], Tensor]) -> list[Tensor]:
        wanted = list(rows)
        cached = {row: self._cache.get((self.table.uri, row)) for row in set(wanted)}
        found = {row: tensor for row, tensor in cached.items() if tensor is not None}
        missing = sorted(cached.keys() - found.keys())
        if missing:
            read = self._dataset.take(missing, columns=self._columns).to_pylist()
            for row, values in zip(missing, read, strict=True):
                found[row] = decode(values)
                self._cache.put((self.table.uri, row), found[row])
        return [found[row] for row in wanted]


class StateTable(PayloadTable):
    """Hidden states of contexts."""

    def __init__(self, table: TableVersion, cache: RowCache) -> None:
        super().__init__(table, ["num_tokens", "payload"], cache)
        self.tower = self.metadata["tower"]
        self.num_states = int(self.metadata["num_layers"])
        """m + 1."""
        self.dim = int(self.metadata["dim"])
        self._format = state_format(self.metadata["format"], self.num_states, self.dim)

    def read(self, rows: Iterable[int]) -> list[BFloat16[Tensor, "ctx layers dim"]]:
        """States of table rows, in the order given; not to be written to."""
        return self._read(rows, lambda row: self._format.unpack(row["payload"], row["num_tokens"]))


class LatentTable(PayloadTable):
    """Latents of images."""

    def __init__(self, table: TableVersion, cache: RowCache) -> None:
        super().__init__(table, ["bucket", "payload"], cache)
        self.codec = self.metadata["codec"]
        self.channels = int(self.metadata["channels"])
        self.stride = int(self.metadata["stride"])

    def read(self, rows: Iterable[int]) -> list[Float[Tensor, "channels h w"]]:
        """Latents of table rows in float32, in the order given; not to be written to."""
        return self._read(rows, self._decode)

    def _decode(self, row: dict[str, Any]) -> Tensor:
        bucket = Bucket.parse(row["bucket"])
        grid = bucket.height // self.stride, bucket.width // self.stride
        return unpack_latent(row["payload"], self.channels, grid)

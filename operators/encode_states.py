"""Captions, and the images to edit, -> hidden states of all layers, written as fragments of a states table."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa

from mos.encoders.encoding import EncodeConfig
from mos.encoders.understanding import Encoded
from mos.images.decode import ImageLimits
from mos.images.reasons import Reason, Rejected
from mos.states.quality import QualityReport, measure_quality, total, violation
from mos.tables.committer import payload_table, within_bytes, write_encoded
from mos.tables.lance import TableVersion, open_table
from mos.tables.state_tables import codec_of, states_schema
from operators.context_encoder import ContextEncoder

AUDIT_EVERY = 16
"""One context in so many is read back and compared, which takes about as long as packing it; of large states one in as
many as a fragment holds."""

Packed = tuple[dict, QualityReport | None]
"""A row, and what its format loses where that was looked at."""


class EncodeStates:
    """Callable class for `Dataset.map_batches` on Arrow tables; holds the tower. One call writes one fragment, or
    several where one would be too many bytes.

    Reads   context_key, text, row, version (CONTEXT_TASKS of mos.tables.encode_tasks)
    Writes  fragment, keys, failed_keys, failures, quality (ENCODED of mos.tables.committer); the states go to the table
    """

    def __init__(self, config: EncodeConfig, samples: TableVersion, uri: str, limits: ImageLimits) -> None:
        self._contexts = ContextEncoder(config, samples, limits)
        self._codec = codec_of(open_table(uri).schema, uri)
        self._schema = states_schema(self._contexts.tower.tower_id, self._codec)
        self._uri = uri
        self._bound = config.quality
        self._fragment_bytes = config.mb_per_fragment * 2**20 // 2  # as much again may wait to be packed, and be packed

    def __call__(self, tasks: pa.Table) -> Iterator[pa.Table]:
        """Encode the contexts of one block and write them; nothing of a fragment in which a comparison is beyond the
        bound.
        """
        failures: dict[str, str] = {}
        packed = self._packed(tasks.to_pylist(), failures)
        for part in within_bytes(packed, self._fragment_bytes, lambda pair: pair[0]["payload"]):
            if part or failures:
                yield self._write(part, failures)
                failures.clear()
            del part  # or its rows would be held while the next are encoded

    def _write(self, part: list[Packed], failures: dict[str, str]) -> pa.Table:
        rows = [row for row, _ in part]
        quality = total([report for _, report in part if report is not None])
        if quality is not None and violation(quality, self._bound) is not None:
            rows = []  # the driver, which gets the report, refuses it
        told = None if quality is None else quality.to_json()
        return write_encoded(self._uri, payload_table(rows, self._schema), failures, told)

    def _packed(self, tasks: list[dict], failures: dict[str, str]) -> Iterator[Packed]:
        """Rows in the order they were encoded, each packed by a second thread while the tower runs the next pass."""
        waiting: deque[tuple[str, int, Future[Packed]]] = deque()
        held = 0

        def settled() -> Iterator[Packed]:
            nonlocal held
            key, size, packing = waiting.popleft()
            held -= size
            try:
                yield packing.result()
            except ValueError as error:
                failures[key] = str(Rejected(Reason.STATES_NOT_FINITE, str(error)))

        with ThreadPoolExecutor(1, thread_name_prefix="pack-states") as thread:
            for index, (key, context) in enumerate(self._contexts.encode(tasks, failures)):
                size = context.states.nbytes
                held += size
                audit = index % min(AUDIT_EVERY, max(1, self._fragment_bytes // size)) == 0
                waiting.append((key, size, thread.submit(self._pack, key, context, audit)))
                while held > self._fragment_bytes // 2:
                    yield from settled()
            while waiting:
                yield from settled()

    def _pack(self, key: str, context: Encoded, audit: bool) -> Packed:
        packed = self._codec.quantise(context.states)
        row = {"context_key": key, "num_tokens": len(context.tokens), "payload": self._codec.pack(packed)}
        if not audit or self._codec.calibration is None:
            return row, None
        layers = self._codec.layers
        return row, measure_quality(context.states[:, list(layers)], packed, layers)

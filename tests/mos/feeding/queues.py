"""A queue of a dozen contexts, filled without a tower."""

from pathlib import Path

import pyarrow as pa
import torch

from mos.feeding.queue import StateQueue
from mos.feeding.stream import StreamedStates
from mos.states.packed import PackedStates
from mos.states.payload import StateCodec
from mos.states.quantise import dequantise
from mos.tables.committer import write_encoded
from mos.tables.lance import create_table
from mos.tables.payloads import RowCache
from mos.tables.state_tables import states_schema
from tests.mos.tables.sample_tables import DIM, NUM_STATES, content

CODEC = StateCodec("bf16", tuple(range(NUM_STATES)), DIM)
SCHEMA = states_schema("tower-x", CODEC)
KEYS = [f"{number:064x}" for number in range(12)]
CONTEXTS = pa.table({"context_key": KEYS})


def new_queue(path: Path) -> StateQueue:
    return StateQueue(create_table(str(path), SCHEMA).uri, drop=True)


def states_of(key: str) -> torch.Tensor:
    return content(key, (2 + int(key, 16) % 3, NUM_STATES, DIM)).bfloat16()


def payload_of(key: str) -> bytes:
    return CODEC.pack(CODEC.quantise(states_of(key)))


def encode(uri: str, keys: list[str], failures: dict[str, str] | None = None) -> dict:
    """What a producer does with one task, without the tower."""
    rows = [{"context_key": key, "num_tokens": len(states_of(key)), "payload": payload_of(key)} for key in keys]
    (row,) = write_encoded(uri, pa.Table.from_pylist(rows, schema=SCHEMA), failures or {}).to_pylist()
    return row


def put(queue: StateQueue, keys: list[str]) -> None:
    queue.expect(keys)
    queue.add([encode(queue.uri, keys)])


def reader(queue: StateQueue, timeout_s: float = 20.0, cache_bytes: int = 0) -> StreamedStates:
    return StreamedStates(queue.uri, CONTEXTS, CODEC.layers, RowCache(cache_bytes), timeout_s=timeout_s)


def assert_states(found: list[PackedStates], numbers: list[int]) -> None:
    assert all(torch.equal(dequantise(states), states_of(KEYS[n])) for states, n in zip(found, numbers, strict=True))

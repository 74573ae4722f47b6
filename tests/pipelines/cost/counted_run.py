"""A run whose samples are curated, and some of whose states stand: what a plan counts and reads."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import torch

from mos.states.keys import context_key
from mos.states.payload import StateCodec
from mos.tables.schema import samples_schema
from mos.tables.state_tables import states_schema
from pipelines.run.config import RunConfig
from pipelines.run.states_table import current_states_uri
from tests.mos.tables import sample_tables as tables

NARROW = ("stage1.resolution=16", "edit.resolution=16", "edit.sources={c = 1.0}", "edit.tasks=['edit']")


def counted_run(small_run: Callable[..., RunConfig], *overrides: str) -> RunConfig:
    """The demo with 40 pairs under 30 captions and 10 edits of their own, at 16 px."""
    config = small_run(*NARROW, "encode.state_format=bf16", *overrides)
    rows = [tables.sample(number, number >= 40) for number in range(50)]
    Path(config.samples_uri()).parent.mkdir(parents=True)
    tables.write(Path(config.samples_uri()), pa.Table.from_pylist(rows, samples_schema((16,))))
    return config


def write_states(config: RunConfig, captions: list[str]) -> None:
    """A states table where the run would look for its own."""
    uri = current_states_uri(config)
    assert uri is not None
    codec = StateCodec("bf16", tuple(range(7)), 384)
    states = codec.quantise(torch.randn(5, 7, 384).bfloat16())
    rows = {
        "context_key": [context_key(caption) for caption in captions],
        "num_tokens": [5] * len(captions),
        "payload": [codec.pack(states)] * len(captions),
    }
    Path(uri).parent.mkdir(parents=True, exist_ok=True)
    tables.write(Path(uri), pa.table(rows, states_schema("minilm", codec)))

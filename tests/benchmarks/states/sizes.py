"""Bytes at rest and errors of each format: MiniLM's states of the photographs' long captions.

    python -m tests.benchmarks.states.sizes

Calibrated on every other caption, measured on the others. Bytes are those of all files of a table that holds these,
over the raw bf16. The `massive` rows have activations of 1000 and 300 planted into two channels of the first and of one
later token of every context, at all layers but the first and the last: what large language models do and MiniLM does
not.
"""

import json
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import pyarrow as pa
import torch
from jaxtyping import BFloat16
from torch import Tensor

from mos.encoders.load import load_tower
from mos.encoders.understanding import MiniLMConfig
from mos.fingerprint import fingerprint
from mos.states.calibration import CalibrationSample
from mos.states.packed import FormatName
from mos.states.payload import StateCodec
from mos.states.quality import QualityReport, measure_quality, total
from mos.tables.lance import commit_fragments, create_table, write_rows
from mos.tables.state_tables import states_schema
from tests.benchmarks.harness import CLONE, Row, write_results

CAPTIONS = CLONE.parent / "shared" / "data" / "photos" / "captions.jsonl"
MARKS = {"bf16": 0.75, "int8": 0.52, "int4": 0.29}
MAX_ERROR = {"int8": 0.015, "int4": 0.12}
MIN_COSINE = 0.99
MASSIVE = ((7, 1000.0), (200, 300.0))
"""Channels and values that are planted."""

States = BFloat16[Tensor, "ctx layer dim"]


def size_rows() -> list[Row]:
    """Bytes of the three formats; errors of the two that lose something, with and without planted activations."""
    torch.set_num_threads(1)
    contexts = caption_states()
    planted = [plant_massive(states) for states in contexts]
    rows = []
    for name, mark in MARKS.items():
        share = bytes_at_rest(learn(name, contexts[::2]), contexts[1::2])
        rows.append(Row(f"size.{name}", share, "of raw bf16", "mark", mark, mark / share))
    for name, mark in MAX_ERROR.items():
        for kind, of in (("", contexts), (".massive", planted)):
            report = measure(learn(name, of[::2]), of[1::2])
            error = max(quality.whitened for quality in report.qualities)
            relative = max(quality.relative for quality in report.qualities)
            cosine = min(quality.min_cosine for quality in report.qualities)
            rows += [
                Row(f"size.{name}{kind}.error", error, "whitened, worst layer", "mark", mark, mark / error),
                Row(f"size.{name}{kind}.relative", relative, "of the norm, worst layer"),
                Row(f"size.{name}{kind}.cosine", cosine, "worst row", "mark", MIN_COSINE, cosine / MIN_COSINE),
            ]
    return rows


@cache
def caption_states() -> list[States]:
    """States of the long captions, shuffled by their hash."""
    texts = [json.loads(line)["caption_long"] for line in CAPTIONS.read_text(encoding="utf-8").splitlines()]
    texts.sort(key=lambda text: fingerprint(text=text))
    return [context.states for context in load_tower(MiniLMConfig(max_tokens=128)).encode(texts)]


def plant_massive(states: States) -> States:
    """A copy with massive activations in the first token and in the token in the middle."""
    planted = states.clone()
    for channel, value in MASSIVE:
        planted[[0, len(states) // 2], 1:-1, channel] = value
    return planted


def learn(name: FormatName, sample: list[States]) -> StateCodec:
    """The codec that the encode step would settle on from this sample."""
    _, num_states, dim = sample[0].shape
    codec = StateCodec(name, tuple(range(num_states)), dim)
    if name == "bf16":
        return codec
    sums = CalibrationSample()
    for states in sample:
        sums.add(states)
    return replace(codec, calibration=sums.learn())


def bytes_at_rest(codec: StateCodec, contexts: list[States]) -> float:
    """Bytes of the files of a table of these contexts, over their raw bf16."""
    rows = {
        "context_key": [fingerprint(number=number) for number in range(len(contexts))],
        "num_tokens": [len(states) for states in contexts],
        "payload": [codec.pack(codec.quantise(states)) for states in contexts],
    }
    with tempfile.TemporaryDirectory() as folder:
        schema = states_schema("minilm-benchmark", codec)
        uri = create_table(f"{folder}/states.lance", schema).uri
        commit_fragments(uri, write_rows(uri, pa.table(rows, schema)), len(contexts))
        stored = sum(path.stat().st_size for path in Path(uri, "data").rglob("*") if path.is_file())
    return stored / sum(states.nbytes for states in contexts)


def measure(codec: StateCodec, contexts: list[States]) -> QualityReport:
    """What the format loses of these contexts."""
    report = total(measure_quality(states, codec.quantise(states), codec.layers) for states in contexts)
    assert report is not None
    return report


if __name__ == "__main__":
    write_results("states", size_rows())

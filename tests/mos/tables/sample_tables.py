"""A small curated and encoded data set in real Lance tables, for tests of what reads them."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from mos.loader.index import EncodedTables
from mos.states.keys import latent_key, sample_contexts
from mos.states.latents import pack_latent
from mos.states.payload import StateCodec
from mos.tables.committer import latents_schema
from mos.tables.lance import TableVersion, commit_fragments, create_table, write_rows
from mos.tables.schema import TASK_EDIT, TASK_GENERATE, samples_schema
from mos.tables.state_tables import states_schema

RESOLUTION, STRIDE, CHANNELS = 16, 2, 12
NUM_STATES, DIM = 4, 12
BUCKETS = ("16x16", "8x32", "32x8")


def make_tables(folder: Path, num_pairs: int = 40, num_edits: int = 10, failed: int = 0) -> EncodedTables:
    """Pairs from sources `a` and `b`, edits from `c`; the last `failed` pairs have no latent."""
    samples = [sample(number, number >= num_pairs) for number in range(num_pairs + num_edits)]
    states, latents = {}, {}
    for row in samples:
        for key in sample_contexts(row["caption"], row["reference_hash"], False):
            states[key] = content(key, (2 + int(key[:8], 16) % 5, NUM_STATES, DIM)).bfloat16()
        bucket = row[f"bucket_{RESOLUTION}"]
        height, width = (int(side) // STRIDE for side in bucket.split("x"))
        for image in (row["image_hash"], row["reference_hash"]):
            if image is not None:
                latents[latent_key(image, "codec-x", bucket)] = content(image, (CHANNELS, height, width))
    for row in samples[num_pairs - failed : num_pairs]:
        del latents[latent_key(row["image_hash"], "codec-x", row[f"bucket_{RESOLUTION}"])]
    codec = StateCodec("bf16", tuple(range(NUM_STATES)), DIM)
    state_rows = {
        "context_key": list(states),
        "num_tokens": [len(value) for value in states.values()],
        "payload": [codec.pack(codec.quantise(value)) for value in states.values()],
    }
    latent_rows = {
        "latent_key": list(latents),
        "bucket": [f"{value.shape[1] * STRIDE}x{value.shape[2] * STRIDE}" for value in latents.values()],
        "payload": [pack_latent(value) for value in latents.values()],
    }
    return EncodedTables(
        samples=write(folder / "samples.lance", pa.Table.from_pylist(samples, samples_schema((RESOLUTION,)))),
        states=write(folder / "states.lance", pa.table(state_rows, states_schema("tower-x", codec))),
        latents=write(folder / "latents.lance", pa.table(latent_rows, latents_schema("codec-x", CHANNELS, STRIDE))),
        codec_id="codec-x",
        sees_images=False,
    )


def write(path: Path, rows: pa.Table) -> TableVersion:
    create_table(str(path), rows.schema)
    return commit_fragments(str(path), write_rows(str(path), rows), rows.num_rows)


def sample(number: int, is_edit: bool) -> dict:
    caption = f"caption {number % 30}"
    return {
        "sample_id": digest(f"sample {number}"),
        "task": TASK_EDIT if is_edit else TASK_GENERATE,
        "source": "c" if is_edit else "ab"[number % 2],
        "shard": "shard",
        "key": str(number),
        "image": b"",
        "image_hash": digest(f"image {number}"),
        "reference": b"" if is_edit else None,
        "reference_hash": digest(f"reference {number}") if is_edit else None,
        "caption": caption,
        "width": 64,
        "height": 64,
        "aspect": 1.0,
        "caption_length": len(caption),
        "caption_words": 2,
        "sharpness": number / 100,
        "contrast": 0.5,
        "entropy": 4.0,
        "pair": "0" * 16,
        "phash": "0" * 16,
        "aesthetic": None,
        "alignment": None,
        "meta": None,
        f"bucket_{RESOLUTION}": BUCKETS[number % len(BUCKETS)],
    }


def content(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Values that only this key has."""
    values = np.random.default_rng(int(digest(key)[:12], 16)).standard_normal(shape, dtype=np.float32)
    return torch.from_numpy(values)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

"""The join of a view with its encodings, row by row in memory: what `mos.loader.join` must come to."""

from typing import Any

import numpy as np
import pyarrow as pa

from mos.loader.index import NO_ROW, EncodedTables
from mos.states.keys import latent_key, sample_contexts
from mos.tables.lance import read_column
from mos.tables.schema import TASK_EDIT
from mos.tables.views import View


def plain_index(tables: EncodedTables, view: View, contexts: pa.Table | None = None) -> dict[str, Any]:
    """Columns of the index, and `groups`, `sources` and `num_left_out`."""
    bucket = f"bucket_{view.resolution}"
    columns = ["task", "source", "caption", "image_hash", "reference_hash", bucket]
    scanner = tables.samples.open().scanner(columns=columns, filter=view.predicate(), with_row_address=True)
    rows = scanner.to_table().to_pylist()
    known = read_column(tables.states, "context_key") if contexts is None else contexts["context_key"].to_pylist()
    states = {key: row for row, key in reversed(list(enumerate(known)))}
    latents = {key: row for row, key in reversed(list(enumerate(read_column(tables.latents, "latent_key"))))}
    groups = sorted({f"{row['task']} {row[bucket]}" for row in rows})
    sources = sorted({row["source"] for row in rows})
    found = []
    for row in rows:
        reference = row["reference_hash"] if row["task"] == TASK_EDIT else None
        context, null = sample_contexts(row["caption"], reference, tables.sees_images)
        latent = latent_key(row["image_hash"], tables.codec_id, row[bucket])
        edited = None if reference is None else latent_key(reference, tables.codec_id, row[bucket])
        if context in states and null in states and latent in latents and (edited is None or edited in latents):
            group, source = groups.index(f"{row['task']} {row[bucket]}"), sources.index(row["source"])
            before = NO_ROW if edited is None else latents[edited]
            rows_of = states[context], states[null], latents[latent], before, row["_rowaddr"]
            found.append((group, source, *rows_of))
    names = ("group", "source", "state", "null_state", "latent", "reference", "address")
    values = np.array(found, np.int64).reshape(-1, len(names))
    return {name: values[:, place] for place, name in enumerate(names)} | {
        "groups": tuple(groups),
        "sources": tuple(sources),
        "num_left_out": len(rows) - len(found),
    }

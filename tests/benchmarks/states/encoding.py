"""How fast contexts are encoded, packed and written beside the bare tower, and what a second run of a table costs.

    python -m tests.benchmarks.states.encoding

`encode.ratio` rows call the operator in this process, as an actor would be, on 450 captions of the demo's kind: what it
takes to calibrate and to start Ray is left out. The bare loop runs the same tower and drops the states. `encode.passes`
is that loop beside one that pads to the longest of 32 neighbours, whose states then depend on them.
`encode.again` is the encode script itself, in one Ray session: 20,000 captions of one picture, and then once more.
"""

import random
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from cluster.session import ray_session
from mos.encoders.encoding import EncodeConfig
from mos.encoders.load import load_tower
from mos.encoders.understanding import MiniLMConfig, Tower
from mos.images.decode import ImageLimits
from mos.states.packed import FormatName
from mos.states.payload import StateCodec
from mos.tables.encode_plan import plan_contexts
from mos.tables.lance import TableVersion, commit_fragments, create_table
from mos.tables.state_tables import states_schema
from operators.encode_states import EncodeStates
from pipelines import encode
from pipelines.run.config import RunConfig, load_run
from pipelines.run.steps import Run
from tests.benchmarks.harness import Row, measure_interleaved, write_results
from tests.benchmarks.states.sizes import caption_states, learn
from tests.samples import Pair, append_samples, views

FORMATS: tuple[FormatName, ...] = ("bf16", "int8", "int4")
CAPTIONS, MANY, REPEATS = 450, 20_000, 9
MARK, MARK_AGAIN = 0.9, 0.05
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey", "cyan")
SHAPES = ("circle", "square", "triangle", "star", "ring", "heart", "cross", "diamond", "hexagon", "arrow", "moon")
PLACES = ("above", "below", "left of", "right of")


def captions(count: int) -> list[str]:
    """Different captions of 5 to 13 tokens."""
    draw = random.Random(0)
    found: dict[str, None] = {}
    while len(found) < count:
        one, two = (f"{draw.choice(COLOURS)} {draw.choice(SHAPES)}" for _ in range(2))
        start = f"{draw.choice(('', 'a photo of ', 'a drawing of '))}a {one}"
        found[f"{start} {draw.choice(PLACES)} a {two}" if draw.random() < 0.9 else start] = None
    return list(found)


def ratio_rows() -> list[Row]:
    """`encode.ratio` of each format, and what equal states whatever the neighbours cost."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        samples = append_samples(Path(folder), [Pair(caption) for caption in captions(CAPTIONS)])
        tasks = plan_contexts(samples, views(32), sees_images=False)
        texts = tasks.column("text").to_pylist()
        tower = load_tower(MiniLMConfig())
        candidates: dict[str, Callable[[], Any]] = {
            "bare": partial(bare, tower, texts),
            "longest": partial(pad_to_longest, tower, texts),
        }
        for name in FORMATS:
            candidates[name] = partial(write, *operator(name, samples, folder), tasks)
        seconds = measure_interleaved(candidates, REPEATS)
    speed = {name: len(texts) / value for name, value in seconds.items()}
    rows = [
        Row(
            f"encode.ratio.{name}",
            speed[name] / speed["bare"],
            "of the bare tower's rows/s",
            "mark",
            MARK,
            None,
            REPEATS,
        )
        for name in FORMATS
    ]
    rows = [replace(row, ratio=row.value / MARK) for row in rows]
    headline = replace(rows[FORMATS.index("int8")], id="encode.ratio")
    ratio = speed["bare"] / speed["longest"]
    peer = "padded to the longest of 32"
    return [headline, *rows, Row("encode.passes", speed["bare"], "rows/s", peer, speed["longest"], ratio, REPEATS)]


def operator(name: FormatName, samples: TableVersion, folder: str) -> tuple[str, EncodeStates]:
    """A new table of this format, and an operator that writes it."""
    codec: StateCodec = learn(name, caption_states())
    config = EncodeConfig(state_format=name)
    tower_id = load_tower(config.tower).tower_id
    uri = create_table(f"{folder}/{name}.lance", states_schema(tower_id, codec)).uri
    return uri, EncodeStates(config, samples, uri, ImageLimits())


def forget(tower: Any) -> None:
    """Drop the tokens that repeats would find."""
    tower._prompter._known.clear()
    tower._prompter._shortened.cache_clear()


def bare(tower: Tower, texts: list[str]) -> None:
    """The tower alone."""
    forget(tower)
    tower.encode(texts)


@torch.inference_mode()
def pad_to_longest(tower: Any, texts: list[str], rows: int = 32) -> None:
    """The same model over neighbours of similar length, each batch padded to its longest."""
    tokens = tower._prompter.token_ids(texts)
    for start in range(0, len(texts), rows):
        part = tokens[start : start + rows]
        longest = max(map(len, part))
        ids = torch.tensor([row + [tower._prompter.pad_id] * (longest - len(row)) for row in part])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in part])
        hidden = tower._model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        states = torch.stack([layer.bfloat16() for layer in hidden], dim=2)
        [(states[row, : len(ids_of)].clone(), tower._prompter.spell(ids_of)) for row, ids_of in enumerate(part)]


def write(uri: str, encode_states: Any, tasks: pa.Table) -> None:
    """One fragment: encoded, packed, written, committed."""
    forget(encode_states._contexts.tower)
    (written,) = encode_states(tasks)
    (row,) = written.to_pylist()
    commit_fragments(uri, [row["fragment"]], len(row["keys"]))


def again_rows() -> list[Row]:
    """Seconds of a second run of a finished table over those of the first; forward passes of the second."""
    with tempfile.TemporaryDirectory() as folder:
        config = make_run(Path(folder))
        with ray_session(config.cluster):
            first = _seconds(config, force=False)
            second = _seconds(config, force=True)
        made = Run(config).require("encode").outputs["encoded"]["states"]
    return [
        Row("encode.again", second / first, "of the first run's time", "mark", MARK_AGAIN, MARK_AGAIN * first / second),
        Row("encode.again.seconds", second, "s", "first run", first, first / second),
        Row("encode.again.rows", made, "contexts encoded by the second run", "mark", 0),
    ]


def make_run(folder: Path) -> RunConfig:
    """The demo's config over a table of many captions of one picture, as curation would leave it."""
    (folder / "shards").mkdir()
    for name in ("pairs-0.tar", "edits-0.tar"):
        (folder / "shards" / name).touch()
    config = load_run(encode.CLONE / "pipelines" / "configs" / "demo.toml", (f"root={folder}", *RESOLUTIONS))
    samples = append_samples(Path(config.tables_folder()), [Pair(caption) for caption in captions(MANY)])
    Run(config).step("shapes").finish({})
    Run(config).step("curate").finish({"identity": "captions", "samples": asdict(samples)})
    return config


RESOLUTIONS = ("curate.resolutions=[32,48]", *(f"{stage}.resolution=32" for stage in ("stage1", "stage2", "stage3")),
               "stage4.resolution=48", "edit.resolution=32")  # fmt: skip
"""Those of `tests.samples`."""


def _seconds(config: RunConfig, force: bool) -> float:
    started = time.perf_counter()
    encode.main(Run(config), Namespace(force=force))
    return time.perf_counter() - started


if __name__ == "__main__":
    write_results("states", ratio_rows())
    write_results("states", again_rows())

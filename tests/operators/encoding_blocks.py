"""One block in, its fragments out, as Ray Data calls encoding operators; encoders that give what no table holds."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from mos.encoders.encoding import EncodeConfig
from mos.encoders.load import describe_codec, describe_tower
from mos.images.decode import ImageLimits
from mos.states.calibration import Calibration
from mos.states.payload import StateCodec
from mos.tables.committer import latents_schema
from mos.tables.lance import TableVersion, commit_fragments, create_table
from mos.tables.state_tables import states_schema
from operators.calibrate_states import CalibrateStates
from tests.samples import Pair

PAIRS = [
    Pair("a red circle", "red"),
    Pair("a broken picture", "green", broken=True),
    Pair("make it red", "red", reference="blue", buckets=("24x40", None)),
]
LIMITS = ImageLimits()
Change = Callable[[torch.Tensor, int], torch.Tensor]


def commit(uri: str, encoded: Iterable[pa.Table]) -> tuple[dict[str, dict], dict[str, str]]:
    """Rows by key of the only fragment, and what failed."""
    (written,) = encoded
    (row,) = written.to_pylist()
    table = (
        commit_fragments(uri, [row["fragment"]], len(row["keys"])).open().scanner(blob_handling="all_binary").to_table()
    )
    assert table.column(0).to_pylist() == row["keys"]
    rows = dict(zip(row["keys"], table.to_pylist(), strict=True))
    return rows, dict(zip(row["failed_keys"], row["failures"], strict=True))


def calibrated_table(config: EncodeConfig, samples: TableVersion, tasks: pa.Table, folder: Path) -> str:
    """Uri of a new states table for the config."""
    tower = describe_tower(config.tower)
    codec = StateCodec("bf16", config.held_layers(tower.num_layers), tower.dim)
    if config.state_format != "bf16":
        (row,) = CalibrateStates(config, samples, LIMITS)(tasks).to_pylist()
        codec = replace(codec, format=config.state_format, calibration=Calibration.from_bytes(row["calibration"]))
    return create_table(str(folder / "states.lance"), states_schema(tower.tower_id, codec)).uri


def latents_table(config: EncodeConfig, folder: Path) -> str:
    """Uri of a new latents table for the config."""
    codec = describe_codec(config.vae)
    schema = latents_schema(codec.codec_id, codec.channels, codec.stride)
    return create_table(str(folder / "latents.lance"), schema).uri


class EncoderThatFails:
    """A tower some of whose states, or a codec some of whose latents, are not what a table can hold."""

    def __init__(self, real: Any, change: Change) -> None:
        self._real = real
        self._change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def encode(self, *inputs: Any) -> Any:
        encoded = self._real.encode(*inputs)
        if isinstance(encoded, torch.Tensor):
            return torch.stack([self._change(latent.clone(), place) for place, latent in enumerate(encoded)])
        return [replace(one, states=self._change(one.states.clone(), place)) for place, one in enumerate(encoded)]


def set_first(value: float) -> Change:
    """A value in the first of what is encoded together."""

    def change(values: torch.Tensor, place: int) -> torch.Tensor:
        if place == 0:
            values.view(-1)[5] = value
        return values

    return change

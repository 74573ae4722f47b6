"""The config of a stage: what it takes, what it refuses, and the sentence that says so."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from mos.errors import UserError
from mos.feeding.config import StreamStates
from mos.flow.timestep import ModeTimesteps
from mos.training.sharding import Fsdp2Config
from mos.training.stage import LoaderConfig, StageConfig

LEAST = {"resolution": 16, "steps": 1, "batch_size": 1}


@pytest.mark.parametrize("name", LEAST)
def test_a_stage_has_a_view_a_length_and_a_batch_size(name: str):
    assert StageConfig(**LEAST).tasks == ("generate",)
    with pytest.raises(ValidationError, match=name):
        StageConfig(**{key: value for key, value in LEAST.items() if key != name})


@pytest.mark.parametrize(
    "least",
    [
        {"micro_batch_size": 1},
        {"micro_batch_size": None},
        {"caption_dropout": 0.0},
        {"caption_dropout": 1.0},
        {"ema_decay": 0.0},
        {"max_nonfinite_steps": 0},
        {"checkpoint_patience": 0},
        {"keep_checkpoints": 1},
        {"sample_every": None},
        {"loader": {"cache_bytes": 0, "prefetch_batches": 1}},
    ],
    ids=str,
)
def test_values_at_their_bound_are_taken(least: dict):
    StageConfig(**LEAST, **least)


@pytest.mark.parametrize(
    "beyond",
    [
        {"steps": 0},
        {"batch_size": 0},
        {"resolution": 0},
        {"micro_batch_size": 0},
        {"caption_dropout": 1.01},
        {"caption_dropout": -0.01},
        {"ema_decay": 1.0},
        {"max_nonfinite_steps": -1},
        {"checkpoint_every": 0},
        {"keep_checkpoints": 0},
        {"keep_checkpoints_every": 1500},
        {"held_out_every": 0},
        {"log_every": 0},
        {"sample_every": 0},
        {"num_sample_images": 0},
        {"tasks": ("draw",)},
        {"engine": {"type": "zero"}},
        {"loader": {"prefetch_batches": 0}},
        {"learning_rate": 1e-4},
    ],
    ids=str,
)
def test_values_beyond_their_bound_are_refused(beyond: dict):
    with pytest.raises(ValidationError, match=next(iter(beyond))):
        StageConfig(**(LEAST | beyond))


@pytest.mark.parametrize("ratio", [0, -1.5])
def test_a_ratio_that_is_not_positive_names_its_source(ratio: float):
    assert StageConfig(**LEAST, sources={"a": 2, "b": 0.5}).sources == {"a": 2.0, "b": 0.5}
    with pytest.raises(ValueError, match=rf"source 'b' is {float(ratio)}: make it positive or leave it out"):
        StageConfig(**LEAST, sources={"a": 2, "b": ratio})


def test_a_stage_is_read_from_toml_with_its_parts_chosen_by_type(tmp_path: Path):
    path = tmp_path / "stage.toml"
    path.write_text(
        """
        resolution = 32
        steps = 10
        batch_size = 4
        tasks = ["generate", "edit"]
        timesteps = { type = "mode", shift = 2.0 }
        engine = { blocks_per_unit = 2, precision = { compute = "float32" } }
        states = { type = "stream", window_steps = 5 }
        loader = { cache_bytes = 0 }
        """
    )
    stage = StageConfig.load(path)
    assert stage.tasks == ("generate", "edit")
    assert stage.timesteps == ModeTimesteps(shift=2.0)
    assert isinstance(stage.engine, Fsdp2Config)
    assert (stage.engine.blocks_per_unit, stage.engine.precision.compute) == (2, "float32")
    assert stage.states == StreamStates(window_steps=5)
    assert stage.loader == LoaderConfig(cache_bytes=0)
    assert StageConfig.model_validate_json(stage.model_dump_json()) == stage
    with pytest.raises(UserError, match=r"mixing ratio of source 'b' is 0\.0: make it positive"):
        StageConfig.load(path, ["sources.b=0"])

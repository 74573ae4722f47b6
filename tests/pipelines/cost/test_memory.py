"""Memory of a training step by its parts: what grows with what."""

import torch

from pipelines.cost.figures import stage_figures
from pipelines.cost.memory import TrainingMemory, activation_bytes, training_memory
from pipelines.run.cli import DEFAULT_CONFIG
from pipelines.run.config import RunConfig, load_run
from pipelines.train.job import num_parameters

ONE = ("cluster.train={num=1, cpus=1}", "stage1.batch_size=16", "stage1.engine.precision.compute=float32")


def config_of(*overrides: str) -> RunConfig:
    return load_run(DEFAULT_CONFIG, (*ONE, *overrides))


def memory_of(*overrides: str) -> TrainingMemory:
    config = config_of(*overrides)
    return training_memory(config, "stage1", stage_figures(config, "stage1"))


def activations(*overrides: str) -> int:
    return activation_bytes(config_of(*overrides), "stage1", 9, torch.float32)


def test_activations_grow_with_the_micro_batch_and_not_with_the_batch() -> None:
    whole = activations()
    assert 1.9 < whole / activations("stage1.micro_batch_size=8") < 2.1
    assert activations("stage1.micro_batch_size=8", "stage1.batch_size=32") == activations("stage1.micro_batch_size=8")
    assert activations("stage1.activation_checkpointing=true") < 0.7 * whole


def test_what_is_sharded_is_shared_by_the_workers() -> None:
    config = config_of()
    num = num_parameters(config.model)
    alone, four = memory_of(), memory_of("cluster.train={num=4, cpus=1}", "stage1.batch_size=64")
    assert alone.weights == 8 * num
    assert alone.average == 4 * num
    assert four.weights == alone.weights / 4
    assert four.activations == alone.activations
    assert four.gathered == alone.gathered


def test_muon_keeps_one_moment_of_a_matrix_and_adamw_two() -> None:
    adamw, muon = memory_of("stage1.optimizer.type=adamw"), memory_of("stage1.optimizer.type=muon")
    assert adamw.moments == 8 * num_parameters(config_of().model)
    assert 0.5 * adamw.moments < muon.moments < 0.6 * adamw.moments


def test_units_that_stay_gathered_are_held() -> None:
    one = "stage1.engine.blocks_per_unit=1"
    freed = memory_of(one, "stage1.engine.reshard_after_forward=true")
    kept = memory_of(one, "stage1.engine.reshard_after_forward=false")
    assert kept.gathered > 2 * freed.gathered


def test_micro_batches_add_up_gradients_of_the_whole_model() -> None:
    whole, parts = memory_of(), memory_of("stage1.micro_batch_size=8")
    assert parts.gathered > whole.gathered
    assert parts.gathered >= 4 * num_parameters(config_of().model)

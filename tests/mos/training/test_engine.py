"""What the training loop may rely on, whichever engine shards the model."""

from pathlib import Path

import pytest
import torch

from mos.loader.batch import num_micro_batches
from mos.training.checksums import Checksum
from mos.training.engine import Engine, build_engine
from mos.training.loop import sample_losses
from mos.training.precision import PrecisionConfig
from mos.training.sharding import Fsdp2Config
from tests.mos.training.tiny import FLOAT32, OPTIMIZER, tiny_batch, tiny_model

ENGINES = [FLOAT32, Fsdp2Config(precision=PrecisionConfig(compute="float32"), blocks_per_unit=2)]
pytestmark = pytest.mark.usefixtures("group")


@pytest.fixture(params=ENGINES, ids=["a block a unit", "two blocks a unit"])
def config(request: pytest.FixtureRequest) -> Fsdp2Config:
    return request.param


def built(config: Fsdp2Config, *, recompute: bool = False, **optimizer: float) -> Engine:
    settings = OPTIMIZER.model_copy(update=optimizer)
    return build_engine(config, settings, tiny_model(), torch.device("cpu"), recompute=recompute)


def backward(engine: Engine, micro_batch_size: int | None = None, factor: float = 1.0) -> None:
    """Gradients of the mean loss of a batch of 8."""
    parts = list(tiny_batch(0).split(num_micro_batches(8, 1, micro_batch_size)))
    for number, part in enumerate(parts):
        loss = sample_losses(engine.model, part).sum() / 8
        engine.backward(factor * loss, last=number == len(parts) - 1)


def whole(engine: Engine) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in engine.gather(engine.weights())}


def changes(engine: Engine, before: dict[str, torch.Tensor]) -> list[float]:
    """Largest change of each weight."""
    return [(tensor - before[name]).abs().max().item() for name, tensor in whole(engine).items()]


def test_gathered_weights_are_those_of_the_model_it_was_given(config: Fsdp2Config) -> None:
    gathered, given = whole(built(config)), tiny_model().state_dict()
    assert gathered.keys() == given.keys()
    assert all(torch.equal(gathered[name], given[name]) for name in given)
    assert {tensor.dtype for tensor in gathered.values()} == {torch.float32}


def test_writing_to_the_weights_changes_the_model(config: Fsdp2Config) -> None:
    engine = built(config)
    for tensor in engine.weights().values():
        tensor.fill_(0.25)
    engine.sync()
    assert all((tensor == 0.25).all() for tensor in whole(engine).values())
    assert all((parameter.full_tensor() == 0.25).all() for parameter in engine.model.parameters())


@pytest.mark.parametrize("micro_batch_size", [None, 3, 1])
def test_the_norm_is_that_of_the_whole_batch_before_clipping(config: Fsdp2Config, micro_batch_size: int | None) -> None:
    model = tiny_model()
    sample_losses(model, tiny_batch(0)).mean().backward()
    expected = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    engine = built(config, clip_norm=1e-3)
    backward(engine, micro_batch_size)
    assert expected > 1e-2
    assert engine.step(1e-3).item() == pytest.approx(expected.item(), rel=1e-5)


def test_no_weight_moves_further_than_its_rate_and_a_clipped_gradient_less(config: Fsdp2Config) -> None:
    """AdamW's first update is the rate's size, but where the gradient is nothing beside its epsilon of 1e-8."""
    for clip_norm, least, most in ((1.0, 0.9e-3, 1.1e-3), (1e-10, 0.0, 1e-4)):
        engine = built(config, clip_norm=clip_norm, weight_decay=0.0)
        before = whole(engine)
        backward(engine)
        engine.step(1e-3)
        assert least < max(changes(engine, before)) < most


def test_a_step_leaves_no_gradient_behind(config: Fsdp2Config) -> None:
    engine = built(config)
    backward(engine)
    assert engine.step(1e-3) > 0
    assert engine.step(1e-3) == 0


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_norm_that_is_not_finite_is_returned_and_nothing_changes(config: Fsdp2Config, factor: float) -> None:
    engine = built(config)
    before = whole(engine)
    backward(engine, factor=factor)
    assert not engine.step(1e-3).isfinite()
    assert max(changes(engine, before)) == 0
    backward(engine)
    engine.step(1e-3)
    assert 0 < max(changes(engine, before)) < 2e-3


@pytest.mark.parametrize("background", [False, True])
def test_what_is_saved_is_loaded_and_goes_on_as_if_unbroken(
    config: Fsdp2Config, tmp_path: Path, background: bool
) -> None:
    engine = built(config)
    backward(engine)
    engine.step(1e-2)
    average = {name: torch.full_like(tensor, 7.0) for name, tensor in engine.weights().items()}
    files = engine.save(tmp_path, average, background=background).result(timeout=60)
    assert files == {path.name: Checksum.of(path.read_bytes()) for path in tmp_path.iterdir()}
    again, anew = built(config), built(config)
    for other, optimizer in ((again, True), (anew, False)):
        loaded = {name: torch.zeros_like(tensor) for name, tensor in other.weights().items()}
        other.load(tmp_path, loaded, optimizer=optimizer)
        assert max(changes(other, whole(engine))) == 0
        assert all((tensor.full_tensor() == 7.0).all() for tensor in loaded.values())
    for other in (engine, again, anew):
        backward(other)
        other.step(1e-2)
    assert max(changes(again, whole(engine))) == 0
    assert max(changes(anew, whole(engine))) > 1e-4


@pytest.mark.parametrize("recompute", [False, True])
def test_blocks_run_again_in_the_backward_pass_where_asked_for(config: Fsdp2Config, recompute: bool) -> None:
    engine, calls = built(config, recompute=recompute), []
    engine.model.blocks[0].state_in.register_forward_hook(lambda *_: calls.append("state_in"))
    backward(engine)
    assert len(calls) == 1 + recompute

"""The loop's bookkeeping: bad gradients are skipped, counted and in the end refused; checkpoints count when whole."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mos.errors import UserError
from mos.training.checkpoint import newest_checkpoint
from mos.training.checkpoint_format import MARKER, TrainState
from mos.training.checkpoints import Checkpoints
from mos.training.ema import Ema
from mos.training.loop import sample_losses, train, update
from mos.training.nonfinite import SkippedUpdates
from tests.mos.training.tiny import FLOAT32, tiny_batch, tiny_engine, tiny_stage


def poisoned(step: int, bad: set[int]):
    batch = tiny_batch(step)
    if step in bad:
        batch.latents[0, 0, 0, 0] = float("nan")
    return batch


def run(folder: Path, bad: set[int], **options):
    stage = tiny_stage(**options)
    engine = tiny_engine(stage)
    ema, lines = Ema(engine.weights(), 0.9), []
    batches = (poisoned(step, bad) for step in range(stage.steps))
    checkpoints = Checkpoints(folder, {"run": "test"}, keep=stage.keep_checkpoints)
    state = train(engine, ema, batches, stage, TrainState(), checkpoints=checkpoints, report=lines.append)
    return engine, ema, state, lines


def test_a_non_finite_gradient_is_skipped_and_counted(group, tmp_path):
    engine, ema, state, lines = run(tmp_path, {1, 3})
    assert state == TrainState(step=6, nonfinite_steps=2)
    assert ema.num_updates == 6
    assert [line.nonfinite_steps for line in lines] == [0, 1, 1, 2, 2, 2]
    assert all(tensor.full_tensor().isfinite().all() for tensor in engine.weights().values())


def test_too_many_non_finite_gradients_end_training_with_a_sentence(group, tmp_path):
    with pytest.raises(UserError, match="2 updates had a non-finite gradient by step 4, more than max_nonfin"):
        run(tmp_path, {1, 3}, max_nonfinite_steps=1)


def test_a_skipped_update_leaves_no_trace(group):
    """Weights and moments after a bad batch between two good ones are those of the good ones alone."""
    outcomes = []
    for bad in ({1}, set()):
        engine = tiny_engine(tiny_stage())
        for step in (0, 1, 2) if bad else (0, 2):
            update(engine, poisoned(step, bad), 1e-3)
        outcomes.append([tensor.full_tensor() for tensor in engine.weights().values()])
    assert all(torch.equal(one, other) for one, other in zip(*outcomes, strict=True))


def test_a_sample_that_is_left_out_does_not_count(group):
    """Loss and gradient are those of the other samples, over the size of the whole batch."""
    outcomes = []
    for weight in (None, torch.tensor([1.0, 1, 0, 1, 1, 1, 1, 1])):
        batch, engine = replace(tiny_batch(0), weight=weight), tiny_engine(tiny_stage())
        losses = sample_losses(engine.model, batch)
        outcomes.append(losses.detach())
        for size in (None, 2):
            result = update(tiny_engine(tiny_stage()), batch, 1e-3, micro_batch_size=size)
            assert result.loss.item() == pytest.approx(losses.sum().item() / 8)
    plain, weighed = outcomes
    assert torch.equal(weighed, plain * torch.tensor([1.0, 1, 0, 1, 1, 1, 1, 1]))
    assert (tiny_batch(0).num_left_out, batch.num_left_out) == (0, 1)
    assert [part.num_left_out for part in batch.split(4)] == [0, 1, 0, 0]


class NothingIsRead(TorchDispatchMode):
    """Fails where a tensor's value reaches Python: on a GPU the host would wait there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "a value was read back"
        assert func is not torch.ops.aten.nonzero.default, "a size depends on values"
        return func(*args, **(kwargs or {}))


def test_a_step_waits_for_nothing(group):
    engine, batch = tiny_engine(tiny_stage()), tiny_batch(0)
    ema, skipped = Ema(engine.weights(), 0.9), SkippedUpdates(0, 0, engine.device)
    with NothingIsRead():
        result = update(engine, batch, 1e-3)
        ema.update(engine.weights())
        skipped.add(result.grad_norm)
    with pytest.raises(AssertionError, match="read back"), NothingIsRead():
        skipped.read(1)


def test_the_newest_whole_checkpoint_wins_and_old_ones_go(group, tmp_path):
    run(tmp_path, set(), checkpoint_every=2, keep_checkpoints=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000004", "step-000000006"]
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert (newest.state, newest.ema_updates, newest.provenance) == (TrainState(6), 6, {"run": "test"})
    shard = next(newest.path.glob("shards/*.distcp"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert newest_checkpoint(tmp_path).state.step == 4
    (tmp_path / "step-000000004" / MARKER).unlink()
    assert newest_checkpoint(tmp_path) is None


@pytest.mark.parametrize("freed", [True, False])
def test_what_looks_at_the_average_changes_no_step(group, tmp_path, freed):
    """A forward pass without a backward pass leaves weights gathered, and those are the average's."""
    stage = tiny_stage(engine=FLOAT32.model_copy(update={"reshard_after_forward": freed}), ema_decay=0.999)
    trained = []
    for every in (None, 2):
        engine = tiny_engine(stage)

        def look(model, step):
            with torch.no_grad():
                sample_losses(model, tiny_batch(step))

        looking = stage.model_copy(update={"held_out_every": every})
        batches = (tiny_batch(step) for step in range(stage.steps))
        train(
            engine,
            Ema(engine.weights(), stage.ema_decay),
            batches,
            looking,
            TrainState(),
            checkpoints=Checkpoints(tmp_path / str(every), {}, keep=1),
            report=lambda _: None,
            held_out=look,
        )
        trained.append({name: tensor.clone() for name, tensor in engine.gather(engine.weights())})
    plain, looked = trained
    assert all(torch.equal(tensor, looked[name]) for name, tensor in plain.items())


def test_a_grid_is_drawn_with_the_average(group, tmp_path):
    stage = tiny_stage(sample_every=4, ema_decay=0.0)
    engine = tiny_engine(stage)
    ema, seen = Ema(engine.weights(), 0.999), []
    name = "patch_out.weight"

    def grid(model, step):
        seen.append((step, engine.weights()[name].full_tensor().clone(), ema.average[name].full_tensor().clone()))

    batches = (tiny_batch(step) for step in range(stage.steps))
    checkpoints = Checkpoints(tmp_path, {}, keep=1)
    train(engine, ema, batches, stage, TrainState(), checkpoints=checkpoints, report=lambda _: None, sample_grid=grid)
    assert [step for step, _, _ in seen] == [4, 6]
    _, drawn_with, live = seen[-1]
    assert torch.equal(drawn_with, ema.average[name].full_tensor())
    assert torch.equal(live, engine.weights()[name].full_tensor())

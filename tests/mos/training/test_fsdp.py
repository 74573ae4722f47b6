"""FSDP2 over real processes trains like one process, in shards."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from mos.model.exported import WEIGHTS
from mos.model.fusion import HandCraftedFusion
from mos.model.mos import ModelConfig, MoS
from mos.training.checkpoint import Checkpoint, newest_checkpoint
from mos.training.checkpoint_format import TrainState
from mos.training.checkpoints import Checkpoints
from mos.training.ema import Ema
from mos.training.engine import Engine, build_engine
from mos.training.export import write_export
from mos.training.loop import sample_losses, train, update
from mos.training.metrics import StepMetrics
from mos.training.optimizer import OptimizerConfig, Optimizers, learning_rate
from mos.training.precision import PrecisionConfig
from mos.training.sharding import Fsdp2Config, MeshConfig
from mos.training.stop import StopRequest, StopVote
from tests.mos.training.gloo import process_group, run_ranks
from tests.mos.training.tiny import FLOAT32, MODEL, tiny_batch, tiny_engine, tiny_model, tiny_stage

MUON = OptimizerConfig(type="muon", lr=1e-2, final_lr=1e-3, warmup_steps=2)


def plain_training(stage, num_steps: int) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Six lines of PyTorch that the engine must agree with."""
    model = tiny_model()
    optimizers = Optimizers(stage.optimizer, model)
    losses = []
    for step in range(num_steps):
        loss = sample_losses(model, tiny_batch(step)).mean()
        losses.append(loss.item())
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), stage.optimizer.clip_norm)
        optimizers.step(learning_rate(stage.optimizer, step, stage.steps), norm)
    return dict(model.named_parameters()), losses


def whole(engine: Engine, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: t.full_tensor() if isinstance(t, DTensor) else t for name, t in tensors.items()}


def train_ranks(stage, folder: Path, first: TrainState = TrainState(), last: int | None = None):  # noqa: B008
    """Train steps first..last of the tiny stage, from the newest checkpoint where `first` is not the start."""
    rank, world = dist.get_rank(), dist.get_world_size()
    engine = tiny_engine(stage)
    ema = Ema(engine.weights(), stage.ema_decay)
    if first.step:
        found = newest_checkpoint(folder)
        assert found is not None
        assert found.state == first
        found.restore(engine, ema, optimizer=True)
    lines: list[StepMetrics] = []
    batches = (tiny_batch(step, rank, world, stage.batch_size) for step in range(first.step, last or stage.steps))
    checkpoints = Checkpoints(folder, {"run": "test"}, keep=2, background=stage.async_checkpoint)
    state = train(engine, ema, batches, stage, first, checkpoints=checkpoints, report=lines.append)
    return engine, ema, state, lines


def check_two_ranks_equal_one_process(folder: Path) -> None:
    one_unit = FLOAT32.model_copy(update={"blocks_per_unit": 2, "reshard_after_forward": False})
    muon = {"optimizer": MUON}
    variants = ({}, muon, {"micro_batch_size": 2}, {"activation_checkpointing": True}, {"engine": one_unit})
    for number, options in enumerate((*variants, {"engine": one_unit, "activation_checkpointing": True})):
        stage = tiny_stage(**options)
        engine, _, _, lines = train_ranks(stage, folder / str(number))
        expected, losses = plain_training(stage, stage.steps)
        assert [line.loss for line in lines] == pytest.approx(losses, rel=1e-5)
        for name, tensor in whole(engine, engine.weights()).items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)
    shards = [tensor.to_local().numel() for tensor in engine.weights().values()]
    assert sum(shards) < 0.6 * sum(tensor.numel() for tensor in expected.values())
    write_export(folder / "export", engine, Ema(engine.weights(), 0.9), {"run": {}})
    if dist.get_rank() == 0:
        from safetensors.torch import load_file

        exported = load_file(folder / "export" / WEIGHTS)
        assert exported.keys() == expected.keys()
        tiny_model().load_state_dict(exported)


def check_ranks_that_do_not_divide_the_batch(folder: Path) -> None:
    """Shares of 2, 3 and 3 of 8 samples, in one, two and one micro batches, train as one process does."""
    for micro_batch_size in (None, 2, 3):
        stage = tiny_stage(micro_batch_size=micro_batch_size)
        engine, _, _, lines = train_ranks(stage, folder / str(micro_batch_size))
        expected, losses = plain_training(stage, stage.steps)
        assert [line.loss for line in lines] == pytest.approx(losses, rel=1e-5)
        for name, tensor in whole(engine, engine.weights()).items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)


def test_ranks_need_not_divide_the_batch(tmp_path):
    run_ranks(check_ranks_that_do_not_divide_the_batch, 3, tmp_path)


def check_copies_of_shards(folder: Path) -> None:
    """Two copies over two ranks each train as one process does, and any gang goes on from their checkpoints."""
    copies = FLOAT32.model_copy(update={"mesh": MeshConfig(replicate=2)})
    for number, options in enumerate(({}, {"optimizer": MUON})):
        stage = tiny_stage(engine=copies, **options)
        engine, _, _, lines = train_ranks(stage, folder / str(number))
        expected, losses = plain_training(stage, stage.steps)
        assert [line.loss for line in lines] == pytest.approx(losses, rel=1e-5)
        for name, tensor in whole(engine, engine.weights()).items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)
        held = sum(tensor.to_local().numel() for tensor in engine.weights().values())
        assert 0.5 <= held / sum(tensor.numel() for tensor in expected.values()) < 0.6
        filled = tiny_engine(stage)
        assert filled.fill(whole(engine, engine.weights()).items()) == []
        for name, tensor in filled.weights().items():
            assert torch.equal(tensor.to_local(), engine.weights()[name].to_local())
        sharded = tiny_engine(tiny_stage(**options))
        average = Ema(sharded.weights(), 0.9)
        newest_checkpoint(folder / str(number)).restore(sharded, average, optimizer=True)
        found, kept = whole(sharded, sharded.weights()), whole(engine, engine.weights())
        assert all(torch.equal(found[name], kept[name]) for name in kept)


def test_copies_of_a_sharded_model_train_like_one(tmp_path):
    run_ranks(check_copies_of_shards, 4, tmp_path)


def check_resume_is_bitwise(folder: Path) -> None:
    for number, options in enumerate(({}, {"async_checkpoint": True}, {"optimizer": MUON})):
        stage = tiny_stage(steps=5, checkpoint_every=3, **options)
        broken, unbroken = folder / f"broken{number}", folder / f"unbroken{number}"
        train_ranks(stage, broken, last=4)
        engine, ema, state, _ = train_ranks(stage, broken, first=TrainState(step=3))
        expected, expected_ema, expected_state, _ = train_ranks(stage, unbroken)
        assert state == expected_state
        assert ema.num_updates == expected_ema.num_updates == 5
        for mine, theirs in ((engine.weights(), expected.weights()), (ema.average, expected_ema.average)):
            assert all(torch.equal(mine[name].to_local(), theirs[name].to_local()) for name in theirs)


def check_bfloat16_compute_keeps_fp32_masters(folder: Path) -> None:
    stage = tiny_stage(engine=Fsdp2Config(precision=PrecisionConfig(compute="bfloat16")))
    engine, ema, _, lines = train_ranks(stage, folder)
    assert all(tensor.dtype == torch.float32 for tensor in (*engine.weights().values(), *ema.average.values()))
    _, losses = plain_training(stage, stage.steps)
    assert [line.loss for line in lines] == pytest.approx(losses, rel=3e-2)


def save_at_three(folder: Path) -> None:
    train_ranks(tiny_stage(checkpoint_every=3), folder, last=3)


def check_going_on_from_another_world_size(folder: Path) -> None:
    engine, ema, _, _ = train_ranks(tiny_stage(checkpoint_every=3), folder, first=TrainState(step=3))
    expected, _ = plain_training(tiny_stage(), 6)
    for name, tensor in whole(engine, engine.weights()).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)
    assert ema.num_updates == 6


def check_a_later_stage_begins_with_a_new_optimizer(folder: Path) -> None:
    """Its first update is that of plain AdamW from the weights of the checkpoint."""
    rank, world, stage = dist.get_rank(), dist.get_world_size(), tiny_stage()
    engine = tiny_engine(stage)
    newest_checkpoint(folder).restore(engine, Ema(engine.weights(), 0.9), optimizer=False)
    model = tiny_model()
    model.load_state_dict(whole(engine, engine.weights()))
    optimizers = Optimizers(stage.optimizer, model)
    for step in range(2):
        update(engine, tiny_batch(step, rank, world), stage.optimizer.lr)
        sample_losses(model, tiny_batch(step)).mean().backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), stage.optimizer.clip_norm)
        optimizers.step(stage.optimizer.lr, norm)
        for name, tensor in whole(engine, engine.weights()).items():
            torch.testing.assert_close(tensor, model.get_parameter(name), rtol=1e-4, atol=1e-5)


def check_a_stop_that_one_rank_sees_ends_both_after_the_same_step(folder: Path) -> None:
    rank, world, stage = dist.get_rank(), dist.get_world_size(), tiny_stage(steps=40)
    (folder / str(rank)).mkdir(parents=True)
    request = StopRequest(folder / str(rank))  # as where a network file system shows a new file to one node first
    engine = tiny_engine(stage)

    def batches():
        for step in range(stage.steps):
            if (rank, step) == (1, 4):
                request.ask()
            yield tiny_batch(step, rank, world)

    checkpoints = Checkpoints(folder, {}, keep=1)
    ema = Ema(engine.weights(), 0.9)
    state = train(
        engine, ema, batches(), stage, TrainState(),
        checkpoints=checkpoints, report=lambda _: None, stop=StopVote(request),
    )  # fmt: skip
    steps: list = [None] * world
    dist.all_gather_object(steps, state.step)
    assert steps == [6, 6]
    assert newest_checkpoint(folder).state == state


def check_shards_of_a_meta_model_are_those_of_the_whole(config: ModelConfig, recompute: bool) -> None:
    stage = tiny_stage()
    model = MoS(config)
    model.init_weights(torch.Generator().manual_seed(0))
    whole = build_engine(stage.engine, stage.optimizer, model, torch.device("cpu"), recompute=recompute)
    with torch.device("meta"):
        model = MoS(config)
    engine = build_engine(stage.engine, stage.optimizer, model, torch.device("cpu"), recompute=recompute)
    assert engine.fill([]) == list(engine.shapes)
    assert engine.fill(model.initial_weights(torch.Generator().manual_seed(0))) == []
    found = engine.weights()
    for name, weight in whole.weights().items():
        assert torch.equal(found[name].to_local(), weight.to_local()), name
    held = sum(weight.untyped_storage().nbytes() for weight in (weight.to_local() for weight in found.values()))
    assert held < 0.6 * 4 * sum(weight.numel() for weight in found.values())
    rank, world = dist.get_rank(), dist.get_world_size()
    losses = [update(one, tiny_batch(0, rank, world), 1e-3).loss.item() for one in (whole, engine)]
    assert losses[0] == losses[1]


def check_no_registers_train(folder: Path) -> None:
    stage = tiny_stage(steps=2)
    model = MoS(MODEL.model_copy(update={"num_registers": 0}))
    model.init_weights(torch.Generator().manual_seed(0))
    engine = build_engine(stage.engine, stage.optimizer, model, torch.device("cpu"), recompute=False)
    batches = (tiny_batch(step, dist.get_rank(), dist.get_world_size()) for step in range(2))
    checkpoints = Checkpoints(folder, {}, keep=1)
    ema = Ema(engine.weights(), 0.9)
    train(engine, ema, batches, stage, TrainState(), checkpoints=checkpoints, report=lambda _: None)
    newest_checkpoint(folder).restore(engine, ema, optimizer=True)


def check_all(folder: Path) -> None:
    check_two_ranks_equal_one_process(folder / "equal")
    check_bfloat16_compute_keeps_fp32_masters(folder / "bfloat16")
    check_resume_is_bitwise(folder / "resume")
    check_going_on_from_another_world_size(folder / "from_one")
    save_at_three(folder / "from_two")
    check_a_later_stage_begins_with_a_new_optimizer(folder / "from_two")
    check_a_stop_that_one_rank_sees_ends_both_after_the_same_step(folder / "stopped")
    check_no_registers_train(folder / "registers")
    check_shards_of_a_meta_model_are_those_of_the_whole(MODEL, recompute=False)
    fixed = MODEL.model_copy(update={"fusion": HandCraftedFusion()})  # whose layers are a buffer
    check_shards_of_a_meta_model_are_those_of_the_whole(fixed, recompute=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_ranks_train_like_one_and_checkpoints_move_between_them(tmp_path):
    """One start of two processes for all checks: starting them costs more than training."""
    with process_group(0, 1, tmp_path / "rendezvous"):
        save_at_three(tmp_path / "from_one")
    run_ranks(check_all, 2, tmp_path)
    with process_group(0, 1, tmp_path / "rendezvous2"):
        check_going_on_from_another_world_size(tmp_path / "from_two")
    assert Checkpoint.read(tmp_path / "from_two" / "step-000000006").state.step == 6

"""DeepSpeed's ZeRO trains as FSDP2 does, resumes, and reads what FSDP2 wrote; and the other way round."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from mos.errors import UserError
from mos.model.exported import WEIGHTS
from mos.model.mos import MoS
from mos.training.checkpoint import newest_checkpoint
from mos.training.checkpoint_format import TrainState
from mos.training.checkpoints import Checkpoints
from mos.training.ema import Ema
from mos.training.engine import Engine, build_engine
from mos.training.export import write_export
from mos.training.loop import sample_losses, train
from mos.training.metrics import StepMetrics
from mos.training.precision import PrecisionConfig
from mos.training.sharding import ZeroConfig
from mos.training.zero import check_options, zero_settings
from tests.mos.training.gloo import run_ranks
from tests.mos.training.tiny import MODEL, OPTIMIZER, tiny_batch, tiny_engine, tiny_model, tiny_stage

pytestmark = pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")

EXACT = PrecisionConfig(compute="float32")
STEPS = 20


def zero(stage: int, **options: object) -> ZeroConfig:
    return ZeroConfig(stage=stage, precision=EXACT, options=options)


def run_stage(stage, folder: Path, last: int | None = None) -> tuple[Engine, Ema, list[StepMetrics]]:
    """Train from the newest checkpoint in a folder, if there is one, to step `last`."""
    rank, world = dist.get_rank(), dist.get_world_size()
    engine = tiny_engine(stage)
    ema, state = Ema(engine.weights(), stage.ema_decay), TrainState()
    found = newest_checkpoint(folder)
    if found is not None:
        found.restore(engine, ema, optimizer=True)
        state = found.state
    lines: list[StepMetrics] = []
    batches = (tiny_batch(step, rank, world) for step in range(state.step, last or stage.steps))
    saved = Checkpoints(folder, {}, keep=2, background=stage.async_checkpoint)
    train(engine, ema, batches, stage, state, checkpoints=saved, report=lines.append)
    return engine, ema, lines


def whole(engine: Engine, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """On every rank."""
    box = [dict(engine.gather(tensors))]
    dist.broadcast_object_list(box)
    return box[0]


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], exact: bool = False) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        limit = 0.0 if exact else 1e-4
        torch.testing.assert_close(tensor, expected[name], rtol=limit, atol=limit / 10)


def check_zero(folder: Path) -> None:
    """All that two ranks show, in one group: the package takes longer to import than the rest to run."""
    plain = tiny_stage(steps=STEPS, checkpoint_every=8)
    fsdp, fsdp_ema, lines = run_stage(plain, folder / "fsdp")
    losses = [line.loss for line in lines]
    weights, average = whole(fsdp, fsdp.weights()), whole(fsdp, fsdp_ema.average)
    for number in (1, 2, 3):
        options = {"steps": STEPS, "checkpoint_every": 8, "engine": zero(number), "micro_batch_size": 2}
        stage = tiny_stage(**options, activation_checkpointing=number == 3, async_checkpoint=number == 2)
        path = folder / f"zero{number}"

        engine, ema, lines = run_stage(stage, path)
        assert [line.loss for line in lines] == pytest.approx(losses, rel=1e-5)
        assert_close(whole(engine, engine.weights()), weights)
        assert_close(whole(engine, ema.average), average)
        held = sum(tensor.numel() for tensor in engine.weights().values())
        assert held < 0.6 * sum(tensor.numel() for tensor in weights.values())

        check_resume(stage, engine, ema, folder / f"broken{number}")
        check_average_is_lent(engine, ema)
        check_nothing_changes_where_a_gradient_is_not_finite(engine)
        check_export(engine, ema, folder / f"export{number}")

        # Another engine goes on from either's checkpoint, the optimizer's state with it.
        check_goes_on(plain, path, folder / "fsdp")
        check_goes_on(stage, folder / "fsdp", folder / "fsdp")
    check_goes_on(tiny_stage(steps=STEPS, checkpoint_every=8, engine=zero(3)), folder / "zero1", folder / "fsdp")
    check_no_rank_is_given_what_another_fills()


def check_resume(stage, engine: Engine, ema: Ema, folder: Path) -> None:
    run_stage(stage, folder, last=13)  # as if it ended between checkpoints
    resumed, average, _ = run_stage(stage, folder)
    assert_close(whole(resumed, resumed.weights()), whole(engine, engine.weights()), exact=True)
    assert_close(whole(resumed, average.average), whole(engine, ema.average), exact=True)


def check_goes_on(stage, folder: Path, other: Path) -> None:
    """From the newest checkpoint of a folder an engine goes on as the one that wrote another's does."""
    longer = stage.model_copy(update={"steps": STEPS + 4, "checkpoint_every": 1000})
    expected = tiny_stage(steps=STEPS + 4, checkpoint_every=1000)
    losses = []
    for each, path in ((longer, folder), (expected, other)):
        engine = tiny_engine(each)
        ema = Ema(engine.weights(), each.ema_decay)
        found = newest_checkpoint(path)
        assert found is not None
        found.restore(engine, ema, optimizer=True)
        rank, world = dist.get_rank(), dist.get_world_size()
        for step in range(found.state.step, STEPS + 4):
            engine.backward(sample_losses(engine.model, tiny_batch(step, rank, world)).mean(), last=True)
            losses.append(float(engine.step(1e-2)))
    half = len(losses) // 2
    assert losses[:half] == pytest.approx(losses[half:], rel=2e-4)


def check_average_is_lent(engine: Engine, ema: Ema) -> None:
    batch = tiny_batch(0)
    with ema.swapped_into(engine), torch.inference_mode():  # as previews draw
        sample_losses(engine.model, batch)
    with torch.no_grad():
        own = sample_losses(engine.model, batch)
        expected = tiny_model()
        expected.load_state_dict(whole(engine, ema.average))
        with ema.swapped_into(engine):
            lent = sample_losses(engine.model, batch)
        torch.testing.assert_close(lent, sample_losses(expected, batch), rtol=1e-5, atol=1e-6)
        assert not torch.equal(lent, own)
        assert torch.equal(sample_losses(engine.model, batch), own)


def check_nothing_changes_where_a_gradient_is_not_finite(engine: Engine) -> None:
    before = whole(engine, engine.weights())
    rank, world = dist.get_rank(), dist.get_world_size()
    loss = sample_losses(engine.model, tiny_batch(0, rank, world)).mean()
    engine.backward(loss * (float("nan") if rank else 1.0), last=True)  # of one rank's share alone
    assert not engine.step(1e-2).isfinite()
    assert_close(whole(engine, engine.weights()), before, exact=True)
    engine.backward(sample_losses(engine.model, tiny_batch(0, rank, world)).mean(), last=True)
    assert engine.step(1e-2).isfinite()


def check_export(engine: Engine, ema: Ema, folder: Path) -> None:
    write_export(folder, engine, ema, {"run": {}})
    average = whole(engine, ema.average)
    if dist.get_rank() == 0:
        from safetensors.torch import load_file

        assert_close(load_file(folder / WEIGHTS), average, exact=True)


def check_no_rank_is_given_what_another_fills() -> None:
    """A model on the meta device has the same weights as one that was made whole."""
    for number in (2, 3):
        with torch.device("meta"):
            model = MoS(MODEL)
        engine = build_engine(zero(number), OPTIMIZER, model, torch.device("cpu"), recompute=False)
        assert engine.fill(model.initial_weights(torch.Generator().manual_seed(0))) == []
        assert_close(whole(engine, engine.weights()), dict(tiny_model().state_dict()), exact=True)
        with torch.no_grad():
            expected = sample_losses(tiny_model(), tiny_batch(0))
            assert torch.equal(sample_losses(engine.model, tiny_batch(0)), expected)


def check_one_rank_goes_on(folder: Path) -> None:
    check_goes_on(tiny_stage(steps=STEPS, engine=zero(2)), folder / "zero3", folder / "fsdp")
    bfloat16 = ZeroConfig(stage=1, precision=PrecisionConfig(compute="bfloat16"))
    engine = tiny_engine(tiny_stage(engine=bfloat16))
    exact = tiny_engine(tiny_stage())
    for each in (engine, exact):
        each.backward(sample_losses(each.model, tiny_batch(0)).mean(), last=True)
    assert float(engine.step(1e-3)) == pytest.approx(float(exact.step(1e-3)), rel=0.05)
    assert {tensor.dtype for tensor in engine.weights().values()} == {torch.float32}
    assert next(iter(engine.model.parameters())).dtype == torch.bfloat16


def test_zero_trains_as_fsdp2_does(tmp_path: Path) -> None:
    run_ranks(check_zero, 2, tmp_path)
    run_ranks(check_one_rank_goes_on, 1, tmp_path)


def test_options_reach_deepspeed_under_its_names() -> None:
    config = zero(2, overlap_comm=False, offload_optimizer={"device": "cpu"})
    settings = zero_settings(config, OPTIMIZER, torch.device("cpu"))
    expected = {"stage": 2, "overlap_comm": False, "offload_optimizer": {"device": "cpu"}}
    assert settings["zero_optimization"] == expected
    assert settings["gradient_clipping"] == OPTIMIZER.clip_norm


def test_an_option_that_deepspeed_does_not_know_is_named() -> None:
    check_options({"stage": 2, "overlap_comm": False})
    with pytest.raises(UserError, match=r"engine\.options\.overlap_com: DeepSpeed does not take it"):
        check_options({"stage": 2, "overlap_com": False})

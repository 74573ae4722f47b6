"""Weights of exports and checkpoints in sharded models, over one rank and several."""

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from mos.errors import UserError
from mos.model.mos import ModelConfig, MoS
from mos.training.checkpoint_format import TrainState
from mos.training.checkpoints import Checkpoints
from mos.training.ema import Ema
from mos.training.engine import Engine, build_engine
from mos.training.export import write_export
from mos.training.given_weights import check_fit, load_checkpoint, load_export
from mos.training.local import local
from mos.training.loop import update
from mos.training.start import GivenWeights
from tests.mos.training.gloo import process_group, run_ranks
from tests.mos.training.tiny import FLOAT32, MODEL, OPTIMIZER, tiny_batch, tiny_engine, tiny_model, tiny_stage

CPU = torch.device("cpu")
DEEPER = MODEL.model_copy(update={"num_blocks": 3})


def save_model(folder: Path, config: ModelConfig, seed: int = 5) -> dict[str, torch.Tensor]:
    """An export with weights that nothing else has."""
    model = MoS(config)
    model.init_weights(torch.Generator().manual_seed(seed))
    weights = {name: weight.detach() + 1 for name, weight in model.named_parameters()}
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model": config.model_dump(mode="json")}))
    return weights


def engine_of(config: ModelConfig = MODEL) -> Engine:
    model = tiny_model() if config == MODEL else MoS(config)
    if config != MODEL:
        model.init_weights(torch.Generator().manual_seed(0))
    return build_engine(FLOAT32, OPTIMIZER, model, CPU, recompute=False)


def load_and_gather(start: GivenWeights, out: Path) -> None:
    """On every rank: an export's weights into shards, gathered again on rank 0."""
    engine = engine_of()
    assert load_export(start, engine) == []
    whole = dict(engine.gather(engine.weights()))
    if whole:
        save_file(whole, out)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_every_rank_reads_its_own_rows_of_an_export(tmp_path: Path, ranks: int):
    weights = save_model(tmp_path / "export", MODEL)
    run_ranks(load_and_gather, ranks, GivenWeights(path=str(tmp_path / "export")), tmp_path / "whole.safetensors")
    found = load_file(tmp_path / "whole.safetensors")
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_what_an_export_lacks_keeps_its_values_and_is_listed(tmp_path: Path):
    weights = save_model(tmp_path / "export", MODEL)
    start = GivenWeights(path=str(tmp_path / "export"), partial=True)
    check_fit(start, DEEPER, OPTIMIZER)
    with process_group(0, 1, tmp_path / "group"):
        engine = engine_of(DEEPER)
        before = {name: weight.full_tensor().clone() for name, weight in engine.weights().items()}
        left = load_export(start, engine)
        after = {name: weight.full_tensor() for name, weight in engine.weights().items()}
    assert {name for name in left if name.startswith("blocks.")} == {n for n in before if n.startswith("blocks.2.")}
    assert {name for name in left if not name.startswith("blocks.")} == {"router.head.weight"}
    assert all(torch.equal(after[name], before[name] if name in left else weights[name]) for name in after)


def test_an_export_may_hold_more_than_is_taken(tmp_path: Path):
    save_model(tmp_path / "export", MODEL.model_copy(update={"num_blocks": 9}))
    check_fit(GivenWeights(path=str(tmp_path / "export"), partial=True), MODEL, OPTIMIZER)
    with pytest.raises(UserError, match=r"blocks.\d.* there and missing here"):
        check_fit(GivenWeights(path=str(tmp_path / "export")), MODEL, OPTIMIZER)


def test_another_shape_is_refused_in_a_sentence(tmp_path: Path):
    save_model(tmp_path / "export", MODEL)
    with pytest.raises(
        UserError, match=r"another model \(.* here, and \d+ more\): use its \[model\], or set start.partial"
    ):
        check_fit(GivenWeights(path=str(tmp_path / "export")), DEEPER, OPTIMIZER)
    router = MODEL.fusion.router.model_copy(update={"dim": 24})
    sizes = {"dim": 24, "state_dim": 20, "latent_channels": 5, "ffn_dim": 40}
    other = MODEL.model_copy(update=sizes | {"fusion": MODEL.fusion.model_copy(update={"router": router})})
    check_fit(GivenWeights(path=str(tmp_path / "export")), MODEL, OPTIMIZER)
    with pytest.raises(UserError, match="holds another model"):
        check_fit(GivenWeights(path=str(tmp_path / "export")), other, OPTIMIZER)
    (tmp_path / "export" / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"cannot be read \('model'\): name another one"):
        check_fit(GivenWeights(path=str(tmp_path / "export")), MODEL, OPTIMIZER)


def test_a_damaged_export_is_refused(tmp_path: Path):
    save_model(tmp_path / "export", MODEL)
    (tmp_path / "export" / "model.safetensors").write_bytes(b"nothing")
    with process_group(0, 1, tmp_path / "group"), pytest.raises(UserError, match="cannot be read"):
        load_export(GivenWeights(path=str(tmp_path / "export")), engine_of())


@pytest.mark.parametrize("average", [True, False])
def test_a_checkpoint_gives_its_average_or_its_weights(tmp_path: Path, average: bool):
    with process_group(0, 1, tmp_path / "group"):
        engine = engine_of()
        ema = Ema(engine.weights(), 0.9)
        for tensor in ema.average.values():
            tensor.add_(1)
        ema.num_updates = 7
        weights = {name: tensor.clone() for name, tensor in engine.weights().items()}
        checkpoints = Checkpoints(tmp_path / "stage", {"model": MODEL.model_dump(mode="json")}, keep=1)
        checkpoints.save(engine, ema, TrainState(3))
        checkpoints.finish()
        write_export(tmp_path / "export", engine, ema, {"model": MODEL.model_dump(mode="json")})
        start = GivenWeights(path=str(tmp_path / "stage" / "step-000000003"), average=average)
        check_fit(start, MODEL, OPTIMIZER)
        other = build_engine(FLOAT32, OPTIMIZER, MoS(MODEL), CPU, recompute=False)
        theirs = Ema(other.weights(), 0.9)
        load_checkpoint(start, other, theirs)
        expected = ema.average if average else weights
        assert all(
            torch.equal(tensor.full_tensor(), expected[name].full_tensor()) for name, tensor in other.weights().items()
        )
        assert all(torch.equal(theirs.average[name].full_tensor(), ema.average[name].full_tensor()) for name in weights)
        assert theirs.num_updates == (0 if average else 7)
    with pytest.raises(UserError, match=r"takes an export, and .* is a checkpoint"):
        check_fit(start.model_copy(update={"partial": True}), MODEL, OPTIMIZER)


@pytest.mark.parametrize("type", ["adamw", "muon"])
def test_the_state_of_the_optimizer_goes_on_where_it_is_asked_for(tmp_path: Path, type: str):
    stage = tiny_stage(optimizer=OPTIMIZER.model_copy(update={"type": type}))
    provenance = {"model": MODEL.model_dump(mode="json"), "config": stage.model_dump(mode="json")}
    with process_group(0, 1, tmp_path / "group"):
        engine = tiny_engine(stage)
        ema = Ema(engine.weights(), 0.9)
        for step in range(3):
            update(engine, tiny_batch(step), 1e-2)
        checkpoints = Checkpoints(tmp_path / "stage", provenance, keep=1)
        checkpoints.save(engine, ema, TrainState(3))
        checkpoints.finish()
        update(engine, tiny_batch(3), 1e-2)
        for optimizer in (True, False):
            start = GivenWeights(path=str(tmp_path / "stage" / "step-000000003"), average=False, optimizer=optimizer)
            check_fit(start, MODEL, stage.optimizer)
            other = tiny_engine(stage)
            load_checkpoint(start, other, Ema(other.weights(), 0.9))
            update(other, tiny_batch(3), 1e-2)
            alike = [torch.equal(local(other.weights()[name]), local(one)) for name, one in engine.weights().items()]
            assert all(alike) == optimizer
    start = start.model_copy(update={"optimizer": True})
    wrong = stage.optimizer.model_copy(update={"type": "muon" if type == "adamw" else "adamw"})
    with pytest.raises(UserError, match=rf"is of {type} and the stage trains with .*: set optimizer.type = '{type}'"):
        check_fit(start, MODEL, wrong)
    save_model(tmp_path / "export", MODEL)
    with pytest.raises(UserError, match="is an export, which has no state of an optimizer: name a checkpoint"):
        check_fit(start.model_copy(update={"path": str(tmp_path / "export")}), MODEL, stage.optimizer)


def test_the_state_of_an_optimizer_does_not_go_with_an_average():
    with pytest.raises(ValidationError, match=r"set start.average = false and start.partial = false"):
        GivenWeights(path="anywhere", optimizer=True)

"""FSDP2: a block, or a few, is one unit of sharding; gathered in bf16, reduced in fp32 (paper, Appendix A).

The same code runs on CPU over gloo and on CUDA over NCCL, at any world size including one.
"""

import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint._nested_dict import flatten_state_dict
from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from mos.model.execution import compile_blocks, recompute_blocks
from mos.model.mos import MoS
from mos.precision import resolve_dtype, torch_dtype
from mos.training.checksums import Checksum
from mos.training.local import local, own_numbers, own_rows
from mos.training.optimizer import OptimizerConfig, Optimizers
from mos.training.pieces import Pieces
from mos.training.shard_writer import ShardSaver
from mos.training.sharding import Fsdp2Config


class Fsdp2Engine:
    """A model sharded by fully_shard, with its optimizers over the shards."""

    def __init__(
        self,
        config: Fsdp2Config,
        optimizer: OptimizerConfig,
        model: MoS,
        device: torch.device,
        *,
        recompute: bool,
    ) -> None:
        self.device = device
        self._clip_norm = optimizer.clip_norm
        if recompute:
            recompute_blocks(model)
        if config.compile:
            compile_blocks(model)
        shard(model, config, device)
        if any(weight.is_meta for weight in model.parameters()):
            model.to_empty(device=device)
            model.init_buffers()
        self.model = model
        self.shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
        self._optimizers = Optimizers(optimizer, model)
        self._saver = ShardSaver()

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Accumulate gradients; shards are reduced at the last micro batch only."""
        assert isinstance(self.model, FSDPModule)
        self.model.set_requires_gradient_sync(last)
        loss.backward()

    def step(self, lr: float) -> Tensor:
        """Clip, update, clear; weights and moments are left alone where the norm is not finite."""
        for parameter in self.model.parameters():
            if parameter.grad is None:  # without state of its own a parameter would be missing in a checkpoint
                parameter.grad = torch.zeros_like(parameter)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self._clip_norm, error_if_nonfinite=False)
        whole = norm.full_tensor() if isinstance(norm, DTensor) else norm
        self._optimizers.step(lr, whole)
        return whole

    def weights(self) -> dict[str, Tensor]:
        """The sharded parameters, by name."""
        return {name: parameter.detach() for name, parameter in self.model.named_parameters()}

    def sync(self) -> None:
        """Let go of weights that are still gathered after a forward pass without a backward pass.

        Else the next step would compute with them, whatever the shards have become since.
        """
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def fill(self, values: Iterable[tuple[str, Any]]) -> list[str]:
        """Set weights to values, which come whole or in rows; every rank keeps its own rows of each."""
        weights = self.weights()
        for name, value in values:
            weight = weights.pop(name)
            local(weight).copy_(value[own_rows(weight)] if weight.ndim else value[...])
            del value  # or it would be held while the next one is made
        return list(weights)

    def gather(self, tensors: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Gather one tensor at a time, so that no rank holds more than one whole tensor on its device."""
        for name, tensor in tensors.items():
            whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            if dist.get_rank() == 0:
                yield name, whole.cpu()
            del whole  # or it would be held while the next one is gathered

    def save(self, folder: Path, ema: dict[str, Tensor], *, background: bool) -> Future[dict[str, Checksum]]:
        """Write sharded tensors with torch.distributed.checkpoint."""
        return self._saver.save(self._state(ema), folder, background=background)

    def load(self, folder: Path, ema: dict[str, Tensor], *, optimizer: bool) -> None:
        """Read sharded tensors in place; torch.distributed.checkpoint reshards where the world size differs.

        What another engine wrote is read a weight at a time.
        """
        # Asking for the optimizer's state makes one: a step with moments of zero, which a later stage would count.
        state: dict[str, Any] = (
            self._state(ema) if optimizer else {"model": get_model_state_dict(self.model), "ema": ema}
        )
        pieces = Pieces(folder)
        if pieces.are_flat:
            _read_flat(pieces, flatten_state_dict(state)[0])
        else:
            dcp.load(state, storage_reader=pieces.reader)
        model_state = state["model"]
        if optimizer:
            set_state_dict(
                self.model, self._optimizers.parts, model_state_dict=model_state, optim_state_dict=state["optimizer"]
            )

    def _state(self, ema: dict[str, Tensor]) -> dict[str, Any]:
        model_state, optimizer_state = get_state_dict(self.model, self._optimizers.parts)
        return {"model": model_state, "optimizer": optimizer_state, "ema": ema}


def _read_flat(pieces: Pieces, state: dict[str, Any]) -> None:
    """Read this rank's rows of every tensor out of pieces of flat weights."""
    for key, tensor in state.items():
        if not isinstance(tensor, Tensor):  # settings of the optimizers, which are those of the config
            continue
        mine = local(tensor)
        mine.copy_(pieces.read({key: own_numbers(tensor)})[key].view_as(mine))


def shard(model: MoS, config: Fsdp2Config, device: torch.device) -> None:
    """Apply fully_shard to groups of blocks, to the router and to what is left, over all ranks or over each copy's.

    Inputs are not cast on the way in: the model rounds them where they meet a weight, see mos.training.precision.
    """
    # The router and the model return views; nothing downstream writes into them in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    ranks, copies = dist.get_world_size(), config.mesh.replicate
    shards = config.num_shards(ranks)
    if copies == 1:
        mesh = init_device_mesh(device.type, (ranks,))
    else:
        mesh = init_device_mesh(device.type, (copies, shards), mesh_dim_names=("replicate", "shard"))
    policy = MixedPrecisionPolicy(
        param_dtype=torch_dtype(resolve_dtype(config.precision.compute, device.type)),
        reduce_dtype=torch_dtype(config.precision.reduce),
        cast_forward_inputs=False,
    )
    for unit in units(model, config.blocks_per_unit):
        fully_shard(unit, mesh=mesh, mp_policy=policy, reshard_after_forward=config.reshard_after_forward)
    fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=False)


def units(model: MoS, blocks_per_unit: int) -> list[list[nn.Module]]:
    """Units of gathering: neighbouring generation blocks, and the router where the model has one."""
    blocks = list(model.blocks)
    groups = [blocks[start : start + blocks_per_unit] for start in range(0, len(blocks), blocks_per_unit)]
    if model.router is not None:
        groups.append([model.router])
    return groups

"""DeepSpeed's ZeRO as an engine: stage 1 shards optimizer and master weights, 2 gradients as well, 3 weights, too.

DeepSpeed lays the float32 master weights of a group end to end and cuts them into one range for each rank, across the
borders of weights. What a rank holds of a weight is therefore a slice of its numbers: a `Part`.

DeepSpeed looks at every gradient for NaN and infinity before a step, and waits for the device to do so.
"""

import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pydantic import ValidationError
from torch import Tensor, nn

from mos.errors import UserError
from mos.model.execution import recompute_blocks
from mos.model.mos import MoS
from mos.precision import resolve_dtype
from mos.training.checksums import Checksum
from mos.training.optimizer import OptimizerConfig, adamw
from mos.training.pieces import AT, Pieces
from mos.training.shard_writer import ShardSaver
from mos.training.sharding import ZeroConfig, check_installed

MOMENTS = ("exp_avg", "exp_avg_sq")
"""Of AdamW."""


@dataclass(frozen=True)
class Part:
    """What this rank holds of a weight: `size` numbers from `start` on, which stand at `offset` of a flat tensor."""

    flat: Tensor
    offset: int
    start: int
    size: int

    def of(self, flat: Tensor) -> Tensor:
        """Its numbers in a tensor laid out as `flat` is, sharing its memory."""
        return flat.detach().narrow(0, self.offset, self.size)

    @property
    def slice(self) -> slice:
        """Numbers of the whole weight laid flat."""
        return slice(self.start, self.start + self.size)


class ZeroEngine:
    """A model under DeepSpeed's ZeRO, with AdamW over the parts."""

    def __init__(
        self, config: ZeroConfig, optimizer: OptimizerConfig, model: MoS, device: torch.device, *, recompute: bool
    ) -> None:
        check_installed(config)
        self.device = device
        settings = zero_settings(config, optimizer, device)
        deepspeed = _start_deepspeed(device)
        check_options(settings["zero_optimization"])
        if config.stage == 3 and _is_meta(model):
            # Each weight is cut as its module is made; what was given serves as the drawing.
            with deepspeed.zero.Init(config_dict_or_path=settings):
                model = MoS(model.shape)
        elif _is_meta(model):
            model.to_empty(device=device)
            model.init_buffers()
        if recompute:
            recompute_blocks(model, whole=config.stage == 3)
        self.model = model
        # Before the weights are cut: whole shapes.
        self.shapes = {name: tuple(getattr(w, "ds_shape", w.shape)) for name, w in model.named_parameters()}
        self._stage = config.stage
        self._engine, *_ = deepspeed.initialize(model=model, optimizer=adamw(optimizer, model), config=settings)
        self._zero = self._engine.optimizer
        self._zero.check_grad_overflow = True  # in float32, too: a step that is not finite is skipped
        self._saver = ShardSaver()

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Accumulate gradients; from stage 2 on each micro batch's are reduced at once."""
        # What DeepSpeedEngine.forward does before it calls the model, and the model is called without it here.
        self._zero.clear_backward_seen_flag()
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss, scale_wrt_gas=False)

    def step(self, lr: float) -> Tensor:
        """Clip, update, clear; weights and moments are left alone where the norm is not finite."""
        for group in self._adamw.param_groups:
            group["lr"] = lr
        self._engine.step()
        norm = float("inf") if self._zero.overflow else self._engine.get_global_grad_norm()
        return torch.as_tensor(norm, dtype=torch.float32, device=self.device)

    def weights(self) -> dict[str, Tensor]:
        """This rank's parts of the master weights, by name; empty where it holds none of a weight."""
        return {name: part.of(part.flat) for name, part in self._parts.items()}

    @torch.no_grad()
    def sync(self) -> None:
        """Copy the master weights into those that the model computes with."""
        if self._stage < 3:
            self._zero.update_lp_params()
            return
        # As after a step: what is gathered is let go, parts are copied, and small weights, which stay, gathered again.
        self._zero._partition_all_parameters()
        for group in range(len(self._zero.fp16_groups)):
            self._zero._reassign_or_swap_out_partitioned_parameters(group)
        if self._zero.persistent_parameters:
            self._zero.persistent_parameters[0].all_gather(self._zero.persistent_parameters)

    def fill(self, values: Iterable[tuple[str, Any]]) -> list[str]:
        """Set weights to values, which come whole or in rows; every rank keeps its own numbers of each."""
        left = dict(self._parts)
        for name, value in values:
            part = left.pop(name)
            if part.size:
                part.of(part.flat).copy_(_numbers(value, self.shapes[name], part.slice))
            del value  # or it would be held while the next one is made
        self.sync()
        return list(left)

    def gather(self, tensors: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Add up one tensor at a time on rank 0: each of its numbers is held by one rank."""
        for name, tensor in tensors.items():
            whole = torch.zeros(prod(self.shapes[name]), device=self.device)
            whole[self._parts[name].slice] = tensor.to(self.device)
            dist.reduce(whole, 0)
            if dist.get_rank() == 0:
                yield name, whole.view(self.shapes[name]).cpu()
            del whole  # or it would be held while the next one is gathered

    def save(self, folder: Path, ema: dict[str, Tensor], *, background: bool) -> Future[dict[str, Checksum]]:
        """Write every rank's parts with torch.distributed.checkpoint, each as a tensor of its own."""
        state: dict[str, Tensor] = {}
        for name, part in self._parts.items():
            if not part.size:
                continue
            moments = self._moments(part)
            state |= {
                f"model.{name}{AT}{part.start}": part.of(part.flat),
                f"ema.{name}{AT}{part.start}": ema[name],
                **{f"optimizer.state.{name}.{key}{AT}{part.start}": part.of(moments[key]) for key in MOMENTS},
            }
            if part.start == 0:
                state[f"optimizer.state.{name}.step"] = moments["step"]
        return self._saver.save(state, folder, background=background)

    def load(self, folder: Path, ema: dict[str, Tensor], *, optimizer: bool) -> None:
        """Read this rank's parts, a weight at a time; torch's and DeepSpeed's engines alike may have written them."""
        pieces = Pieces(folder)
        for name, part in self._parts.items():
            if not part.size:
                continue
            into = {f"model.{name}": part.of(part.flat), f"ema.{name}": ema[name]}
            if optimizer:
                moments = self._moments(part)
                into |= {f"optimizer.state.{name}.{key}": part.of(moments[key]) for key in MOMENTS}
                step = f"optimizer.state.{name}.step"
                moments["step"].copy_(pieces.read({step: slice(0, 1)})[step].squeeze())
            read = pieces.read(dict.fromkeys(into, part.slice))
            for key, tensor in into.items():
                tensor.copy_(read[key])
        self.sync()

    @property
    def _adamw(self) -> torch.optim.Optimizer:
        inner: torch.optim.Optimizer = self._zero.optimizer
        return inner

    def _moments(self, part: Part) -> dict[str, Tensor]:
        """State of AdamW for the flat tensor of a part, made where there was no step yet."""
        state = self._adamw.state[part.flat]
        if not state:
            # On the device of the weights, where a fused AdamW counts.
            state["step"] = torch.zeros((), device=part.flat.device)
            state |= {key: torch.zeros_like(part.flat, requires_grad=False) for key in MOMENTS}
        return state

    @cached_property
    def _parts(self) -> dict[str, Part]:
        part = self._part_of_partitioned if self._stage == 3 else self._part_of_replicated
        return {name: part(parameter) for name, parameter in self.model.named_parameters()}

    def _part_of_replicated(self, parameter: nn.Parameter) -> Part:
        """Stages 1 and 2: the ranges of ranks cross the borders of weights, so a rank may hold none of one."""
        mapping: Any = parameter._hp_mapping  # type: ignore[attr-defined]
        if mapping is None:
            return Part(self._zero.single_partition_of_fp32_groups[0], 0, 0, 0)
        flat = self._zero.single_partition_of_fp32_groups[mapping.param_group_index]
        held = mapping.hp_fragment_address
        return Part(flat, held.start, mapping.lp_fragment_address.start, held.numel)

    def _part_of_partitioned(self, parameter: nn.Parameter) -> Part:
        """Stage 3: each weight is cut into as many equal ranges as there are ranks, the last ones filled up."""
        group, offset, size = self._zero.grad_position[self._zero.get_param_id(parameter)]
        start = min(dist.get_rank() * size, parameter.ds_numel)  # type: ignore[attr-defined]
        held = min(size, parameter.ds_numel - start)  # type: ignore[attr-defined]
        return Part(self._zero.fp32_partitioned_groups_flat[group], int(offset), start, held)


def zero_settings(config: ZeroConfig, optimizer: OptimizerConfig, device: torch.device) -> dict[str, Any]:
    """DeepSpeed's own config of an engine."""
    bfloat16 = resolve_dtype(config.precision.compute, device.type) == "bfloat16"
    reduce = {"bfloat16": "bf16", "float32": "fp32"}[config.precision.reduce]
    return {
        "train_micro_batch_size_per_gpu": 1,  # has to be given, and only DeepSpeed's own loaders ask for it
        "gradient_accumulation_steps": 1,  # `backward` says which micro batch is the last
        "gradient_clipping": optimizer.clip_norm,
        "zero_optimization": {**config.options, "stage": config.stage},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": bfloat16},
        # With float32 here its first stage becomes another optimizer, which looks at no overflow.
        "data_types": {"grad_accum_dtype": "bf16" if bfloat16 and config.stage == 1 else "fp32"},
        "communication_data_type": reduce,
    }


def check_options(options: dict[str, Any]) -> None:
    """Make sure that DeepSpeed knows its options.

    Raises:
        UserError: it does not.
    """
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    try:
        DeepSpeedZeroConfig(**options)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(
            f"engine.options.{key}: DeepSpeed does not take it ({first['msg']}): see its `zero_optimization` settings"
        ) from error


def end_deepspeed() -> None:
    """Forget the process group that is about to be destroyed, where the package was used in it: it keeps its own."""
    if "deepspeed" in sys.modules:
        from deepspeed.utils import groups

        groups._release_process_group_references(group=None)


def _start_deepspeed(device: torch.device) -> Any:
    """The package, on the process group that there is."""
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    os.environ.setdefault("LOCAL_RANK", str(device.index or 0))
    # Calls of torch that its next version renames, in DeepSpeed's own code.
    warnings.filterwarnings("ignore", message="`torch.distributed.*_tensor` is deprecated", category=FutureWarning)
    import deepspeed
    import deepspeed.ops

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    if device.type == "cpu":
        # An exchange through shared memory that it compiles at the first start, for minutes; gloo serves as well.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    backend = "nccl" if device.type == "cuda" else "gloo"
    deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False, verbose=False)
    return deepspeed


def _is_meta(model: nn.Module) -> bool:
    return any(weight.is_meta for weight in model.parameters())


def _numbers(value: Any, shape: tuple[int, ...], part: slice) -> Tensor:
    """Some numbers of a weight laid flat, of a tensor or of one in a file that gives rows."""
    if not shape:
        return value[...].reshape(1)
    width = prod(shape[1:])
    first, last = part.start // width, -(-part.stop // width)
    rows: Tensor = value[first:last]
    return rows.flatten()[part.start - first * width : part.stop - first * width]

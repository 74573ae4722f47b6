"""Settings of the engines that shard a model over the ranks; `mos.training.engine` builds them."""

from importlib.util import find_spec
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator

from mos.config import StrictConfig
from mos.errors import UserError
from mos.identity import HOW, NUMBERS
from mos.training.precision import PrecisionConfig


class MeshConfig(StrictConfig):
    """How the ranks of a gang are laid out: `replicate` times `shard` of them (hybrid sharding)."""

    replicate: Annotated[int, HOW] = Field(1, ge=1)
    """Copies of the model, whose gradients are averaged: weights are gathered within a copy alone, for instance within
    the GPUs of a node, and each copy has to hold the whole model's weights and moments."""
    shard: Annotated[int | None, HOW] = Field(None, ge=1)
    """Ranks that a copy is sharded over, neighbours in rank; None: as many as there are for each copy."""

    def num_shards(self, num_workers: int) -> int:
        """Ranks that a copy is sharded over.

        Raises:
            UserError: the gang is of another size.
        """
        shard = self.shard or num_workers // self.replicate
        if not shard or self.replicate * shard != num_workers:
            of = "" if self.shard is None else f" and mesh.shard = {self.shard}"
            raise UserError(
                f"mesh.replicate = {self.replicate}{of} do not lay out {num_workers} workers: set cluster.train.num to "
                "their product, or mesh to numbers whose product it is"
            )
        return shard


class Fsdp2Config(StrictConfig):
    """PyTorch's fully_shard."""

    type: Annotated[Literal["fsdp2"], HOW] = "fsdp2"
    precision: Annotated[PrecisionConfig, NUMBERS] = PrecisionConfig()
    """Dtypes of compute and of gradient reduction."""
    mesh: Annotated[MeshConfig, HOW] = MeshConfig()
    """Copies of the model and ranks for each, as `{ replicate = 2 }`; by default one copy over all ranks."""
    reshard_after_forward: Annotated[bool, HOW] = True
    """Free a block's gathered weights after its forward pass (ZeRO-3); off keeps them to the backward pass."""
    blocks_per_unit: Annotated[int, HOW] = Field(1, ge=1)
    """Neighbouring blocks that are gathered and reduced together: 1 holds the least memory; small models, whose
    collectives cost their latency and not their bytes, train faster with more."""
    compile: Annotated[bool, HOW] = False
    """Compile every block with torch.compile: minutes at the start, fewer passes over memory afterwards."""

    def num_shards(self, num_workers: int) -> int:
        """Ranks that share a copy of the model; `UserError` where the mesh is of another gang."""
        return self.mesh.num_shards(num_workers)

    @property
    def is_of_one_size(self) -> bool:
        """Whether it is laid out for one number of workers."""
        return self.mesh != MeshConfig()

    @property
    def frees_weights(self) -> bool:
        """Whether gathered weights are let go after a block's forward pass."""
        return self.reshard_after_forward

    @property
    def blocks_gathered(self) -> int:
        """Blocks whose weights are gathered together."""
        return self.blocks_per_unit

    def adds_up_whole_gradients(self, *, in_parts: bool) -> bool:
        """Whether each rank holds the whole model's gradients until the step: those of several micro batches."""
        return in_parts

    def alone(self) -> Self:
        """The same for one worker."""
        return self.model_copy(update={"mesh": MeshConfig()})


class ZeroConfig(StrictConfig):
    """DeepSpeed's ZeRO."""

    type: Annotated[Literal["deepspeed"], HOW] = "deepspeed"
    stage: Annotated[Literal[1, 2, 3], HOW] = 2
    """What is sharded: 1 the optimizer and its float32 master weights, 2 gradients as well, 3 weights, too."""
    precision: Annotated[PrecisionConfig, NUMBERS] = PrecisionConfig()
    """Dtypes of compute and of gradient reduction."""
    options: Annotated[dict[str, Any], HOW] = Field(default_factory=dict)
    """Further keys of DeepSpeed's `zero_optimization`, under its names, as
    `offload_optimizer = { device = "cpu", pin_memory = true }`."""

    @field_validator("options")
    @classmethod
    def _are_deepspeeds(cls, options: dict[str, Any]) -> dict[str, Any]:
        if "stage" in options:
            raise ValueError("options.stage: set `stage` of the engine instead")
        if "compute_grad_norm" in options:
            raise ValueError("options.compute_grad_norm: leave it out, metrics and skipped steps need the norm")
        on_disk = [name for name, value in options.items() if isinstance(value, dict) and value.get("device") == "nvme"]
        if on_disk:
            raise ValueError(
                f"options.{on_disk[0]}.device = 'nvme': the weights' average is kept beside the master weights and has "
                "to reach them: use device = 'cpu'"
            )
        return options

    def num_shards(self, num_workers: int) -> int:
        """Ranks that share the model: all."""
        return num_workers

    @property
    def is_of_one_size(self) -> bool:
        """Any number of workers will do."""
        return False

    @property
    def frees_weights(self) -> bool:
        """Weights are whole on every rank but in stage 3."""
        return self.stage == 3

    @property
    def blocks_gathered(self) -> int:
        """Weights are gathered as a module needs them."""
        return 1

    def adds_up_whole_gradients(self, *, in_parts: bool) -> bool:
        """Stage 1 cuts gradients at the step, the others as they come, in however many parts."""
        return self.stage == 1

    def alone(self) -> Self:
        """The same for one worker."""
        return self


def check_installed(config: "EngineConfig") -> None:
    """Make sure that an engine's package is there.

    Raises:
        UserError: it is not.
    """
    if isinstance(config, ZeroConfig) and find_spec("deepspeed") is None:
        raise UserError(
            "engine.type = 'deepspeed', and the package deepspeed is not installed: run `pip install 'mos[deepspeed]'` "
            "on every node, or use engine.type = 'fsdp2'"
        )


def _type_of(engine: Any) -> str:
    found = engine.get("type", "fsdp2") if isinstance(engine, dict) else getattr(engine, "type", "fsdp2")
    return str(found)


EngineConfig = Annotated[
    Annotated[Fsdp2Config, Tag("fsdp2")] | Annotated[ZeroConfig, Tag("deepspeed")], Discriminator(_type_of)
]
"""Every engine there is; one without a `type` is FSDP2."""

"""Settings of the engines that shard a model over the ranks; `mos.training.engine` builds them."""

from typing import Annotated, Literal

from pydantic import Field

from mos.config import StrictConfig
from mos.identity import HOW, NUMBERS
from mos.training.precision import PrecisionConfig


class Fsdp2Config(StrictConfig):
    """PyTorch's fully_shard."""

    type: Annotated[Literal["fsdp2"], HOW] = "fsdp2"
    precision: Annotated[PrecisionConfig, NUMBERS] = PrecisionConfig()
    """Dtypes of compute and of gradient reduction."""
    reshard_after_forward: Annotated[bool, HOW] = True
    """Free a block's gathered weights after its forward pass (ZeRO-3); off keeps them to the backward pass."""
    blocks_per_unit: Annotated[int, HOW] = Field(1, ge=1)
    """Neighbouring blocks that are gathered and reduced together: 1 holds the least memory; small models, whose
    collectives cost their latency and not their bytes, train faster with more."""
    compile: Annotated[bool, HOW] = False
    """Compile every block with torch.compile: minutes at the start, fewer passes over memory afterwards."""


EngineConfig = Fsdp2Config
"""Every engine there is; a second one makes this a union discriminated on `type`."""

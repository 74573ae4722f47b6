"""Config of the planner, for what a run does not tell: figures of the data, of the machine, and a budget."""

from pydantic import Field, field_validator

from mos.config import StrictConfig
from mos.planning.machine import CpuMachine, GpuMachine, MachineConfig
from mos.planning.tokens import TokenHistogram

Lengths = tuple[tuple[int, float], ...]


class PlanConfig(StrictConfig):
    """Figures for the cost model."""

    machine: MachineConfig | None = None
    """Speeds and prices of one worker, by `type`: `gpu` or `cpu`, every figure with a default. None: that of the
    workers that train."""
    samples: dict[str, int] = Field(default_factory=dict)
    """Samples of each stage's view; used until there is a samples table to count."""
    tokens: Lengths = ((50, 0.15), (100, 0.2), (200, 0.4), (300, 0.25))
    """(tokens, weight) of captions; used until there are states or captions to count. The default is a guess at long
    captions with a mean of 182."""
    edit_tokens: Lengths = ((15, 0.3), (25, 0.4), (40, 0.3))
    """(tokens, weight) of editing instructions, their image apart."""
    image_tokens: int = Field(default=256, ge=0)
    """Tokens of the image in an editing context, where the tower sees images: one InternVL or PerceptionLM tile."""
    tower_params: float | None = Field(default=None, gt=0)
    """Parameters of the tower's blocks; None: 12 layers width², see `mos.planning.flops.tower_parameters`."""
    max_table_gb: float | None = Field(default=None, ge=0)
    """Hard bound on the states at rest, GB; a cache or lead beyond it is never recommended. None: no bound."""

    @field_validator("tokens", "edit_tokens")
    @classmethod
    def _has_weight(cls, lengths: Lengths) -> Lengths:
        TokenHistogram.of(lengths)
        return lengths

    def machine_for(self, gpus: float) -> GpuMachine | CpuMachine:
        """The machine as configured, or the defaults of a worker with so many GPUs."""
        return self.machine or (GpuMachine() if gpus else CpuMachine())

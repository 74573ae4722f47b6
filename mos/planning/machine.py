"""Speeds and hourly price of one worker: every figure of the cost model that is no formula."""

from typing import Annotated, Literal

from pydantic import Field

from mos.config import StrictConfig


class GpuMachine(StrictConfig):
    """Workers with one data-centre GPU of the H100 and H200 class each."""

    type: Literal["gpu"] = "gpu"
    train_tflops: float = Field(default=320.0, gt=0)
    """Model TFLOP/s of a training step, bf16. NVIDIA's published NeMo AutoModel runs reach 328 to 334 on an H100."""
    tower_tflops: float = Field(default=400.0, gt=0)
    """Model TFLOP/s of the frozen tower's forward pass in batches of like length: about half of the 790 that a large
    bf16 matrix product reaches on an H200. An assumption; `--measure` replaces it."""
    read_gb_per_s: float = Field(default=1.5, gt=0)
    """Bytes of states that reach one worker, GB/s: a 100 Gb/s network shared by eight GPUs."""
    train_hour: float = Field(default=2.5, ge=0)
    """Price of a training worker, $/h: the level at which H100s were on demand in 2026. An assumption; set yours."""
    encode_hour: float = Field(default=2.5, ge=0)
    """Price of an encode worker, $/h; less where encoding runs on interruptible nodes."""
    storage_gb_month: float = Field(default=0.023, ge=0)
    """Price of table storage, $ per GB and month: list price of Amazon S3 Standard, first 50 TB."""


class CpuMachine(StrictConfig):
    """Workers with one CPU core each."""

    type: Literal["cpu"] = "cpu"
    train_tflops: float = Field(default=0.08, gt=0)
    """Model TFLOP/s of a training step: the demo's stage 2 on one AMD EPYC core (`--measure`)."""
    tower_tflops: float = Field(default=0.073, gt=0)
    """Model TFLOP/s of MiniLM's forward pass, measured as above."""
    read_gb_per_s: float = Field(default=1.0, gt=0)
    """Bytes of states that reach one worker, GB/s: a local NVMe disk. An assumption; from the page cache it is 9."""
    train_hour: float = Field(default=0.045, ge=0)
    """Price of a core, $/h: on-demand list price of an Amazon c7i.large (2 vCPU) in us-east-1, halved."""
    encode_hour: float = Field(default=0.045, ge=0)
    """As `train_hour`."""
    storage_gb_month: float = Field(default=0.08, ge=0)
    """Price of table storage, $ per GB and month: list price of Amazon EBS gp3."""


MachineConfig = Annotated[GpuMachine | CpuMachine, Field(discriminator="type")]

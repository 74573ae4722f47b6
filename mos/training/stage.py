"""Config of a training stage: view, length, flow, optimiser, engine; stages 1-4 and editing differ by value only."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mos.config import StrictConfig
from mos.feeding.config import CacheStates, StatesConfig
from mos.flow.timestep import LogitNormalTimesteps, TimestepConfig
from mos.identity import HOW, HOW_FAR, NUMBERS
from mos.training.optimizer import OptimizerConfig
from mos.training.sharding import EngineConfig, Fsdp2Config, ZeroConfig
from mos.training.spikes import SpikeConfig
from mos.training.start import PreviousStage, StartConfig


class LoaderConfig(StrictConfig):
    """Reading of batches ahead of the training step, on each rank."""

    prefetch_batches: int = Field(2, ge=1)
    """Batches built ahead by the background thread."""
    cache_bytes: int = Field(512 * 2**20, ge=0)
    """Bound on states and latents kept in RAM, in bytes; 0 reads every row from its table each time."""


class StageConfig(StrictConfig):
    """One stage of training; its seed is the run's."""

    start: StartConfig = PreviousStage()
    """First weights, by `type`: `previous` (of the stage before this one; new ones for the first), `new`, or `weights`
    (those of an export or a checkpoint, by its `path`)."""
    resolution: Annotated[int, NUMBERS] = Field(gt=0)
    """Buckets of this resolution are trained on: column `bucket_<resolution>` of the samples table."""
    filter: Annotated[str, NUMBERS] = ""
    """View of the samples table: a Lance SQL expression over its columns, among them `loss_<stage>` of stages before
    this one (`pipelines/losses.py`); empty keeps every row."""
    tasks: Annotated[tuple[Literal["generate", "edit"], ...], NUMBERS] = ("generate",)
    """Kinds of sample to train on; a batch never mixes them."""
    sources: Annotated[dict[str, float], NUMBERS] = Field(default_factory=dict)
    """Mixing ratios by source name, of any scale; a source that is not named is left out. Empty: every source, as
    large as it is."""
    refresh: Annotated[bool, HOW_FAR] = False
    """Whether each epoch begins with the newest samples that are curated and encoded by then; false: a stage keeps
    those that it began with. What was taken stands in its folder and record, and stays when it is resumed."""
    steps: Annotated[int, HOW_FAR] = Field(gt=0)
    """Optimiser updates."""
    batch_size: Annotated[int, NUMBERS] = Field(gt=0)
    """Samples of one update over all ranks; their shares differ by a sample at most."""
    micro_batch_size: Annotated[int | None, HOW] = Field(None, gt=0)
    """Samples per forward pass on one rank at most; None: the rank's whole share at once."""
    timesteps: Annotated[TimestepConfig, NUMBERS] = LogitNormalTimesteps()
    """Distribution of training timesteps: logit-normal in stage 1, mode sampling later (Appendix A)."""
    caption_dropout: Annotated[float, NUMBERS] = Field(0.1, ge=0, le=1)
    """Share of samples whose context is replaced by that of the empty caption, for classifier-free guidance."""
    optimizer: Annotated[OptimizerConfig, NUMBERS] = OptimizerConfig()
    ema_decay: Annotated[float, NUMBERS] = Field(0.9999, ge=0, lt=1)
    """Decay of the exponential moving average of the weights, which is what is exported."""
    activation_checkpointing: Annotated[bool, HOW] = False
    """Recompute each block in the backward pass instead of keeping its activations."""
    engine: EngineConfig = Fsdp2Config()
    """Who shards the model, and in which precision."""
    max_nonfinite_steps: Annotated[int, HOW] = Field(10, ge=0)
    """Updates skipped for a non-finite gradient, over the whole stage, before training stops with an error;
    counted when a line of metrics or a checkpoint is due."""
    spikes: Annotated[SpikeConfig | None, HOW] = SpikeConfig()
    """Spikes of the loss: training goes back to its last checkpoint and leaves their batches out; None: it goes on."""
    checkpoint_every: Annotated[int, HOW] = Field(1000, gt=0)
    """Updates between checkpoints; the last update always writes one."""
    keep_checkpoints: Annotated[int, HOW] = Field(2, ge=1)
    """Newest complete checkpoints kept."""
    keep_checkpoints_every: Annotated[int | None, HOW] = Field(None, gt=0)
    """Checkpoints after a multiple of so many updates stay for ever, beside those; None: none do."""
    async_checkpoint: Annotated[bool, HOW] = False
    """Write checkpoints in the background, from a copy in host memory."""
    checkpoint_patience: Annotated[int, HOW] = Field(3, ge=0)
    """Checkpoints in a row that may fail for want of space or storage before training stops with an error; the last
    one of the stage may not."""
    hung_after_s: Annotated[float, HOW] = Field(1800.0, gt=0)
    """Seconds in which a rank gets nowhere, neither to the next step nor to another part of this one, after which the
    gang ends and starts again from its last checkpoint. Longer than a checkpoint or a grid of pictures takes."""
    log_every: Annotated[int, HOW] = Field(10, gt=0)
    """Updates between lines of metrics."""
    sample_every: Annotated[int | None, HOW] = Field(None, gt=0)
    """Updates between sample grids; None draws none."""
    num_sample_images: Annotated[int, HOW] = Field(8, gt=0)
    """Images of a sample grid: the first captions of the view, with the EMA weights."""
    held_out_every: Annotated[int | None, HOW] = Field(None, gt=0)
    """Updates between measurements of the loss on samples that the run's `held_out` keeps from training, with the EMA
    weights; None: never."""
    held_out_samples: Annotated[int, HOW] = Field(512, gt=0)
    """Samples of one measurement, rounded up to whole batches of 16; always the same ones, in any stage and run that
    holds the same ones out."""
    loader: Annotated[LoaderConfig, HOW] = LoaderConfig()
    states: Annotated[StatesConfig, HOW] = CacheStates()
    """Source of hidden states, by `type`: `cache` (the table that encode fills), `stream` (produced while they are
    consumed), `recompute` (the tower inside the training worker) or `auto` (the cheapest by the cost model)."""

    @model_validator(mode="after")
    def _kept_are_written(self) -> Self:
        every = self.keep_checkpoints_every
        if every is not None and every % self.checkpoint_every:
            raise ValueError(
                f"keep_checkpoints_every = {every} is no multiple of checkpoint_every = {self.checkpoint_every}, after "
                f"which checkpoints are written: set it to {-(-every // self.checkpoint_every) * self.checkpoint_every}"
            )
        return self

    @model_validator(mode="after")
    def _engine_adds_up_in_float32(self) -> Self:
        zero1 = isinstance(self.engine, ZeroConfig) and self.engine.stage == 1
        if zero1 and self.micro_batch_size is not None and self.engine.precision.compute == "bfloat16":
            raise ValueError(
                "engine.stage = 1 of deepspeed adds up the gradients of micro batches in bfloat16: use stage = 2, or "
                "leave micro_batch_size out"
            )
        return self

    @model_validator(mode="after")
    def _engine_has_the_optimizer(self) -> Self:
        if isinstance(self.engine, ZeroConfig) and self.optimizer.type == "muon":
            raise ValueError(
                "optimizer.type = 'muon' needs whole matrices, and engine.type = 'deepspeed' cuts them anywhere: use "
                "adamw, or engine.type = 'fsdp2'"
            )
        return self

    @model_validator(mode="after")
    def _ratios_are_positive(self) -> Self:
        for source, ratio in self.sources.items():
            if not ratio > 0:
                raise ValueError(f"mixing ratio of source {source!r} is {ratio}: make it positive or leave it out")
        return self

"""Config of the codec step: how large the autoencoder is and how long it learns."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from mos.config import StrictConfig
from mos.identity import HOW, NUMBERS
from mos.training.optimizer import OptimizerConfig


class CodecConfig(StrictConfig):
    """AutoencoderDC of diffusers, trained on the kept pictures of one resolution, for `encode.vae` to name.

    At first encoder and decoder learn together. Then the encoder is frozen, its latents brought to zero mean and unit
    variance by channel within its last layer, and the decoder alone goes on.
    """

    resolution: Annotated[int, NUMBERS] = Field(gt=0)
    """Pictures of this resolution's buckets, px; one of `curate.resolutions`."""
    stride: Annotated[Literal[2, 4, 8, 16], NUMBERS] = 8
    """Pixels per latent cell, along each side."""
    latent_channels: Annotated[int, NUMBERS] = Field(8, ge=1)
    width: Annotated[int, NUMBERS] = Field(32, ge=4)
    """Channels at half the picture's size; twice as many at each size below."""
    blocks: Annotated[int, NUMBERS] = Field(1, ge=1)
    """Residual blocks at each size below the picture's own."""
    latent_noise: Annotated[float, NUMBERS] = Field(0.1, ge=0)
    """Deviation of the Gaussian noise that the decoder learns to bear; latents have unit variance. A generation tower's
    latents are never exact."""
    moments_weight: Annotated[float, NUMBERS] = Field(0.1, ge=0)
    """Weight of the loss that holds each channel near zero mean and unit variance while the encoder learns."""
    steps: Annotated[int, NUMBERS] = Field(ge=1)
    """Updates of encoder and decoder."""
    decoder_steps: Annotated[int, NUMBERS] = Field(0, ge=0)
    """Updates of the decoder alone, after them."""
    batch_size: Annotated[int, NUMBERS] = Field(32, ge=1)
    """Pictures of one update, over all workers."""
    optimizer: Annotated[OptimizerConfig, NUMBERS] = OptimizerConfig(
        lr=2e-3, final_lr=2e-5, warmup_steps=100, weight_decay=0.0
    )
    """Of each of the two parts."""
    held_out: Annotated[float, NUMBERS] = Field(0.02, gt=0, le=0.5)
    """Share of the pictures that is never trained on: the reported figures are theirs."""
    log_every: Annotated[int, HOW] = Field(20, ge=1)
    checkpoint_every: Annotated[int, HOW] = Field(200, ge=1)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels inside, from half the picture's size down to that of the latents."""
        levels = self.stride.bit_length() - 1
        return (self.width,) + (2 * self.width,) * (levels - 1)

    @field_validator("optimizer")
    @classmethod
    def _is_adamw(cls, optimizer: OptimizerConfig) -> OptimizerConfig:
        if optimizer.type != "adamw":
            raise ValueError(f"a codec's convolutions learn by adamw, not by {optimizer.type}: leave `type` out")
        return optimizer

    @model_validator(mode="after")
    def _latents_fit(self) -> Self:
        if self.channels[-1] % self.latent_channels:
            raise ValueError(
                f"latent_channels = {self.latent_channels} must divide the {self.channels[-1]} channels behind them: "
                "choose another width"
            )
        return self

    @property
    def total_steps(self) -> int:
        """Of both parts."""
        return self.steps + self.decoder_steps

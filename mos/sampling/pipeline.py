"""Three lines from a prompt to a picture.

from mos.sampling import MosPipeline
pipe = MosPipeline.from_export("runs/demo/checkpoints/stage4/<fingerprint>/export")
pipe("a red circle", seed=1)[0].save("circle.png")
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import torch
from jaxtyping import Float
from PIL import Image
from pydantic import ValidationError
from rich.progress import Progress
from torch import Tensor

from mos.encoders.understanding import Tower, load_tower
from mos.encoders.vae import Codec, load_codec
from mos.errors import UserError
from mos.model.execution import compile_blocks
from mos.model.mos import MoS
from mos.sampling.conditioning import Conditioning, encode_contexts
from mos.sampling.config import SamplerConfig
from mos.sampling.denoise import DenoisingStep, denoise, seeded_noise
from mos.sampling.export import read_export
from mos.sampling.pictures import fit, picture_size, to_images, upright
from mos.sampling.trace import RouterRecorder, RouterTrace

T = TypeVar("T")


@dataclass(frozen=True)
class TracedPicture:
    """One picture, how it came about, and what the router chose meanwhile."""

    image: Image.Image
    noisy: tuple[Image.Image, ...]
    """z_t of each step, decoded."""
    predicted: tuple[Image.Image, ...]
    """The picture that the velocity of each step points to."""
    trace: RouterTrace


class MosPipeline:
    """A trained model with its frozen tower and codec: prompts in, pictures out."""

    def __init__(
        self, model: MoS, tower: Tower, codec: Codec, *, resolution: int, device: str = "cpu", compile: bool = False
    ) -> None:
        """Put the parts together; the model computes in bfloat16 on a GPU and in float32 on a CPU.

        Args:
            model: moved to `device` and set to evaluation mode.
            tower: frozen understanding tower.
            codec: frozen image autoencoder.
            resolution: side in pixels of a picture whose size is not given.
            device: where the model runs.
            compile: compile the model's blocks at the first picture, see `mos.model.execution`.

        Raises:
            UserError: tower or codec have other widths than the model was trained with.
        """
        _require_fit(model, tower, codec)
        self.model = model.to(device, torch.float32 if device == "cpu" else torch.bfloat16).eval()
        if compile:
            compile_blocks(self.model)
        self.tower = tower
        self.codec = codec
        self.resolution = resolution
        self.device = device

    @classmethod
    def from_export(cls, folder: str | Path, *, device: str = "cpu", compile: bool = False) -> Self:
        """Load what a training stage exported, with the tower and the codec it was trained with.

        Raises:
            UserError: the folder holds no export, or its tower or codec cannot be loaded or do not fit.
        """
        export = read_export(folder)
        tower, codec = load_tower(export.config.tower, device), load_codec(export.config.vae, device)
        return cls(export.model, tower, codec, resolution=export.resolution, device=device, compile=compile)

    @property
    def token_px(self) -> int:
        """Side of one image token in pixels; sizes of pictures are multiples of it."""
        return self.codec.stride * self.model.config.patch

    def __call__(
        self,
        prompts: str | Sequence[str],
        *,
        height: int | None = None,
        width: int | None = None,
        steps: int = 20,
        guidance: float = 4.0,
        guidance_rescale: float = 0.0,
        schedule: str = "linear",
        seed: int | Sequence[int] = 0,
        negative_prompt: str = "",
        reference: Image.Image | Sequence[Image.Image] | None = None,
        batch_size: int = 16,
        progress: bool | None = None,
    ) -> list[Image.Image]:
        """Draw one picture for each prompt.

        Args:
            prompts: one or several; instructions where there is a reference.
            height: pixels, a multiple of `token_px`; the model's own resolution where left out.
            width: as height.
            steps: Euler steps.
            guidance: classifier-free guidance scale; 1 is the conditional model alone, at half the work.
            guidance_rescale: share in [0, 1] of the guided velocity's spread brought back to the conditional one's.
            schedule: `linear` or `linear_quadratic`.
            seed: picture i is drawn from seed + i, or from its own entry of a sequence; never from its neighbours.
            negative_prompt: what guidance points away from.
            reference: picture to edit, one for all prompts or one for each; cropped to the size drawn.
            batch_size: pictures drawn at the same time.
            progress: show a bar on stderr; where left out: if that is a terminal.

        Raises:
            UserError: a size, count or setting is out of range; the message names the remedy.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        seeds = [seed + i for i in range(len(prompts))] if isinstance(seed, int) else list(seed)
        references = [reference] * len(prompts) if isinstance(reference, Image.Image | None) else list(reference)
        _require_one_each(prompts, seed=seeds, reference=references)
        sampler = _sampler(steps, guidance, guidance_rescale, schedule)
        size = picture_size(height, width, self.resolution, self.token_px)
        images: list[Image.Image] = []
        with Progress(transient=True, disable=not (sys.stderr.isatty() if progress is None else progress)) as bar:
            batches = range(0, len(prompts), batch_size)
            task = bar.add_task("drawing", total=steps * len(batches))
            for start in batches:
                part = slice(start, start + batch_size)
                conditioning = self.condition(prompts[part], references[part], size, sampler, negative_prompt)
                latents = self._denoise(conditioning, seeds[part], size, sampler, lambda step: bar.advance(task))
                images += to_images(self.codec.decode(latents))
        return images

    def trace(self, prompt: str, sampler: SamplerConfig, *, seed: int = 0) -> TracedPicture:
        """Draw one picture at the model's own resolution and keep every step of it."""
        size = picture_size(None, None, self.resolution, self.token_px)
        conditioning = self.condition([prompt], [None], size, sampler)
        recorder = RouterRecorder(conditioning.tokens[0], self.model.config.hidden_states[1:])
        kept: list[DenoisingStep] = []

        def keep(step: DenoisingStep) -> None:
            t = torch.tensor([step.t], device=self.device)
            recorder.add(step.t, self.model.route(step.z_t, t, conditioning.conditional))
            kept.append(step)

        latents = self._denoise(conditioning, [seed], size, sampler, keep)
        noisy, predicted = torch.cat([step.z_t for step in kept]), torch.cat([step.z0 for step in kept])
        return TracedPicture(
            to_images(self.codec.decode(latents))[0],
            tuple(to_images(self.codec.decode(noisy))),
            tuple(to_images(self.codec.decode(predicted))),
            recorder.finish(),
        )

    def condition(
        self,
        prompts: Sequence[str],
        references: Sequence[Image.Image | None],
        size: tuple[int, int],
        sampler: SamplerConfig,
        negative_prompt: str = "",
    ) -> Conditioning:
        """Run tower and codec over prompts and references of pictures of one (height, width)."""
        seen = [None if reference is None else upright(reference) for reference in references]
        negative = negative_prompt if sampler.guidance > 1 else None
        context, tokens = encode_contexts(self.tower, prompts, seen, negative, self.model.config.hidden_states)
        pictures = [picture for picture in seen if picture is not None]
        latents = self.codec.encode(fit(pictures, *size).to(self.device)) if pictures else None
        return Conditioning(context.to(self.device, self.model.patch_in.weight.dtype), tokens, latents)

    def _denoise(
        self,
        conditioning: Conditioning,
        seeds: Sequence[int],
        size: tuple[int, int],
        sampler: SamplerConfig,
        on_step: Callable[[DenoisingStep], None],
    ) -> Float[Tensor, "batch c h w"]:
        stride = self.codec.stride
        noise = seeded_noise(seeds, (self.codec.channels, size[0] // stride, size[1] // stride)).to(self.device)
        return denoise(
            self.model, noise, conditioning.context, sampler, reference=conditioning.reference, on_step=on_step
        )


def _sampler(steps: int, guidance: float, guidance_rescale: float, schedule: str) -> SamplerConfig:
    """Check the settings; a refused one is the caller's mistake."""
    try:
        return SamplerConfig.model_validate(
            {"steps": steps, "guidance": guidance, "guidance_rescale": guidance_rescale, "schedule": schedule}
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{first['loc'][0]} = {first['input']!r} is refused: {first['msg']}") from error


def _require_one_each(prompts: Sequence[str], **others: Sequence[object]) -> None:
    if not prompts:
        raise UserError("no prompts were given: pass at least one")
    for name, values in others.items():
        if len(values) != len(prompts):
            raise UserError(f"{len(values)} values of {name} for {len(prompts)} prompts: pass one, or one for each")
    missing = [i for i, value in enumerate(others["reference"]) if value is None]
    if 0 < len(missing) < len(prompts):
        raise UserError(f"prompt {missing[0]} has no reference while others have: draw them in separate calls")


def _require_fit(model: MoS, tower: Tower, codec: Codec) -> None:
    """Refuse parts that the model was not trained with."""
    config = model.config
    too_shallow = tower.num_layers < config.hidden_states[-1]
    if (
        too_shallow
        or (config.routed_layers is None and tower.num_layers != config.state_layers)
        or (tower.dim != config.state_dim)
    ):
        raise UserError(
            f"tower {tower.tower_id} has {tower.num_layers} layers of width {tower.dim}, but the model was trained on "
            f"{config.state_layers} layers of width {config.state_dim}: load the tower the model was trained with"
        )
    if codec.channels != config.latent_channels:
        raise UserError(
            f"codec {codec.codec_id} has {codec.channels} latent channels, but the model was trained on "
            f"{config.latent_channels}: load the codec the model was trained with"
        )

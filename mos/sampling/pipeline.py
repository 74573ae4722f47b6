"""Three lines from a prompt to a picture.

from mos.sampling import MosPipeline
pipe = MosPipeline.from_export("runs/demo/checkpoints/stage4/<fingerprint>/export")
pipe("a red circle", seed=1)[0].save("circle.png")
"""

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Self

import torch
from jaxtyping import Float
from PIL import Image
from rich.progress import Progress
from torch import Tensor

from mos.encoders.load import load_codec, load_tower
from mos.encoders.understanding import Tower, TowerConfig
from mos.encoders.vae import Codec
from mos.encoders.weights import first_line
from mos.errors import UserError
from mos.images.decode import ImageLimits
from mos.model.execution import compile_blocks
from mos.model.mos import MoS
from mos.precision import DtypeName, fast_dtype, torch_dtype
from mos.sampling import arguments
from mos.sampling.conditioning import Conditioning, encode_contexts
from mos.sampling.config import SamplerConfig
from mos.sampling.denoise import DenoisingStep, denoise, seeded_noise
from mos.sampling.export import read_export
from mos.sampling.pictures import bucket_size, fit, picture_size, to_images
from mos.sampling.prompts import CutPromptWarning, cut_notices
from mos.sampling.references import Picture, read_references
from mos.sampling.trace import RouterRecorder, RouterTrace

NO_EDITS = (
    "this model was trained on text alone and cannot edit a picture: load the `export` of an `edit` stage, or leave "
    "the picture out"
)


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
        self,
        model: MoS,
        tower: Tower,
        codec: Codec,
        *,
        resolution: int,
        bucket_aspect: float = 2.0,
        edits: bool = True,
        limits: ImageLimits | None = None,
        device: str | torch.device = "cpu",
        compile: bool = False,
    ) -> None:
        """Put the parts together.

        Args:
            model: moved to `device` and set to evaluation mode.
            tower: frozen understanding tower.
            codec: frozen image autoencoder.
            resolution: side in pixels of a picture whose size is not given.
            bucket_aspect: longest side over shortest side of the buckets the model was trained in.
            edits: whether the model was trained on pictures to edit.
            limits: what a picture to edit is held to; where left out: the defaults of `curate.image`.
            device: where the model runs: in float32 on a CPU, so that a picture is the same in any batch, else in what
                the device is fast in.
            compile: compile the model's blocks at the first picture, see `mos.model.execution`.

        Raises:
            UserError: tower or codec have other widths than the model was trained with, or there is no such device.
        """
        _require_fit(model, tower, codec)
        self.device = usable_device(device)
        self.model = model.to(self.device, torch_dtype(drawing_dtype(self.device))).eval()
        if arguments.switch("compile", compile):
            compile_blocks(self.model)
        self.tower = tower
        self.codec = codec
        self.resolution = resolution
        self.bucket_aspect = bucket_aspect
        self.edits = edits
        self.limits = limits or ImageLimits()

    @classmethod
    def from_export(
        cls,
        folder: str | PathLike,
        *,
        limits: ImageLimits | None = None,
        device: str | torch.device = "cpu",
        compile: bool = False,
    ) -> Self:
        """Load what a training stage exported, with the tower and the codec it was trained with.

        Raises:
            UserError: the folder holds no export, its tower or codec cannot be loaded or do not fit, or there is no
                such device.
        """
        export, device = read_export(folder), usable_device(device)
        return cls(
            export.model,
            load_tower(_fast(export.config.tower, device), device),
            load_codec(export.config.vae, device),
            resolution=export.resolution,
            bucket_aspect=export.config.bucket_aspect,
            edits=export.config.edits,
            limits=limits,
            device=device,
            compile=compile,
        )

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
        negative_prompt: str | None = None,
        reference: Picture | Sequence[Picture] | None = None,
        batch_size: int = 16,
        progress: bool | None = None,
    ) -> list[Image.Image]:
        """Draw one picture for each prompt.

        Args:
            prompts: one or several; instructions where there is a reference.
            height: pixels, a multiple of `token_px`. Where neither side is given: of the bucket nearest to the
                reference's aspect, else the model's own resolution; where one is given: the other is the resolution.
            width: as height.
            steps: Euler steps.
            guidance: classifier-free guidance scale; 0 and 1 are the conditional model alone, at half the work.
            guidance_rescale: share in [0, 1] of the guided velocity's spread brought back to the conditional one's.
            schedule: `linear` or `linear_quadratic`.
            seed: picture i is drawn from seed + i, or from its own entry of a sequence; never from its neighbours.
                From -2^63 to 2^64 - 1, as for torch, where a negative seed is that much below 2^64.
            negative_prompt: what guidance points away from; left out: nothing, the empty prompt.
            reference: picture to edit, one for all prompts or one for each: from Pillow, a path, or the bytes of a
                file. It is decoded as in training and cropped to the size drawn.
            batch_size: pictures drawn at the same time.
            progress: show a bar on stderr; where left out: if that is a terminal.

        Warns:
            CutPromptWarning: a prompt is longer than what the tower reads.

        Raises:
            UserError: an argument is of a kind or size that cannot be, the model was not trained to edit, or what it
                drew is not finite; the message names the remedy.
        """
        prompts = arguments.texts("prompts", prompts)
        negative_prompt = arguments.text("negative_prompt", negative_prompt or "")
        seeds = arguments.seeds(seed, len(prompts))
        sampler = arguments.sampler(steps, guidance, guidance_rescale, schedule)
        batch_size = arguments.whole("batch_size", batch_size)
        shows = sys.stderr.isatty() if progress is None else arguments.switch("progress", progress)
        references = read_references(reference, len(prompts), self.limits)
        sizes = [self.size(height, width, reference) for reference in references]
        for notice in self.cut_notices([*prompts, negative_prompt]):
            warnings.warn(notice, CutPromptWarning, stacklevel=2)
        batches = _batches(sizes, batch_size)
        images: dict[int, Image.Image] = {}
        with Progress(transient=True, disable=not shows) as bar:
            task = bar.add_task("drawing", total=sampler.steps * len(batches))
            for batch in batches:
                size = sizes[batch[0]]
                with _in_memory(len(batch), size, self.device):
                    conditioning = self.condition(
                        [prompts[i] for i in batch], [references[i] for i in batch], size, sampler, negative_prompt
                    )
                    latents = self._denoise(
                        conditioning, [seeds[i] for i in batch], size, sampler, lambda step: bar.advance(task)
                    )
                    images |= zip(batch, to_images(self.codec.decode(latents)), strict=True)
        return [images[i] for i in range(len(prompts))]

    def size(self, height: int | None, width: int | None, reference: Image.Image | None) -> tuple[int, int]:
        """(height, width) in pixels of a picture: as given, else of the reference's bucket, else the resolution.

        Raises:
            UserError: a side that is given is not a multiple of the token size.
        """
        if reference is None or height is not None or width is not None:
            return picture_size(height, width, self.resolution, self.token_px)
        return bucket_size(reference, self.resolution, self.token_px, self.bucket_aspect)

    def cut_notices(self, prompts: Sequence[str]) -> list[str]:
        """A sentence for each prompt that is longer than what the tower reads."""
        return cut_notices(self.tower, prompts)

    def trace(self, prompt: str, sampler: SamplerConfig, *, seed: int = 0) -> TracedPicture:
        """Draw one picture at the model's own resolution and keep every step of it.

        Warns and raises as drawing does.
        """
        prompt, [seed] = arguments.text("prompt", prompt), arguments.seeds(seed, 1)
        for notice in self.cut_notices([prompt]):
            warnings.warn(notice, CutPromptWarning, stacklevel=2)
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
        """Run tower and codec over prompts and references of pictures of one (height, width).

        References are upright and in sRGB, as `mos.sampling.references` reads them.

        Raises:
            UserError: there are references, and the model was not trained to edit.
        """
        pictures = [picture for picture in references if picture is not None]
        if pictures and not self.edits:
            raise UserError(NO_EDITS)
        negative = negative_prompt if sampler.guidance > 1 else None
        context, tokens = encode_contexts(self.tower, prompts, references, negative, self.model.config.hidden_states)
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
        latents = denoise(
            self.model, noise, conditioning.context, sampler, reference=conditioning.reference, on_step=on_step
        )
        _require_finite(latents, seeds, sampler)
        return latents


def usable_device(device: str | torch.device) -> str:
    """The name of a torch device.

    Raises:
        UserError: there is no such device on this machine.
    """
    try:
        torch.empty(0, device=torch.device(device))
    except (RuntimeError, AssertionError, TypeError) as error:
        raise UserError(
            f"device = {arguments.shown(device)} cannot be used ({first_line(error)}): pass 'cpu', or 'cuda' on a "
            "machine with a GPU and a CUDA build of torch"
        ) from error
    return str(device)


def _batches(sizes: Sequence[tuple[int, int]], batch_size: int) -> list[list[int]]:
    """Pictures that are drawn together, by index: of one size each."""
    indices: dict[tuple[int, int], list[int]] = {}
    for index, size in enumerate(sizes):
        indices.setdefault(size, []).append(index)
    return [same[i : i + batch_size] for same in indices.values() for i in range(0, len(same), batch_size)]


@contextmanager
def _in_memory(num: int, size: tuple[int, int], device: str) -> Iterator[None]:
    """Say what was too large where memory runs out."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "allocate memory" not in str(error):
            raise
        raise UserError(
            f"{num} pictures of height = {size[0]} and width = {size[1]} at a time do not fit into the memory of "
            f"{device}: lower batch_size, or draw smaller pictures"
        ) from error


def _require_finite(latents: Float[Tensor, "batch c h w"], seeds: Sequence[int], sampler: SamplerConfig) -> None:
    """Refuse to make a black picture of values that are none."""
    finite = latents.flatten(1).isfinite().all(dim=1).tolist()
    if not all(finite):
        raise UserError(
            f"the picture of seed {seeds[finite.index(False)]} has values that are not finite: lower guidance = "
            f"{sampler.guidance:g}, or draw with another model, since the weights of this one give none"
        )


def drawing_dtype(device: str) -> DtypeName:
    """Dtype that the model computes in while it draws."""
    return "float32" if device == "cpu" else fast_dtype(device)


def _fast(tower: TowerConfig, device: str) -> TowerConfig:
    """The tower with float32 in place of a bfloat16 that the device is slow in: its states are rounded all the same."""
    slow = tower.dtype == "bfloat16" and fast_dtype(device) == "float32"
    return tower.model_copy(update={"dtype": "float32"}) if slow else tower


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

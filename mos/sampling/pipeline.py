"""A trained model as diffusers' pipelines are used.

from mos.sampling import MoSPipeline
pipe = MoSPipeline.from_pretrained("runs/demo/checkpoints/stage4/<fingerprint>/export")
pipe("a red circle", generator=torch.Generator().manual_seed(1)).images[0].save("circle.png")

Dimension key
    batch  pictures: each prompt's, one after the other      c, h, w  latent channels and grid
"""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, ModelMixin
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils import is_accelerate_available
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from mos.encoders.load import codec_of, tower_of
from mos.encoders.understanding import Tower
from mos.encoders.vae import Codec
from mos.errors import UserError
from mos.images.decode import ImageLimits
from mos.model.context import Context
from mos.model.exported import is_pipeline
from mos.sampling import arguments
from mos.sampling.conditioning import context_of, encode_contexts, states_for
from mos.sampling.config import SamplerConfig
from mos.sampling.denoise import time_schedule, velocity
from mos.sampling.export import read_export_config
from mos.sampling.noise import Generators, drawn_noise
from mos.sampling.parts import PARTS, TOWER, codec_inside, inside, load_part, require_fit
from mos.sampling.pictures import OUTPUT_TYPES, bucket_size, fit, picture_size, to_images
from mos.sampling.prompts import CutPromptWarning, cut_notices
from mos.sampling.references import Picture, read_references
from mos.sampling.transformer import MoSTransformer
from mos.states.packed import PackedStates, concatenate, take

NO_EDITS = (
    "this model was trained on text alone and cannot edit a picture: load the `export` of an `edit` stage, or leave "
    "the picture out"
)
COMMIT = re.compile("[0-9a-f]{40}")
States = PackedStates | Sequence[PackedStates]
"""Hidden states of each prompt: packed in one, or a row of a states table each."""


class MoSPipeline(DiffusionPipeline):
    """A trained model with its frozen tower and codec: prompts in, pictures out."""

    model_cpu_offload_seq = "text_encoder->transformer->vae"
    _callback_tensor_inputs = ("latents",)

    def __init__(
        self,
        transformer: MoSTransformer,
        scheduler: FlowMatchEulerDiscreteScheduler,
        vae: ModelMixin,
        text_encoder: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        tower: dict[str, Any] | None = None,
        codec: dict[str, Any] | None = None,
        run: dict[str, Any] | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            transformer: the generation tower with its router.
            scheduler: takes steps along timesteps that it is given as sigmas.
            vae: AutoencoderKL, -Tiny, -DC, -KLWan or a `PixelAutoencoder`.
            text_encoder: model of the understanding tower; None for who passes `prompt_embeds`.
            tokenizer: of it.
            tower: how it is read, a `TowerConfig`; left out: as a MiniLM.
            codec: a `VaeConfig`, where a folder is to hold the VAE by reference.
            run: where the weights come from: `resolution`, side in pixels of a picture whose size is not given,
                `bucket_aspect` of the training buckets, `config` of the stage with its `tasks`; left out: 256 px.
        """
        super().__init__()
        self.register_modules(
            transformer=transformer, scheduler=scheduler, vae=vae, text_encoder=text_encoder, tokenizer=tokenizer
        )
        self._tower_config = TOWER.validate_python(tower or {"type": "minilm"})
        self.register_to_config(
            tower=self._tower_config.model_dump(mode="json"), codec=codec, run=run or {"resolution": 256}
        )
        self.limits = ImageLimits()
        """What pictures to edit are held to."""
        self._views: dict[str, tuple[tuple[Any, ...], Any]] = {}

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | PathLike, **kwargs: Any) -> Self:
        """Load a folder of `save_pretrained` or the `export` folder of a stage, of any version, or a hub repository.

        Parts that a folder holds by reference are loaded from where they are, with the same dtype.

        Args:
            pretrained_model_name_or_path: folder, or hub id with `revision`, a commit of 40 hex digits.
            kwargs: those of `DiffusionPipeline.from_pretrained`: `torch_dtype`, `variant`, parts by name and others.

        Raises:
            UserError: there is no such model, or a part cannot be loaded or does not fit.
        """
        kwargs.setdefault("low_cpu_mem_usage", is_accelerate_available())
        folder = _local(cls, pretrained_model_name_or_path, kwargs)
        older = not is_pipeline(folder)
        index = dict.fromkeys(PARTS, (None, None)) if older else cls.load_config(folder)
        lacking = [name for name in PARTS if name not in kwargs and (index.get(name) or (None,))[0] is None]
        if lacking:
            config = read_export_config(folder)
            dtype = kwargs.get("dtype", kwargs.get("torch_dtype"))
            kwargs |= {name: load_part(name, folder, config, dtype) for name in lacking}
        if older:
            if kwargs.get("variant") is not None:
                raise UserError(f"{folder} has no variant {kwargs['variant']!r}: leave `variant` out")
            parts: dict[str, Any] = {name: kwargs[name] for name in PARTS}
            tower, codec = (part.model_dump(mode="json") for part in (config.tower, config.vae))
            pipe = cls(**parts, tower=tower, codec=codec, run=config.run)
        else:
            pipe = super().from_pretrained(str(folder), **kwargs)
        if pipe.transformer is not None:
            read = None if pipe.text_encoder is None else pipe.tower
            require_fit(pipe.transformer.shape, read, None if pipe.vae is None else pipe.codec)
        return pipe

    def save_pretrained(self, save_directory: str | PathLike, **kwargs: Any) -> None:
        """Write all parts into a folder that needs nothing else; the arguments are those of diffusers."""
        self.register_to_config(tower=inside(self._tower_config), codec=codec_inside(self.vae))
        super().save_pretrained(save_directory, **kwargs)

    @property
    def tower(self) -> Tower:
        """The understanding tower: text encoder and tokenizer as `tower` of the config reads them.

        Raises:
            UserError: the pipeline has none.
        """
        parts = (self.text_encoder, self.tokenizer)
        if None in parts:
            raise UserError("this pipeline has no text encoder: pass prompt_embeds, or load it with its text_encoder")
        config = self._tower_config
        return self._view("tower", parts, lambda: tower_of(config, *parts, config.type))

    @property
    def codec(self) -> Codec:
        """The VAE as training used it: normalised latents, pictures in passes that fit.

        Raises:
            UserError: its class is none that is read.
        """
        device = self._execution_device
        return self._view("codec", (self.vae, device), lambda: codec_of(self.vae, device))

    @property
    def resolution(self) -> int:
        """Side in pixels of a picture whose size is not given."""
        return int(self.config.run["resolution"])

    @property
    def bucket_aspect(self) -> float:
        """Longest side over shortest side of the buckets the model was trained in."""
        return float(self.config.run.get("bucket_aspect", 2.0))

    @property
    def edits(self) -> bool:
        """True unless the model was trained on text alone."""
        return "edit" in self.config.run.get("config", {}).get("tasks", ("edit",))

    @property
    def token_px(self) -> int:
        """Side of one image token in pixels; sizes of pictures are multiples of it."""
        return self.codec.stride * self.transformer.shape.patch

    @property
    def guidance_scale(self) -> float:
        """Of the step that is being drawn."""
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """True where steps look at the negative prompt, too."""
        return self._guidance_scale > 1

    @property
    def num_timesteps(self) -> int:
        """Steps of the pictures that are being drawn."""
        return self._num_timesteps

    @property
    def current_timestep(self) -> Tensor | None:
        """Of the scheduler, while pictures are drawn."""
        return self._current_timestep

    @property
    def interrupt(self) -> bool:
        """Set `_interrupt` in a callback to skip the steps that are left."""
        return self._interrupt

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

    def encode_prompt(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        tower_image: Picture | Sequence[Picture] | None = None,
        do_classifier_free_guidance: bool = True,
    ) -> tuple[PackedStates, PackedStates | None]:
        """Hidden states of prompts and of what guidance points away from, as `prompt_embeds` takes them.

        Args:
            prompt: one or several.
            negative_prompt: one, or one for each; left out: the empty prompt.
            tower_image: pictures to edit, which a tower that sees images reads with both.
            do_classifier_free_guidance: False: no states of the negative prompts.

        Raises:
            UserError: the pipeline has no text encoder, or an argument is of a kind that cannot be.
        """
        prompts = arguments.texts("prompt", prompt)
        negatives = self._negatives(negative_prompt, len(prompts)) if do_classifier_free_guidance else []
        references = read_references(tower_image, len(prompts), self.limits)
        layers = None if self.transformer is None else self.transformer.shape.hidden_states
        shown = references + references[: len(negatives)]
        states, _ = encode_contexts(self.tower, prompts + negatives, shown, layers)
        prompt_embeds = take(states, range(len(prompts)))
        negative_prompt_embeds = take(states, range(len(prompts), 2 * len(prompts))) if negatives else None
        return prompt_embeds, negative_prompt_embeds

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        image: Picture | Sequence[Picture] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 20,
        guidance_scale: float = 4.0,
        guidance_rescale: float = 0.0,
        schedule: str = "linear",
        sigmas: Sequence[float] | None = None,
        num_images_per_prompt: int = 1,
        generator: Generators = None,
        latents: Float[Tensor, "batch c h w"] | None = None,
        prompt_embeds: States | None = None,
        negative_prompt_embeds: States | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any]] | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> ImagePipelineOutput | tuple[Any]:
        """Draw pictures of one size, those of a prompt one after the other.

        Args:
            prompt: one or several; instructions where there is an `image`.
            negative_prompt: what guidance points away from, one or one for each; left out: the empty prompt.
            image: picture to edit, one for all prompts or one for each: from Pillow, a path, the bytes of a file, an
                array or a tensor. It is decoded as in training and cropped to the size drawn.
            height: pixels, a multiple of `token_px`. Where neither side is given: of the bucket nearest to the
                image's aspect, else the model's own resolution; where one is given: the other is the resolution.
            width: as height.
            num_inference_steps: Euler steps.
            guidance_scale: of classifier-free guidance; 0 and 1 are the conditional model alone, at half the work.
            guidance_rescale: share in [0, 1] of the guided velocity's spread brought back to the conditional one's.
            schedule: of the timesteps, `linear` or `linear_quadratic`.
            sigmas: timesteps themselves, falling from 1, one a step, in place of `schedule` and
                `num_inference_steps`.
            num_images_per_prompt: pictures of each prompt.
            generator: one for each picture, or one from which they take their noise in turn; a picture depends on its
                own noise and prompt, never on its neighbours.
            latents: the noise itself.
            prompt_embeds: hidden states in place of `prompt`, of `encode_prompt` or of a states table.
            negative_prompt_embeds: the same in place of `negative_prompt`.
            output_type: `pil`, `np` ([batch height width 3] in [0, 1]), `pt` ([batch 3 height width]) or `latent`.
            return_dict: False: a tuple with the pictures.
            callback_on_step_end: called as callback(pipe, step, timestep, tensors) after every step; may return tensors
                to go on with.
            callback_on_step_end_tensor_inputs: names of the tensors it gets, of `_callback_tensor_inputs`.

        Warns:
            CutPromptWarning: a prompt is longer than what the tower reads.

        Raises:
            UserError: an argument is of a kind or size that cannot be, the model was not trained to edit, or what it
                drew is not finite; the message names the remedy.
        """
        if isinstance(callback_on_step_end, PipelineCallback | MultiPipelineCallbacks):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        self._check_names(output_type, callback_on_step_end_tensor_inputs)
        sampler = arguments.sampler(num_inference_steps, guidance_scale, guidance_rescale, schedule)
        times = time_schedule(sampler)[:-1] if sigmas is None else _falling(sigmas)
        repeats = arguments.whole("num_images_per_prompt", num_images_per_prompt)
        self._guidance_scale, self._interrupt, self._num_timesteps = sampler.guidance, False, len(times)
        self._current_timestep = None
        if (prompt is None) == (prompt_embeds is None):
            raise UserError("pass either prompt or prompt_embeds")
        prompts = None if prompt is None else arguments.texts("prompt", prompt)
        num = len(prompts) if prompts is not None else len(_packed(prompt_embeds).offsets) - 1
        references = read_references(image, num, self.limits)
        if any(reference is not None for reference in references) and not self.edits:
            raise UserError(NO_EDITS)
        size = self._one_size(height, width, references, latents)
        if self.text_encoder is not None:
            seen = [
                *(prompts or ()),
                *(() if negative_prompt_embeds is not None else self._negatives(negative_prompt, num)),
            ]
            for notice in self.cut_notices(seen):
                warnings.warn(notice, CutPromptWarning, stacklevel=3)  # below torch's no_grad
        with _in_memory(num * repeats, size, self._execution_device):
            states = self._states(prompts, negative_prompt, references, prompt_embeds, negative_prompt_embeds, num)
            contexts = self._contexts(*states, repeats)
            reference = self._reference(references, size, repeats)
            noise = self._noise(latents, generator, num * repeats, size)
            drawn = self._denoise(
                noise, contexts, reference, sampler, times, callback_on_step_end, callback_on_step_end_tensor_inputs
            )
            seeds = [one.initial_seed() for one in generator] if isinstance(generator, Sequence) else None
            require_finite(drawn, seeds, self._guidance_scale)
            images = self._output(drawn, output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _view(self, name: str, parts: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """What is made of parts, kept until one of them is another."""
        kept = self._views.get(name)
        if kept is None or any(old is not new and old != new for old, new in zip(kept[0], parts, strict=True)):
            kept = self._views[name] = (parts, make())
        return kept[1]

    def _check_names(self, output_type: str, tensors: Sequence[str]) -> None:
        if output_type not in OUTPUT_TYPES:
            raise UserError(f"output_type = {arguments.shown(output_type)} is none of {', '.join(OUTPUT_TYPES)}")
        unknown = [name for name in tensors if name not in self._callback_tensor_inputs]
        if unknown:
            known = ", ".join(self._callback_tensor_inputs)
            raise UserError(f"callback_on_step_end_tensor_inputs has {unknown[0]!r}, a callback gets {known}")

    def _negatives(self, negative_prompt: str | Sequence[str] | None, num: int) -> list[str]:
        """What each prompt is guided away from."""
        given = arguments.texts("negative_prompt", negative_prompt or "")
        return given * num if len(given) == 1 else arguments.one_each("negative_prompt", given, num)

    def _one_size(
        self,
        height: int | None,
        width: int | None,
        references: Sequence[Image.Image | None],
        latents: Tensor | None,
    ) -> tuple[int, int]:
        """(height, width) in pixels of all pictures of a call."""
        if latents is not None and height is None and width is None:
            height, width = (side * self.codec.stride for side in latents.shape[-2:])
        sizes = {self.size(height, width, reference) for reference in references}
        if len(sizes) > 1:
            raise UserError(
                f"the images have the aspects of {len(sizes)} sizes, {sorted(sizes)}: pass height and width, or draw "
                "them in separate calls"
            )
        return sizes.pop()

    def _states(
        self,
        prompts: list[str] | None,
        negative_prompt: str | Sequence[str] | None,
        references: Sequence[Image.Image | None],
        prompt_embeds: States | None,
        negative_prompt_embeds: States | None,
        num: int,
    ) -> tuple[PackedStates, PackedStates | None]:
        """Hidden states of prompts and negative prompts: given, or encoded in one go."""
        layers, dim = self.transformer.shape.hidden_states, self.transformer.shape.state_dim
        guided = self.do_classifier_free_guidance
        texts = list(prompts or ())
        if guided and negative_prompt_embeds is None:
            texts += self._negatives(negative_prompt, num)
        if texts:
            shown = list(references) * (len(texts) // num)
            encoded, _ = encode_contexts(self.tower, texts, shown, layers)
        if prompt_embeds is None:
            positive = take(encoded, range(num))
        else:
            positive = states_for(_packed(prompt_embeds), "prompt_embeds", layers, dim)
        if not guided:
            return positive, None
        if negative_prompt_embeds is None:
            return positive, take(encoded, range(len(texts) - num, len(texts)))
        negative = states_for(_packed(negative_prompt_embeds), "negative_prompt_embeds", layers, dim)
        if len(negative.offsets) - 1 != num:
            raise UserError(f"negative_prompt_embeds has {len(negative.offsets) - 1} contexts for {num} prompts")
        return positive, negative

    def _contexts(
        self, positive: PackedStates, negative: PackedStates | None, repeats: int
    ) -> Callable[[bool], Context]:
        """What the model reads for the pictures: the prompts alone, or the pair that guidance needs."""
        device, dtype = self._execution_device, self.transformer.patch_in.weight.dtype
        each = [number for number in range(len(positive.offsets) - 1) for _ in range(repeats)]
        prompts = take(positive.to(device), each)
        negatives = None if negative is None else take(negative.to(device), each)
        if negatives is not None and negatives.format != prompts.format:
            raise UserError(
                f"prompt_embeds are {prompts.format} and the negative ones {negatives.format}: pass both of one table, "
                "or guidance_scale = 1"
            )

        @cache
        def context(guided: bool) -> Context:
            if not guided:
                return context_of(prompts, device, dtype)
            if negatives is None:
                raise UserError(
                    "a callback turned guidance on, and no negative prompt was encoded: begin with guidance_scale "
                    "above 1"
                )
            return context_of(concatenate([prompts, negatives]), device, dtype)

        return context

    def _reference(
        self, references: Sequence[Image.Image | None], size: tuple[int, int], repeats: int
    ) -> Float[Tensor, "batch c h w"] | None:
        """Clean latents of the pictures to edit."""
        pictures = [picture for picture in references if picture is not None]
        if not pictures:
            return None
        device = self._execution_device
        return self.codec.encode(fit(pictures, *size).to(device)).to(device).repeat_interleave(repeats, dim=0)

    def _noise(
        self, latents: Tensor | None, generator: Generators, num: int, size: tuple[int, int]
    ) -> Float[Tensor, "batch c h w"]:
        stride = self.codec.stride
        shape = (self.codec.channels, size[0] // stride, size[1] // stride)
        if latents is None:
            return drawn_noise(generator, num, shape).to(self._execution_device)
        if tuple(latents.shape) != (num, *shape):
            raise UserError(
                f"latents of shape {tuple(latents.shape)} do not make {num} pictures of {size[0]}x{size[1]} px: pass "
                f"noise of shape {(num, *shape)}"
            )
        return latents.to(self._execution_device, torch.float32)

    def _denoise(
        self,
        latents: Float[Tensor, "batch c h w"],
        contexts: Callable[[bool], Context],
        reference: Float[Tensor, "batch c h w"] | None,
        sampler: SamplerConfig,
        times: Float[Tensor, " steps"],
        callback: Callable[..., dict[str, Any]] | PipelineCallback | MultiPipelineCallbacks | None,
        tensors: Sequence[str],
    ) -> Float[Tensor, "batch c h w"]:
        """From noise to data, in the scheduler's steps."""
        self.scheduler.set_timesteps(sigmas=times.tolist(), device=latents.device)
        self._num_timesteps = len(self.scheduler.timesteps)
        moments = self.scheduler.sigmas.tolist()
        with self.progress_bar(total=self._num_timesteps) as bar:
            for number, timestep in enumerate(self.scheduler.timesteps):
                if self.interrupt:
                    continue
                self._current_timestep = timestep
                context = contexts(self.do_classifier_free_guidance)
                scale, share = self._guidance_scale, sampler.guidance_rescale
                v = velocity(self.transformer, latents, moments[number], context, reference, scale, share)
                latents = self.scheduler.step(v, timestep, latents, return_dict=False)[0]
                if callback is not None:
                    given = {"latents": latents} if "latents" in tensors else {}
                    latents = (callback(self, number, timestep, given) or {}).get("latents", latents)
                bar.update()
        self._current_timestep = None
        return latents

    def _output(self, latents: Float[Tensor, "batch c h w"], output_type: str) -> Any:
        """Pictures in the form that is asked for."""
        if output_type == "latent":
            return latents
        if output_type == "pil":
            return to_images(self.codec.decode(latents))
        values = (self.codec.decode_frames(latents) / 2 + 0.5).clamp(0, 1)
        return values if output_type == "pt" else values.permute(0, 2, 3, 1).numpy()


def _local(cls: type[MoSPipeline], path: object, kwargs: dict[str, Any]) -> Path:
    """The folder of a model; a hub repository is fetched first, at a commit.

    Raises:
        UserError: it is neither a folder nor a repository at a commit.
    """
    if not isinstance(path, str | PathLike):
        raise UserError(f"export = {path!r} is not a folder: name the `export` folder of a stage")
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if str(path).startswith((".", "/", "~")) or str(path).count("/") != 1:
        raise UserError(f"{path} holds no exported model: name a folder, or a hub id owner/name")
    revision = kwargs.get("revision")
    if not isinstance(revision, str) or not COMMIT.fullmatch(revision):
        raise UserError(f"{path} is no folder here, and as a hub id it lacks its revision: set it to a 40-digit commit")
    options = ("cache_dir", "force_download", "proxies", "local_files_only", "token", "revision", "variant")
    return Path(cls.download(str(path), **{name: kwargs[name] for name in options if name in kwargs}))


def _packed(states: States | None) -> PackedStates:
    """Hidden states of all prompts in one."""
    if isinstance(states, PackedStates):
        return states
    if not isinstance(states, Sequence) or not all(isinstance(one, PackedStates) for one in states):
        raise UserError("prompt_embeds are no PackedStates: pass what encode_prompt gives, or rows of a states table")
    try:
        return concatenate(states)
    except ValueError as error:
        raise UserError(f"prompt_embeds cannot be one batch: {error}") from error


def _falling(sigmas: Sequence[float]) -> Float[Tensor, " steps"]:
    """Timesteps that a caller names.

    Raises:
        UserError: they do not fall from at most 1 to above 0.
    """
    times = torch.tensor([arguments.number("sigmas", sigma) for sigma in sigmas])
    if not len(times) or times[0] > 1 or times[-1] <= 0 or (times.diff() >= 0).any():
        raise UserError(f"sigmas = {arguments.shown(list(sigmas))} are refused: pass numbers that fall from 1, above 0")
    return times


@contextmanager
def _in_memory(num: int, size: tuple[int, int], device: torch.device) -> Iterator[None]:
    """Say what was too large where memory runs out."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "allocate memory" not in str(error):
            raise
        raise UserError(
            f"{num} pictures of height = {size[0]} and width = {size[1]} at a time do not fit into the memory of "
            f"{device}: draw fewer at a time (batch_size, num_images_per_prompt), or smaller pictures"
        ) from error


def require_finite(latents: Float[Tensor, "batch c h w"], seeds: Sequence[int] | None, guidance: float) -> None:
    """Refuse to make a black picture of values that are none.

    Raises:
        UserError: a picture has some; names its seed, where seeds are known.
    """
    finite = latents.flatten(1).isfinite().all(dim=1).tolist()
    if all(finite):
        return
    number = finite.index(False)
    which = f"number {number}" if seeds is None else f"seed {seeds[number]}"
    raise UserError(
        f"the picture of {which} has values that are not finite: lower guidance_scale = {guidance:g}, or draw with "
        "another model, since the weights of this one give none"
    )

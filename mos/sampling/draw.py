"""How jobs draw: an export on a device, and any number of pictures of any sizes, each from a seed of its own."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike

import torch
from diffusers.utils import logging
from PIL import Image

from mos.encoders.understanding import TowerConfig
from mos.encoders.weights import first_line
from mos.errors import UserError
from mos.images.decode import ImageLimits
from mos.model.execution import compile_blocks
from mos.precision import DtypeName, fast_dtype, resolve_dtype, torch_dtype
from mos.sampling import arguments
from mos.sampling.config import SamplerConfig
from mos.sampling.export import read_export
from mos.sampling.noise import generators_of
from mos.sampling.parts import cast
from mos.sampling.pipeline import MoSPipeline
from mos.sampling.references import Picture, read_references
from mos.sampling.transformer import MoSTransformer


def load_for_drawing(
    folder: str | PathLike,
    *,
    limits: ImageLimits | None = None,
    device: str | torch.device = "cpu",
    compile: bool = False,
) -> MoSPipeline:
    """An export on a device: in float32 on a CPU, so that a picture is the same in any batch, else in what the device
    is fast in; its bars are silent.

    Args:
        folder: of the export.
        limits: what a picture to edit is held to; where left out: the defaults of `curate.image`.
        device: of torch.
        compile: compile the model's blocks at the first picture, see `mos.model.execution`.

    Raises:
        UserError: the folder holds no export, its tower or codec cannot be loaded or do not fit, or there is no such
            device.
    """
    export, device = read_export(folder), usable_device(device)
    dtype = torch_dtype(drawing_dtype(device))
    tower = resolve_dtype(_fast(export.config.tower, device).dtype, device)
    with _silence():
        pipe = MoSPipeline.from_pretrained(
            folder,
            transformer=cast(MoSTransformer.of(export.model).eval(), dtype),
            dtype={"text_encoder": torch_dtype(tower), "default": torch.float32},
        )
    pipe.to(device)
    pipe.set_progress_bar_config(disable=True)
    pipe.limits = limits or ImageLimits()
    if arguments.switch("compile", compile):
        compile_blocks(pipe.transformer)
    return pipe


def draw_pictures(
    pipe: MoSPipeline,
    prompts: Sequence[str],
    *,
    seed: int | Sequence[int] = 0,
    sampler: SamplerConfig,
    negative_prompt: str | Sequence[str] = "",
    image: Picture | Sequence[Picture] | None = None,
    height: int | None = None,
    width: int | None = None,
    batch_size: int = 16,
) -> list[Image.Image]:
    """One picture of each prompt, in batches of one size.

    Args:
        pipe: draws.
        prompts: one or more; instructions where there are images.
        seed: picture i is drawn from seed + i, or from its own entry of a sequence.
        sampler: steps, guidance and schedule.
        negative_prompt: one, or one for each.
        image: picture to edit, one or one for each.
        height: pixels, as for the pipeline.
        width: pixels.
        batch_size: pictures drawn at the same time.

    Raises:
        UserError: as drawing with the pipeline does.
    """
    prompts = arguments.texts("prompt", prompts)
    generators = generators_of(arguments.seeds(seed, len(prompts)))
    each = [negative_prompt] * len(prompts) if isinstance(negative_prompt, str) else negative_prompt
    negatives = arguments.one_each("negative_prompt", each, len(prompts))
    references = read_references(image, len(prompts), pipe.limits)
    sizes = [pipe.size(height, width, reference) for reference in references]
    images: dict[int, Image.Image] = {}
    for batch in _batches(sizes, arguments.whole("batch_size", batch_size)):
        [drawn] = pipe(
            [prompts[i] for i in batch],
            negative_prompt=[negatives[i] for i in batch],
            image=[picture for i in batch if (picture := references[i]) is not None] or None,
            height=sizes[batch[0]][0],
            width=sizes[batch[0]][1],
            generator=[generators[i] for i in batch],
            num_inference_steps=sampler.steps,
            guidance_scale=sampler.guidance,
            guidance_rescale=sampler.guidance_rescale,
            schedule=sampler.schedule,
            return_dict=False,
        )
        images |= zip(batch, drawn, strict=True)
    return [images[i] for i in range(len(prompts))]


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


def drawing_dtype(device: str) -> DtypeName:
    """Dtype that the model computes in while it draws."""
    return "float32" if device == "cpu" else fast_dtype(device)


def _batches(sizes: Sequence[tuple[int, int]], batch_size: int) -> list[list[int]]:
    """Pictures that are drawn together, by index: of one size each."""
    indices: dict[tuple[int, int], list[int]] = {}
    for index, size in enumerate(sizes):
        indices.setdefault(size, []).append(index)
    return [same[i : i + batch_size] for same in indices.values() for i in range(0, len(same), batch_size)]


def _fast(tower: TowerConfig, device: str) -> TowerConfig:
    """The tower with float32 in place of a bfloat16 that the device is slow in: its states are rounded all the same."""
    slow = tower.dtype == "bfloat16" and fast_dtype(device) == "float32"
    return tower.model_copy(update={"dtype": "float32"}) if slow else tower


@contextmanager
def _silence() -> Iterator[None]:
    """Load without the bar of diffusers."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()

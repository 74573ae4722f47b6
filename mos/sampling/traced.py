"""One picture with every step of it, and what the router chose meanwhile."""

import warnings
from dataclasses import dataclass

import torch
from PIL import Image

from mos.sampling import arguments
from mos.sampling.conditioning import context_of, encode_contexts
from mos.sampling.config import SamplerConfig
from mos.sampling.denoise import DenoisingStep, denoise
from mos.sampling.noise import seeded_noise
from mos.sampling.pictures import to_images
from mos.sampling.pipeline import MoSPipeline, require_finite
from mos.sampling.prompts import CutPromptWarning
from mos.sampling.trace import RouterRecorder, RouterTrace


@dataclass(frozen=True)
class TracedPicture:
    """One picture, how it came about, and what the router chose meanwhile."""

    image: Image.Image
    noisy: tuple[Image.Image, ...]
    """z_t of each step, decoded."""
    predicted: tuple[Image.Image, ...]
    """The picture that the velocity of each step points to."""
    trace: RouterTrace


def draw_traced(pipe: MoSPipeline, prompt: str, sampler: SamplerConfig, *, seed: int = 0) -> TracedPicture:
    """Draw one picture at the model's own resolution and keep every step of it.

    Warns and raises as drawing does.
    """
    prompt, [seed] = arguments.text("prompt", prompt), arguments.seeds(seed, 1)
    for notice in pipe.cut_notices([prompt]):
        warnings.warn(notice, CutPromptWarning, stacklevel=2)
    model, codec, device = pipe.transformer, pipe.codec, pipe.device
    texts = [prompt, *([""] if sampler.guidance > 1 else [])]
    states, tokens = encode_contexts(pipe.tower, texts, [None] * len(texts), model.shape.hidden_states)
    context = context_of(states, device, model.patch_in.weight.dtype)
    recorder = RouterRecorder(tokens[0], model.shape.hidden_states[1:])
    kept: list[DenoisingStep] = []

    def keep(step: DenoisingStep) -> None:
        recorder.add(step.t, model.route(step.z_t, torch.tensor([step.t], device=device), context[:1]))
        kept.append(step)

    height, width = pipe.size(None, None, None)
    noise = seeded_noise([seed], (codec.channels, height // codec.stride, width // codec.stride)).to(device)
    latents = denoise(model, noise, context, sampler, on_step=keep)
    require_finite(latents, [seed], sampler.guidance)
    noisy, predicted = torch.cat([step.z_t for step in kept]), torch.cat([step.z0 for step in kept])
    return TracedPicture(
        to_images(codec.decode(latents))[0],
        tuple(to_images(codec.decode(noisy))),
        tuple(to_images(codec.decode(predicted))),
        recorder.finish(),
    )

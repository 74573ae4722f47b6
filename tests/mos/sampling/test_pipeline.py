"""The pipeline behaves as people know diffusers' pipelines, and a picture depends on its own seed alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler
from PIL import Image

from mos.errors import UserError
from mos.model.context import Context
from mos.model.exported import INDEX, SHARDS
from mos.sampling.config import SamplerConfig
from mos.sampling.denoise import denoise
from mos.sampling.noise import generators_of, seeded_noise
from mos.sampling.pipeline import MoSPipeline
from mos.states.calibration import Calibration
from mos.states.packed import PackedStates, concatenate, take
from mos.states.quantise import quantise
from tests.mos.sampling.tiny_export import random_model, run_of, save_export
from tests.mos.sampling.tiny_pipeline import tiny_pipeline

PROMPTS = ["a red circle", "two blue squares left of a very long green star", "a ring"]
OTHER = PackedStates("bf16", torch.tensor([0, 1]), torch.zeros(1, 7, 9).bfloat16())
"""Of another tower."""
FEW = {"num_inference_steps": 3, "output_type": "np"}


def drawn(pipe: MoSPipeline, prompt: object, seeds: Sequence[int] = (0,), **settings: object) -> np.ndarray:
    return pipe(prompt, generator=generators_of(seeds), **{**FEW, **settings}).images


def test_three_lines_draw_a_picture(tmp_path: Path) -> None:
    pipe = MoSPipeline.from_pretrained(save_export(tmp_path / "export"))
    image = pipe("a red circle", num_inference_steps=2).images[0]
    assert (image.size, image.mode) == ((16, 16), "RGB")


@pytest.mark.parametrize("schedule", ["linear", "linear_quadratic"])
def test_its_scheduler_takes_the_steps_of_our_solver(pipe: MoSPipeline, schedule: str) -> None:
    sampler = SamplerConfig(steps=7, guidance=3.0, guidance_rescale=0.4, schedule=schedule)
    states = concatenate(pipe.encode_prompt(PROMPTS))
    context = Context.of([one.codes.float() for one in (take(states, [i]) for i in range(6))])
    expected = denoise(pipe.transformer, seeded_noise([4, 5, 6], (12, 8, 8)), context, sampler)
    found = drawn(
        pipe,
        PROMPTS,
        [4, 5, 6],
        num_inference_steps=7,
        guidance_scale=3.0,
        guidance_rescale=0.4,
        schedule=schedule,
        output_type="latent",
    )
    assert torch.equal(found, expected)


@pytest.mark.parametrize("num", [1, 2, 5])
def test_a_seed_gives_its_picture_in_a_batch_of_any_size(pipe: MoSPipeline, num: int) -> None:
    alone = drawn(pipe, PROMPTS[0], [7])
    together = drawn(pipe, [PROMPTS[0], *(PROMPTS * 2)[1:num]], [7, *range(20, 19 + num)])
    assert np.abs(alone[0] - together[0]).max() <= 1e-5
    several = drawn(pipe, [PROMPTS[1], PROMPTS[0]], range(7 - num, 7 + num), num_images_per_prompt=num)
    assert len(several) == 2 * num
    assert np.abs(alone[0] - several[num]).max() <= 1e-5


def test_one_generator_serves_pictures_in_turn(pipe: MoSPipeline) -> None:
    odd = {**FEW, "height": 12, "width": 20}
    one, three = (pipe(PROMPTS[:num], generator=torch.Generator().manual_seed(3), **odd).images for num in (1, 3))
    assert np.abs(one[0] - three[0]).max() <= 1e-5
    assert np.abs(three[1] - three[0]).max() > 0.1
    torch.manual_seed(5)
    first = pipe("a", **FEW).images
    torch.manual_seed(5)
    assert np.array_equal(first, pipe("a", **FEW).images)


def test_seeds_and_prompts_and_settings_matter(pipe: MoSPipeline) -> None:
    base = drawn(pipe, "a red circle")
    changes = (
        {"negative_prompt": "a blue star"},
        {"guidance_scale": 8.0},
        {"guidance_rescale": 0.7},
        {"schedule": "linear_quadratic"},
    )
    for settings in changes:
        assert np.abs(base - drawn(pipe, "a red circle", **settings)).max() > 0.004
    assert np.abs(base - drawn(pipe, "a red circle", [1])).max() > 0.04
    assert np.abs(base - drawn(pipe, "a blue star")).max() > 0.004


def test_forms_of_output_are_one_picture(pipe: MoSPipeline) -> None:
    values = drawn(pipe, PROMPTS[:2], [1, 2])
    assert (values.shape, values.dtype) == ((2, 16, 16, 3), np.float32)
    tensor = drawn(pipe, PROMPTS[:2], [1, 2], output_type="pt")
    assert np.array_equal(tensor.permute(0, 2, 3, 1).numpy(), values)
    images = drawn(pipe, PROMPTS[:2], [1, 2], output_type="pil")
    assert all(
        np.abs(np.asarray(image) / 255 - value).max() < 0.0021 for image, value in zip(images, values, strict=True)
    )
    latents = drawn(pipe, PROMPTS[:2], [1, 2], output_type="latent")
    assert latents.shape == (2, 12, 8, 8)
    (plain,) = pipe(PROMPTS[:2], generator=generators_of([1, 2]), return_dict=False, **FEW)
    assert np.array_equal(plain, values)


def test_noise_and_states_may_be_given(pipe: MoSPipeline) -> None:
    expected = drawn(pipe, PROMPTS, [1, 2, 3], negative_prompt="a star")
    noise = seeded_noise([1, 2, 3], (12, 8, 8))
    assert np.array_equal(pipe(PROMPTS, "a star", latents=noise, **FEW).images, expected)
    positive, negative = pipe.encode_prompt(PROMPTS, "a star")
    given = {"prompt_embeds": positive, "negative_prompt_embeds": negative}
    assert np.array_equal(drawn(pipe, None, [1, 2, 3], **given), expected)
    rows = [take(positive, [number]) for number in range(3)]
    assert np.array_equal(drawn(pipe, None, [1, 2, 3], negative_prompt="a star", prompt_embeds=rows), expected)
    twice = drawn(pipe, None, [1, 9, 2, 9, 3, 9], num_images_per_prompt=2, **given)
    assert np.abs(twice[::2] - expected).max() <= 1e-5


def test_states_of_a_quantised_table_draw_nearly_the_same(pipe: MoSPipeline) -> None:
    plain = concatenate(pipe.encode_prompt(["a red circle"]))
    zero = torch.zeros(plain.num_layers, plain.dim).bfloat16()
    calibration = Calibration(zero, torch.ones_like(zero), torch.zeros(plain.num_layers, 0, dtype=torch.int32))
    packed = quantise(plain.codes, calibration, "int8", plain.offsets)
    given = {"prompt_embeds": take(packed, [0]), "negative_prompt_embeds": take(packed, [1])}
    distance = np.abs(drawn(pipe, None, **given) - drawn(pipe, "a red circle"))
    assert 0 < distance.mean() < 0.05
    with pytest.raises(UserError, match="int8 and the negative ones bf16"):
        drawn(pipe, None, prompt_embeds=given["prompt_embeds"])


def test_any_size_that_is_whole_tokens(pipe: MoSPipeline) -> None:
    assert drawn(pipe, "a ring", height=8, width=24).shape == (1, 8, 24, 3)
    with pytest.raises(UserError, match="width = 25 is not a multiple of the token size, 4 px: use 24 or 28"):
        drawn(pipe, "a ring", width=25)


def test_steps_may_be_named(pipe: MoSPipeline) -> None:
    thirds = drawn(pipe, "a ring", sigmas=[1.0, 2 / 3, 1 / 3])
    assert np.abs(thirds - drawn(pipe, "a ring")).max() < 1e-4
    for sigmas in ([], [0.5, 0.7], [1.5], [1, 0]):
        with pytest.raises(UserError, match=r"sigmas = .* are refused"):
            drawn(pipe, "a ring", sigmas=sigmas)


def test_a_callback_sees_every_step_and_may_change_it(pipe: MoSPipeline) -> None:
    seen = []

    def watch(given: MoSPipeline, step: int, timestep: torch.Tensor, tensors: dict) -> dict:
        seen.append((step, float(timestep), given.num_timesteps, float(given.current_timestep)))
        return {} if step < 2 else {"latents": torch.zeros_like(tensors["latents"])}

    latents = drawn(pipe, "a ring", callback_on_step_end=watch, output_type="latent")
    times = [pytest.approx(1000 * share) for share in (1, 2 / 3, 1 / 3)]
    assert seen == [(step, t, 3, t) for step, t in enumerate(times)]
    assert not latents.any()
    assert pipe.current_timestep is None
    with pytest.raises(UserError, match="callback_on_step_end_tensor_inputs has 'states', a callback gets latents"):
        drawn(pipe, "a ring", callback_on_step_end=watch, callback_on_step_end_tensor_inputs=["states"])


def test_a_callback_changes_guidance_and_ends_drawing(pipe: MoSPipeline) -> None:
    def soften(given: MoSPipeline, step: int, timestep: torch.Tensor, tensors: dict) -> None:
        given._guidance_scale = 1.0

    def stop(given: MoSPipeline, step: int, timestep: torch.Tensor, tensors: dict) -> None:
        given._interrupt = step == 1

    plain = drawn(pipe, "a ring", num_inference_steps=6)
    assert np.abs(plain - drawn(pipe, "a ring", num_inference_steps=6, callback_on_step_end=soften)).max() > 0.004
    early = drawn(pipe, "a ring", num_inference_steps=6, callback_on_step_end=stop, output_type="latent")
    whole = SamplerConfig(steps=6)
    steps = []
    context = Context.of([take(one, [0]).codes.float() for one in pipe.encode_prompt("a ring")])
    denoise(pipe.transformer, seeded_noise([0], (12, 8, 8)), context, whole, on_step=steps.append)
    assert torch.equal(early, steps[2].z_t)

    def harden(given: MoSPipeline, step: int, timestep: torch.Tensor, tensors: dict) -> None:
        given._guidance_scale = 3.0

    with pytest.raises(UserError, match="turned guidance on, and no negative prompt was encoded"):
        drawn(pipe, "a ring", guidance_scale=1.0, callback_on_step_end=harden)


def test_editing_depends_on_the_picture(pipe: MoSPipeline) -> None:
    red, blue = (Image.new("RGB", (40, 20), colour) for colour in ("red", "blue"))
    edited = drawn(pipe, "make it green", image=red)
    assert edited.shape == (1, 12, 20, 3)  # the bucket nearest to the reference's aspect
    assert np.abs(edited - drawn(pipe, "make it green", image=blue)).max() > 0.004
    both = drawn(pipe, ["make it green"] * 2, [0, 0], image=[red, blue])
    assert np.abs(edited[0] - both[0]).max() <= 1e-5
    array = np.asarray(red, dtype=np.float32) / 255
    for form in (array, array[None], torch.from_numpy(array).permute(2, 0, 1), np.asarray(red)):
        assert np.array_equal(drawn(pipe, "make it green", image=form), edited)
    with pytest.raises(UserError, match="the images have the aspects of 2 sizes"):
        drawn(pipe, ["a", "b"], [0, 1], image=[red, Image.new("RGB", (32, 32))])


def test_a_rescaled_picture_of_an_untrained_model_is_its_noise() -> None:
    model = random_model()
    with torch.no_grad():
        model.patch_out.weight.zero_()
    pipe = tiny_pipeline(model)
    plain, rescaled = (drawn(pipe, "a", guidance_rescale=phi) for phi in (0.0, 0.7))
    assert np.array_equal(plain, rescaled)
    assert rescaled.std() > 0.2


def test_values_that_are_not_finite_are_no_picture(pipe: MoSPipeline) -> None:
    model = random_model()
    with torch.no_grad():
        model.patch_out.weight[0] = float("nan")
    with pytest.raises(UserError, match=r"picture of seed 5 has values that are not finite: lower guidance_scale = 4"):
        drawn(tiny_pipeline(model), ["a", "b"], [5, 6])
    with pytest.raises(UserError, match=r"picture of number 0 .* lower guidance_scale = 1e\+39"):
        pipe("a", guidance_scale=1e39, **FEW)


def test_a_model_of_text_alone_does_not_edit() -> None:
    pipe = tiny_pipeline(run=run_of(16, ["generate"]))
    with pytest.raises(UserError, match=r"trained on text alone and cannot edit a picture: load the `export` of an"):
        drawn(pipe, "make it blue", image=Image.new("RGB", (32, 32)))
    assert drawn(pipe, "a ring").shape == (1, 16, 16, 3)


def test_an_export_tells_how_long_its_buckets_are() -> None:
    pipe = tiny_pipeline(run={**run_of(16), "bucket_aspect": 1.0})
    assert drawn(pipe, "a", image=Image.new("RGB", (90, 30))).shape == (1, 16, 16, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": None}, "pass either prompt or prompt_embeds"),
        ({"prompt": "a", "generator": [torch.Generator()] * 2}, "generator is a list of 2 for 1 pictures"),
        ({"prompt": "a", "generator": [7]}, "generator is a list of 1 for 1 pictures"),
        ({"prompt": "a", "latents": torch.zeros(2, 12, 8, 8)}, r"latents of shape \(2, 12, 8, 8\) do not make 1 pic"),
        ({"prompt": "a", "num_images_per_prompt": 0}, "num_images_per_prompt = 0 is refused"),
        ({"prompt": "a", "output_type": "jpeg"}, "output_type = 'jpeg' is none of pil, np, pt, latent"),
        ({"prompt": ["a", "b", "c"], "negative_prompt": ["a", "b"]}, "2 values of negative_prompt for 3 prompts"),
        ({"prompt": None, "prompt_embeds": torch.zeros(1, 3, 4)}, "prompt_embeds are no PackedStates"),
        (
            {"prompt": None, "prompt_embeds": OTHER},
            "has 7 hidden states of width 9 for each token, the model reads 7 of width 384",
        ),
    ],
)
def test_what_cannot_be_is_refused(pipe: MoSPipeline, settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        pipe(**{**FEW, **settings})


@pytest.mark.parametrize("shard", [None, "20KB"])
def test_what_is_saved_is_loaded_whole(pipe: MoSPipeline, tmp_path: Path, shard: str | None) -> None:
    pipe.save_pretrained(tmp_path, max_shard_size=shard)
    parts = {path.name for path in tmp_path.iterdir()}
    assert parts == {INDEX, "transformer", "scheduler", "vae", "text_encoder", "tokenizer"}
    assert (tmp_path / SHARDS).is_file() == (shard is not None)
    loaded = MoSPipeline.from_pretrained(tmp_path)
    assert isinstance(loaded.scheduler, FlowMatchEulerDiscreteScheduler)
    assert loaded.components.keys() == pipe.components.keys()
    assert (loaded.resolution, loaded.token_px, loaded.edits) == (16, 4, True)
    assert np.array_equal(drawn(loaded, "a ring"), drawn(pipe, "a ring"))


def test_weights_come_in_variants_and_dtypes(pipe: MoSPipeline, tmp_path: Path) -> None:
    tiny_pipeline().to(torch.bfloat16).save_pretrained(tmp_path, variant="bf16")
    assert list(tmp_path.glob("transformer/*.bf16.safetensors"))
    dtypes = {"transformer": torch.bfloat16, "default": torch.float32}
    loaded = MoSPipeline.from_pretrained(tmp_path, variant="bf16", dtype=dtypes)
    found = {name: getattr(loaded, name).dtype for name in ("transformer", "text_encoder", "vae")}
    assert found == {"transformer": torch.bfloat16, "text_encoder": torch.float32, "vae": torch.float32}
    assert np.abs(drawn(loaded, "a ring") - drawn(pipe, "a ring")).max() < 0.3
    with pytest.raises(ValueError, match="variant=fp16"):
        MoSPipeline.from_pretrained(tmp_path, variant="fp16")


def test_an_export_is_loaded_in_the_dtype_that_is_asked_for(tmp_path: Path) -> None:
    folder = save_export(tmp_path / "export")
    loaded = MoSPipeline.from_pretrained(folder, torch_dtype=torch.float16)
    assert {getattr(loaded, name).dtype for name in ("transformer", "text_encoder", "vae")} == {torch.float16}
    with pytest.raises(UserError, match="has no variant 'fp16'"):
        MoSPipeline.from_pretrained(folder, variant="fp16")


def test_parts_may_be_given_or_left_out(pipe: MoSPipeline, tmp_path: Path) -> None:
    folder = save_export(tmp_path / "export")
    bare = MoSPipeline.from_pretrained(folder, text_encoder=None, tokenizer=None, vae=pipe.vae)
    assert bare.vae is pipe.vae
    positive, negative = pipe.encode_prompt("a ring")
    given = {"prompt_embeds": positive, "negative_prompt_embeds": negative}
    assert np.array_equal(drawn(bare, None, **given), drawn(pipe, "a ring"))
    with pytest.raises(UserError, match="has no text encoder: pass prompt_embeds"):
        drawn(bare, "a ring")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (None, "is not a folder"),
        ("/nowhere/at/all", "holds no exported model"),
        ("owner/name", "lacks its revision: set it to a 40-digit commit"),
    ],
)
def test_what_is_no_model_is_refused(path: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        MoSPipeline.from_pretrained(path)


def test_a_codec_of_another_width_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="48 latent channels, but the model was trained on 12"):
        MoSPipeline.from_pretrained(save_export(tmp_path / "export", vae={"type": "pixel", "stride": 4}))


def test_the_vae_is_tiled_and_sliced_as_it_says() -> None:
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(4, 4),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=12,
        norm_num_groups=1,
        sample_size=16,
    ).eval()
    pipe = tiny_pipeline()
    pipe.vae = vae
    large = {"height": 64, "width": 64}
    whole = drawn(pipe, PROMPTS, [1, 2, 3], **large)
    pipe.vae.enable_slicing()
    assert np.abs(drawn(pipe, PROMPTS, [1, 2, 3], **large) - whole).max() < 1e-5
    pipe.vae.enable_tiling()
    tiled = drawn(pipe, PROMPTS, [1, 2, 3], **large)
    assert 0 < np.abs(tiled - whole).max() < 0.5


def test_offloading_names_what_it_needs(pipe: MoSPipeline) -> None:
    assert pipe.model_cpu_offload_seq.split("->") == ["text_encoder", "transformer", "vae"]
    with pytest.raises((ImportError, RuntimeError), match="accelerat"):
        pipe.enable_model_cpu_offload()

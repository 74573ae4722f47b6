"""Whether a trained model is used as people use models: diffusers' conventions, and a seed that gives one picture.

  python -m tests.benchmarks.use
  python -m tests.benchmarks.use upstream=<folder of checkouts>

`pipe.conventions` counts those of `conventions()` that hold on a tiny pipeline of real parts; what this machine cannot
try is not counted. `pipe.seed` is the largest difference of the shipped model's picture of one seed over batches of 1,
3 and 8 and over all ways in: pipeline, images a prompt, `sample.py`, a pool of actors of Ray Data.
`eval.layout`, the one row that is measured where checkouts of the benchmarks' repositories are named, counts the
layouts that the code of their scorers accepts (`layouts.py` says which checkouts, and what accepting is).
"""

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

from cluster.config import ClusterConfig
from cluster.session import ray_session
from mos.checkpoints import SHAPES
from mos.images.decode import ImageLimits
from mos.model.exported import INDEX, SHARDS
from mos.sampling.config import SamplerConfig
from mos.sampling.noise import generators_of, seeded_noise
from mos.sampling.pipeline import MoSPipeline
from mos.workers import WorkerConfig
from pipelines.draw.pool import draw
from pipelines.draw.requests import Request
from tests.benchmarks.harness import CLONE, Row, keep_results, print_rows
from tests.benchmarks.layouts import CHECKOUTS, accepted
from tests.mos.sampling.tiny_pipeline import tiny_pipeline

SEED = 4
PROMPT = "a red circle left of a blue square"
STEPS, GUIDANCE = 20, 3.5
BATCHES = (1, 3, 8)
FEW = {"num_inference_steps": 3, "output_type": "np"}
Check = Callable[[MoSPipeline, Path], bool | None]
"""True if a convention holds, None if this machine cannot try it; gets a pipeline of its own and an empty folder."""


def drawn(
    pipe: MoSPipeline, prompt: object = "a ring", seeds: tuple[int, ...] = (1,), **settings: object
) -> np.ndarray:
    return pipe(prompt, generator=generators_of(seeds), **{**FEW, **settings}).images


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and float(np.abs(one - other).max()) <= 1e-5


def saved(pipe: MoSPipeline, folder: Path, **options: object) -> bool:
    """Saved and loaded, it draws the same."""
    loading = {"variant": options["variant"]} if "variant" in options else {}
    pipe.save_pretrained(folder, **options)
    return same(drawn(MoSPipeline.from_pretrained(folder, **loading)), drawn(pipe))


def of_dtype(pipe: MoSPipeline, folder: Path) -> bool:
    pipe.save_pretrained(folder)
    loaded = MoSPipeline.from_pretrained(folder, torch_dtype=torch.bfloat16)
    return {loaded.transformer.dtype, loaded.text_encoder.dtype} == {torch.bfloat16} and bool(drawn(loaded).std())


def moved(pipe: MoSPipeline, folder: Path) -> bool:
    half = pipe.to("cpu", torch.bfloat16)
    return half is pipe and pipe.dtype == torch.bfloat16 and pipe.device.type == "cpu"


def offloaded(pipe: MoSPipeline, folder: Path) -> bool | None:
    if not torch.cuda.is_available() or importlib.util.find_spec("accelerate") is None:
        return None
    before = drawn(pipe)
    pipe.enable_model_cpu_offload()
    return bool(np.abs(drawn(pipe) - before).max() < 0.01) and pipe.transformer.device.type == "cpu"


def with_vae(pipe: MoSPipeline) -> MoSPipeline:
    """The pipeline with an autoencoder of two levels, as the class begins."""
    torch.manual_seed(0)
    levels = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vae = AutoencoderKL(block_out_channels=(4, 4), **levels, latent_channels=12, norm_num_groups=1, sample_size=16)
    pipe.vae = vae.eval()
    return pipe


def tiled(pipe: MoSPipeline, folder: Path) -> bool:
    whole = drawn(with_vae(pipe), height=64, width=64)
    pipe.vae.enable_tiling()
    return 0 < float(np.abs(drawn(pipe, height=64, width=64) - whole).max()) < 0.5


def sliced(pipe: MoSPipeline, folder: Path) -> bool:
    whole = drawn(with_vae(pipe), ["a", "b"], (1, 2))
    pipe.vae.enable_slicing()
    return same(drawn(pipe, ["a", "b"], (1, 2)), whole)


def calls_back(pipe: MoSPipeline, folder: Path) -> bool:
    steps = []

    def zero(given: MoSPipeline, step: int, timestep: torch.Tensor, tensors: dict) -> dict:
        steps.append(step)
        return {"latents": torch.zeros_like(tensors["latents"])}

    return not drawn(pipe, callback_on_step_end=zero, output_type="latent").any() and steps == [0, 1, 2]


def interrupted(pipe: MoSPipeline, folder: Path) -> bool:
    steps = []

    def stop(given: MoSPipeline, step: int, timestep: torch.Tensor, tensors: dict) -> None:
        steps.append(step)
        given._interrupt = True

    drawn(pipe, callback_on_step_end=stop)
    return steps == [0]


def in_forms(pipe: MoSPipeline, folder: Path) -> bool:
    values = drawn(pipe)
    tensor, images, latents = (drawn(pipe, output_type=name) for name in ("pt", "pil", "latent"))
    near = np.abs(np.asarray(images[0]) / 255 - values[0]).max() <= 0.5 / 255 + 1e-6
    return same(tensor.permute(0, 2, 3, 1).numpy(), values) and bool(near) and latents.shape == (1, 12, 8, 8)


def one_generator(pipe: MoSPipeline, folder: Path) -> bool:
    one, two = (pipe(["a ring"] * num, generator=torch.Generator().manual_seed(1), **FEW).images for num in (1, 2))
    return same(one[0], two[0]) and not same(two[0], two[1])


def of_states(pipe: MoSPipeline, folder: Path) -> bool:
    positive, negative = pipe.encode_prompt("a ring")
    return same(drawn(pipe, None, prompt_embeds=positive, negative_prompt_embeds=negative), drawn(pipe))


def shows_progress(pipe: MoSPipeline, folder: Path) -> bool:
    with (folder / "bar").open("w+") as file:
        pipe.set_progress_bar_config(file=file)
        drawn(pipe)
        file.seek(0)
        return "3/3" in file.read()


def fetched(pipe: MoSPipeline, folder: Path) -> bool | None:
    """From a repository of the hub at a commit: there is none to fetch here."""
    return None


def conventions() -> Mapping[str, Check]:
    red = Image.new("RGB", (32, 32), "red")
    return {
        "save_pretrained, from_pretrained, a folder": lambda pipe, folder: saved(pipe, folder),
        "from_pretrained, a hub id at a revision": fetched,
        "torch_dtype": of_dtype,
        "variant": lambda pipe, folder: saved(pipe, folder, variant="ema"),
        "sharded safetensors": lambda pipe, folder: (
            saved(pipe, folder, max_shard_size="20KB") and (folder / SHARDS).is_file()
        ),
        "model_index.json": lambda pipe, folder: saved(pipe, folder) and (folder / INDEX).is_file(),
        "to": moved,
        "enable_model_cpu_offload": offloaded,
        "vae tiling": tiled,
        "vae slicing": sliced,
        "callback_on_step_end": calls_back,
        "output_type": in_forms,
        "generator, one": one_generator,
        "generator, a list": lambda pipe, _: same(drawn(pipe, ["a", "a ring"], (0, 1))[1], drawn(pipe)[0]),
        "latents": lambda pipe, _: same(
            pipe("a ring", latents=seeded_noise([1], (12, 8, 8)), **FEW).images, drawn(pipe)
        ),
        "prompt_embeds": of_states,
        "negative_prompt": lambda pipe, _: not same(drawn(pipe, negative_prompt="a star"), drawn(pipe)),
        "num_images_per_prompt": lambda pipe, _: same(
            drawn(pipe, seeds=(0, 1), num_images_per_prompt=2)[1:], drawn(pipe)
        ),
        "height": lambda pipe, _: drawn(pipe, height=24).shape == (1, 24, 16, 3),
        "width": lambda pipe, _: drawn(pipe, width=24).shape == (1, 16, 24, 3),
        "guidance_scale": lambda pipe, _: not same(drawn(pipe, guidance_scale=2.0), drawn(pipe)),
        "guidance_rescale": lambda pipe, _: not same(drawn(pipe, guidance_rescale=0.7), drawn(pipe)),
        "image": lambda pipe, _: not same(drawn(pipe, image=red), drawn(pipe)),
        "progress bar": shows_progress,
        "interrupt": interrupted,
    }


def held() -> dict[str, bool | None]:
    """Whether each convention holds."""
    found = {}
    for name, check in conventions().items():
        with tempfile.TemporaryDirectory() as folder:
            outcome = check(tiny_pipeline(), Path(folder))
        found[name] = None if outcome is None else bool(outcome)
    return found


def seed_differences() -> dict[str, float]:
    """Largest distance from the picture drawn alone, in 1/255, by way."""
    pipe = MoSPipeline.from_pretrained(SHAPES)
    pipe.set_progress_bar_config(disable=True)
    settings = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "output_type": "np"}
    alone = pipe(PROMPT, generator=generators_of([SEED]), **settings).images[0]
    others = [f"{number} green stars" for number in range(max(BATCHES))]
    found = {}
    for num in BATCHES:
        seeds = generators_of(range(SEED, SEED + num))
        found[f"pipeline, batch of {num}"] = pipe([PROMPT, *others[1:num]], generator=seeds, **settings).images[0]
        seeds = generators_of(range(SEED - num + 1, SEED + 1))
        found[f"pipeline, {num} images a prompt"] = pipe(
            PROMPT, generator=seeds, num_images_per_prompt=num, **settings
        ).images[-1]
        found[f"sample.py, batch of {num}"] = _by_script(num)
        found[f"pool, batch of {num}"] = _by_pool(num)
    return {way: 255 * float(np.abs(picture - alone).max()) for way, picture in found.items()}


def _by_script(num: int) -> np.ndarray:
    with tempfile.TemporaryDirectory() as root:
        settings = (f"prompt={PROMPT}", f"export={SHAPES}", f"seed={SEED}", f"images_per_prompt={num}", f"root={root}")
        sampler = (f"sampler.steps={STEPS}", f"sampler.guidance={GUIDANCE}")
        command = [sys.executable, "pipelines/sample.py", *settings, *sampler]
        subprocess.run(command, check=True, cwd=CLONE, stdout=subprocess.DEVNULL)
        (path,) = Path(root).glob("images/*/00000.png")
        with Image.open(path) as image:
            return np.asarray(image) / 255


def _by_pool(num: int) -> np.ndarray:
    requests = [Request("edit", PROMPT, SEED + number, 64, 64) for number in range(num)]
    sampler = SamplerConfig(steps=STEPS, guidance=GUIDANCE)
    options = {"pool": WorkerConfig(), "batch_size": num, "label": "use", "limits": ImageLimits()}
    with ray_session(ClusterConfig()):
        return np.asarray(draw(requests, {"edit": str(SHAPES)}, sampler, **options)[0]) / 255


def rows() -> list[Row]:
    """Both figures; what each is made of is printed."""
    found, differences = held(), seed_differences()
    for name, outcome in found.items():
        print(f"{'not tried here' if outcome is None else 'holds' if outcome else 'FAILS':14} {name}")
    for way, difference in differences.items():
        print(f"{difference:14.4f} {way}")
    right = sum(bool(outcome) for outcome in found.values())
    worst = max(differences.values())
    return [
        Row("pipe.conventions", right, f"of {len(found)}", "all", len(found), right / len(found)),
        Row("pipe.seed", worst, "of 255", "the mark", 1.0, 1.0 / worst if worst else None, len(differences)),
    ]


def layout_rows(upstream: Path) -> list[Row]:
    """The layouts that are accepted; each is printed, and those without a checkout do not count."""
    found = accepted(upstream)
    for name, outcome in found.items():
        told = f"no checkout {CHECKOUTS[name]}" if outcome is None else "accepted" if outcome else "REFUSED"
        print(f"{told:26} {name}")
    right = sum(bool(outcome) for outcome in found.values())
    return [Row("eval.layout", right, f"of {len(found)}", "all", len(found), right / len(found))]


if __name__ == "__main__":
    named = [word.partition("=")[2] for word in sys.argv[1:] if word.startswith("upstream=")]
    measured = layout_rows(Path(named[0]).resolve()) if named else rows()
    print_rows("use", measured)
    print(keep_results("use", measured))

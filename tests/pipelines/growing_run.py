"""A run of a tiny tower whose samples grow while its first stage trains: curated and encoded without Ray."""

from dataclasses import asdict
from pathlib import Path

from mos.encoders.load import describe_codec, describe_tower
from pipelines.run.config import RunConfig, load_run
from pipelines.run.steps import Run
from pipelines.train.driver import prepare
from pipelines.train.job import StageJob, make_job
from tests.kills import COLOURS, encode_without_ray, make_run
from tests.samples import Pair, append_samples, picture

BEGAN_WITH, ADDED, STEPS = 10, 4, 26
SETTINGS = (
    "stage1.refresh=true",
    f"stage1.steps={STEPS}",
    "stage1.batch_size=2",
    "stage1.checkpoint_every=4",
    "stage1.log_every=1",
    "stage1.caption_dropout=0.3",
)


def finish_encode(config: RunConfig, num_samples: int) -> None:
    states, latents = encode_without_ray(config, num_samples)
    tables = {"states": asdict(states), "latents": asdict(latents)}
    spec = asdict(describe_tower(config.encode.tower)) | asdict(describe_codec(config.encode.vae))
    Run(config).step("encode").finish({"identity": f"encoded {num_samples}", **tables, **spec})


def begun(folder: Path, *overrides: str) -> tuple[RunConfig, StageJob]:
    """A stage that is about to begin with the first samples."""
    config = load_run(make_run(folder, BEGAN_WITH), (*SETTINGS, *overrides))
    finish_encode(config, BEGAN_WITH)
    job = make_job(Run(config).step("stage1"), Run(config))
    prepare(job, config)
    return config, job


def curate_more(config: RunConfig, buckets: tuple[str | None, ...] = ("32x32", None)) -> None:
    """Another picture in the source's folder, and another curation, of more samples."""
    Path(config.root, "pictures", "b.png").write_bytes(picture("blue"))
    pairs = [Pair(f"another {COLOURS[n]} circle", COLOURS[n], buckets=buckets) for n in range(ADDED)]
    samples = append_samples(Path(config.tables_folder()), pairs)
    Run(config).step("curate").finish({"identity": "more", "samples": asdict(samples)})
    finish_encode(config, BEGAN_WITH + ADDED)

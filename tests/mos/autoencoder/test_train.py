"""A tiny codec, trained by real gloo processes: as if unbroken however often stopped, and a codec that others load."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mos.autoencoder.config import CodecConfig
from mos.autoencoder.pictures import index_pictures
from mos.autoencoder.train import CodecJob, CodecState, train_codec
from mos.encoders.load import load_codec
from mos.encoders.vae import DiffusersConfig
from mos.images.decode import ImageLimits
from mos.images.pixels import prepare_image
from mos.training.metrics import read_metrics
from mos.training.optimizer import OptimizerConfig
from mos.training.stop import StopRequest
from tests.mos.training.gloo import run_ranks
from tests.samples import Pair, append_samples

CONFIG = CodecConfig(
    resolution=32,
    stride=4,
    latent_channels=4,
    width=8,
    blocks=1,
    steps=4,
    decoder_steps=3,
    batch_size=8,
    held_out=0.3,
    log_every=1,
    checkpoint_every=2,
    optimizer=OptimizerConfig(lr=1e-2, final_lr=1e-3, warmup_steps=2),
)
COLOURS = ("red", "green", "blue", "yellow", "pink", "white", "black", "orange")
CPU = torch.device("cpu")


@pytest.fixture
def job(tmp_path: Path) -> CodecJob:
    samples = append_samples(tmp_path, [Pair(colour, colour) for colour in COLOURS])
    (tmp_path / "codec").mkdir()
    return CodecJob(CONFIG, 0, samples, ImageLimits(), tmp_path / "codec")


def weights(job: CodecJob) -> dict[str, torch.Tensor]:
    return load_file(next((job.folder / "export").glob("*.safetensors")))


def elsewhere(job: CodecJob, name: str, **changed: int) -> CodecJob:
    folder = job.folder.with_name(name)
    folder.mkdir()
    return replace(job, folder=folder, config=job.config.model_copy(update=changed))


def stop_at(job: CodecJob, step: int) -> None:
    """Ask for the end from the beginning and again after each resumption, until so many steps are done."""
    request = StopRequest(job.folder)
    while not (lines := read_metrics(job.folder)) or lines[-1].step < step:
        request.ask()
        run_ranks(train_codec, 2, job, CPU)
        request.clear()


@pytest.mark.slow
def test_a_codec_stopped_in_both_parts_ends_as_if_unbroken(job: CodecJob):
    unbroken = elsewhere(job, "unbroken")
    run_ranks(train_codec, 2, unbroken, CPU)
    stop_at(job, 5)
    assert not (job.folder / "export").exists()
    run_ranks(train_codec, 2, job, CPU)
    ours, theirs = weights(job), weights(unbroken)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert [line.step for line in read_metrics(job.folder)] == list(range(1, 8))
    assert [line.loss for line in read_metrics(job.folder)] == [line.loss for line in read_metrics(unbroken.folder)]
    run_ranks(train_codec, 2, job, CPU)  # has nothing left to do
    assert all(torch.equal(weights(job)[name], theirs[name]) for name in theirs)


def test_the_export_is_a_codec_with_standard_latents(job: CodecJob):
    run_ranks(train_codec, 1, job, CPU)
    codec = load_codec(DiffusersConfig(path=str(job.folder / "export")))
    assert (codec.channels, codec.stride) == (4, 4)
    index = index_pictures(job.samples, 32, 0.3)
    data = job.samples.open().take(index.training["32x32"].tolist(), columns=["image"])["image"]
    images = torch.stack([prepare_image(image.as_py(), "32x32", job.limits) for image in data])
    by_channel = codec.encode(images).transpose(0, 1).flatten(1)
    torch.testing.assert_close(by_channel.mean(1), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(by_channel.std(1), torch.ones(4), atol=1e-3, rtol=0)
    report = json.loads((job.folder / "report.json").read_text())
    assert 0 < report["psnr_db_worst"] <= report["psnr_db"] < 100
    assert report["pictures"] == index.count()[1]
    assert (job.folder / "reconstructions.png").is_file()


def test_the_decoder_goes_on_alone(job: CodecJob):
    run_ranks(train_codec, 1, job, CPU)
    short = elsewhere(job, "short", decoder_steps=0)
    run_ranks(train_codec, 1, short, CPU)
    ours, theirs = weights(job), weights(short)
    same = {name for name in ours if torch.equal(ours[name], theirs[name])}
    assert same == {name for name in ours if name.startswith("encoder")}


def test_pictures_come_back_better_after_more_steps(job: CodecJob):
    few, many = elsewhere(job, "few", steps=1, decoder_steps=0), elsewhere(job, "many", steps=60, decoder_steps=0)
    for one in (few, many):
        run_ranks(train_codec, 1, one, CPU)
    ratios = [json.loads((one.folder / "report.json").read_text())["psnr_db"] for one in (few, many)]
    assert ratios[1] > ratios[0] + 3


def test_a_checkpoint_that_is_not_there_leaves_the_beginning(job: CodecJob):
    from mos.autoencoder.objective import build_autoencoder

    state = CodecState(build_autoencoder(CONFIG, 0))
    state.load(job.folder / "checkpoint.pt")
    assert (state.step, state.moments) == (0, None)

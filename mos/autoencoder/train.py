"""One rank of the codec's training: from its newest checkpoint to the end, or to where it is stopped."""

import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mos.autoencoder.config import CodecConfig
from mos.autoencoder.objective import CodecLoss, build_autoencoder, psnr, standardise
from mos.autoencoder.pictures import PictureIndex, Pictures, index_pictures
from mos.encoders.load import load_codec
from mos.encoders.vae import DiffusersConfig
from mos.files import written_whole
from mos.images.decode import ImageLimits
from mos.loader.prefetch import prefetch
from mos.tables.lance import TableVersion
from mos.training.metrics import StepMetrics, metrics_of
from mos.training.optimizer import learning_rate
from mos.training.stop import StopVote, stoppable

STATISTICS_PICTURES = 1024
"""Pictures whose latents settle the mean and deviation of each channel."""
JUDGED_PICTURES = 256
"""Held-out pictures that the reported figures are measured on, at most."""
SHOWN_PICTURES = 12
PREFETCH_BATCHES = 4

Report = Callable[[StepMetrics], None]


@dataclass(frozen=True)
class CodecJob:
    """All that a worker is told."""

    config: CodecConfig
    seed: int
    samples: TableVersion
    limits: ImageLimits
    folder: Path
    """Holds checkpoint.pt, metrics.jsonl, export/, report.json and reconstructions.png."""


@dataclass
class CodecState:
    """What a checkpoint holds: weights after so many steps, and the optimizer's moments."""

    vae: Any
    step: int = 0
    moments: dict[str, Any] | None = None
    """State of the optimizer; None at the beginning of a part."""

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        with written_whole(path) as partial:
            torch.save({"step": self.step, "vae": self.vae.state_dict(), "moments": self.moments}, partial)

    def load(self, path: Path) -> None:
        """Take over what `save` wrote, if it did."""
        if path.is_file():
            saved = torch.load(path, map_location="cpu", weights_only=True)
            self.step, self.moments = saved["step"], saved["moments"]
            self.vae.load_state_dict(saved["vae"])


def train_codec(job: CodecJob, device: torch.device) -> None:
    """Train both parts of `CodecConfig`; at the end rank 0 exports the autoencoder and measures it."""
    config = job.config
    index = index_pictures(job.samples, config.resolution, config.held_out)
    pictures = Pictures(job.samples, job.limits, index, job.seed)
    state = CodecState(build_autoencoder(config, job.seed).to(device))
    state.load(job.folder / "checkpoint.pt")
    with metrics_of(job.folder, state.step) as report, stoppable(job.folder) as vote, closing(vote):
        if state.step < config.steps and _train_part(job, state, pictures, (0, config.steps), report, vote):
            standardise(state.vae, _latents(state.vae, pictures, index, device))
            _save(job, state)
        if config.steps <= state.step < config.total_steps:
            state.vae.encoder.requires_grad_(False)
            _train_part(job, state, pictures, (config.steps, config.total_steps), report, vote)
        _save(job, state)
    if state.step == config.total_steps and dist.get_rank() == 0:
        export_codec(job, state.vae, pictures, index)
    dist.barrier()


def _train_part(
    job: CodecJob, state: CodecState, pictures: Pictures, bounds: tuple[int, int], report: Report, vote: StopVote
) -> bool:
    """Updates up to `bounds[1]` with an optimizer of their own; False where the gang is stopped before."""
    config, (first, last) = job.config, bounds
    device = state.vae.device
    rank, num_ranks = dist.get_rank(), dist.get_world_size()
    model: nn.Module = CodecLoss(state.vae, config)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    settings = config.optimizer
    optimizer = torch.optim.AdamW(trained, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay)
    if state.moments is not None:
        optimizer.load_state_dict(state.moments)
    if num_ranks > 1:
        model = DistributedDataParallel(model)

    def build(step: int) -> tuple[Tensor, Tensor]:
        share = pictures.batch(step, config.batch_size, rank, num_ranks)
        return share, _noise(job, step, share, rank, num_ranks)

    waited, since, since_step = 0.0, time.perf_counter(), state.step
    with closing(prefetch(build, range(state.step, last), PREFETCH_BATCHES)) as batches:
        while state.step < last:
            asked = time.perf_counter()
            batch, noise = next(batches)
            waited += time.perf_counter() - asked
            rate = learning_rate(settings, state.step - first, last - first)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = model(batch.to(device).float() / 127.5 - 1, noise.to(device))
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(trained, settings.clip_norm)
            optimizer.step()
            state.step += 1
            if state.step % config.log_every == 0 or state.step == last:
                seconds = time.perf_counter() - since
                speed = (state.step - since_step) * config.batch_size / seconds
                report(StepMetrics(state.step, 0, float(loss), rate, float(norm), speed, waited / seconds, 0))
                waited, since, since_step = 0.0, time.perf_counter(), state.step
            stopped = vote.is_settled()
            if state.step < last and (stopped or state.step % config.checkpoint_every == 0):
                state.moments = optimizer.state_dict()
                _save(job, state)
            if stopped and state.step < last:
                return False
    state.moments = None
    return True


def export_codec(job: CodecJob, vae: Any, pictures: Pictures, index: PictureIndex) -> None:
    """Write `export/`, a folder that `encode.vae` can name, and what it does to held-out pictures."""
    from mos.sampling.pictures import to_images
    from mos.sampling.preview import picture_grid

    export = job.folder / "export"
    vae.to(memory_format=torch.contiguous_format).save_pretrained(export, safe_serialization=True)
    codec = load_codec(DiffusersConfig(path=str(export)))
    ratios: list[Tensor] = []
    shown: list[Image] = []
    left = JUDGED_PICTURES
    for bucket, rows in sorted(index.held_out.items(), key=lambda item: -len(item[1])):
        for start in range(0, min(left, len(rows)), job.config.batch_size):
            originals = pictures.read(rows[start : start + job.config.batch_size], bucket)
            returned = codec.decode(codec.encode(originals))
            ratios.append(psnr(returned, originals))
            if not shown:
                shown = [
                    image for pair in zip(to_images(originals), to_images(returned), strict=True) for image in pair
                ]
        left -= min(left, len(rows))
    ratio = torch.cat(ratios)
    picture_grid(shown[: 2 * SHOWN_PICTURES]).save(job.folder / "reconstructions.png")
    figures = {
        "psnr_db": float(ratio.mean()),
        "psnr_db_worst": float(ratio.min()),
        "pictures": len(ratio),
        "num_params": sum(parameter.numel() for parameter in vae.parameters()),
        "bytes": sum(path.stat().st_size for path in export.iterdir()),
    }
    with written_whole(job.folder / "report.json") as partial:
        partial.write_text(json.dumps(figures, indent=1), encoding="utf-8")


@torch.no_grad()
def _latents(vae: Any, pictures: Pictures, index: PictureIndex, device: torch.device) -> Tensor:
    """Latents, in one row of cells, of pictures to train on; the same on every rank."""
    found = []
    for bucket, rows in index.training.items():
        share = -(-STATISTICS_PICTURES * len(rows) // index.count()[0])
        images = pictures.read(rows[:share], bucket).to(device).float() / 127.5 - 1
        found.append(vae.encode(images).latent.transpose(0, 1).flatten(1))
    latents = torch.cat(found, dim=1)  # channels cells
    dist.broadcast(latents, 0)
    return latents[None, :, :, None]


def _noise(job: CodecJob, step: int, share: Tensor, rank: int, num_ranks: int) -> Tensor:
    """Unit Gaussian noise of a rank's share of a step: of each picture the same at any number of ranks."""
    config = job.config
    height, width = (side // config.stride for side in share.shape[-2:])
    generator = torch.Generator().manual_seed(job.seed * 1_000_003 + step)
    noise = torch.randn(config.batch_size, config.latent_channels, height, width, generator=generator)
    return noise[rank * config.batch_size // num_ranks : (rank + 1) * config.batch_size // num_ranks]


def _save(job: CodecJob, state: CodecState) -> None:
    if dist.get_rank() == 0:
        state.save(job.folder / "checkpoint.pt")

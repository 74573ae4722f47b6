"""The codec step as its script runs it, on a real Ray: a codec that the next step encodes with."""

from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import pytest

from mos.errors import UserError
from pipelines import codec, encode
from pipelines.run.config import RunConfig, load_run
from pipelines.run.steps import Run
from tests.pipelines.tiny_run import tiny_config
from tests.samples import Pair, append_samples

COLOURS = ("red", "green", "blue", "yellow", "pink", "white", "black", "orange")
CODEC = (
    "codec={resolution=32, stride=4, latent_channels=12, width=12, blocks=1, steps=3, decoder_steps=2, batch_size=4, "
    "held_out=0.3}"
)
ARGS = Namespace(force=False)


def curated(folder: Path, *overrides: str) -> RunConfig:
    (folder / "pictures").mkdir()
    config = load_run(tiny_config(folder, "cluster.train={num=2}", *overrides))
    samples = append_samples(Path(config.tables_folder()), [Pair(colour, colour) for colour in COLOURS])
    Run(config).step("curate").finish({"identity": "samples", "samples": asdict(samples)})
    return config


@pytest.mark.slow
def test_a_trained_codec_encodes_the_pictures(tmp_path: Path, local_ray: None, capsys: pytest.CaptureFixture[str]):
    config = curated(tmp_path, CODEC, "model.patch=1", "curate.token_px=4")
    with pytest.raises(UserError, match=r"run `python pipelines/codec.py"):
        Run(config).step("encode")
    codec.main(Run(config), ARGS)
    outputs = Run(config).require("codec").outputs
    assert "held-out pictures (worst" in capsys.readouterr().out
    assert 0 < outputs["psnr_db"] < 100
    codec.main(Run(config), ARGS)
    assert "already finished" in capsys.readouterr().out
    named = load_run(tmp_path / "run.toml", (f"encode.vae={{type='diffusers', path='{outputs['export']}'}}",))
    encode.main(Run(named), ARGS)
    encoded = Run(named).require("encode").outputs
    assert (encoded["channels"], encoded["stride"], encoded["failed"]) == (12, 4, 0)
    assert encoded["codec_id"].startswith("diffusers-")
    assert encoded["latents"]["rows"] == len(COLOURS)


def test_a_run_without_the_section_has_no_such_step(tmp_path: Path):
    with pytest.raises(UserError, match=r"has no \[codec\] section"):
        codec.main(Run(curated(tmp_path)), ARGS)


def test_a_batch_that_workers_cannot_share_is_refused_before_they_start(tmp_path: Path):
    with pytest.raises(
        UserError, match=r"codec\.batch_size = 4 is not a multiple of cluster\.train\.num = 3: set it to 6"
    ):
        codec.main(Run(curated(tmp_path, CODEC, "cluster.train={num=3}")), ARGS)

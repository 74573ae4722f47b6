import re

from mos.autoencoder.config import CodecConfig
from mos.evaluation.card import codec_card

FIGURES = {"psnr_db": 34.26, "psnr_db_worst": 27.0, "pictures": 256, "num_params": 412_345, "bytes": 1_700_000}


def test_the_card_of_a_codec_has_its_figures_and_says_how_to_use_it():
    config = CodecConfig(resolution=64, stride=8, latent_channels=8, steps=500, decoder_steps=70, batch_size=32)
    card = codec_card("codec", "2 CPU cores", config, FIGURES, 0.75)
    assert card.startswith("---\nlicense: ")
    text = " ".join(card.split())
    for part in ("8 x 8 px", "8 channels", "0.41M parameters", "1.62 MiB", "| 34.3 |", "| 27.0 |", "256 pictures"):
        assert part in text
    assert 'vae = { type = "shapes" }' in text
    assert "500 steps of 32 pictures for encoder and decoder, 70 for the decoder alone" in text
    assert "0.8 hours on 2 CPU cores" in text
    assert not re.search(r"{[{%]|None", card)

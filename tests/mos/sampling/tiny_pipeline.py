"""A pipeline of real parts that draws in a moment."""

from mos.encoders.load import load_tower_model, load_tower_tokenizer
from mos.encoders.pixel_autoencoder import PixelAutoencoder
from mos.encoders.understanding import MiniLMConfig
from mos.model.mos import MoS
from mos.sampling.parts import euler_scheduler
from mos.sampling.pipeline import MoSPipeline
from mos.sampling.transformer import MoSTransformer
from tests.mos.sampling.tiny_export import random_model, run_of


def tiny_pipeline(model: MoS | None = None, **settings: object) -> MoSPipeline:
    """Of 16 px, on the embedded MiniLM and pixels; draws without a bar."""
    pipe = MoSPipeline(
        transformer=MoSTransformer.of(model or random_model()),
        scheduler=euler_scheduler(),
        vae=PixelAutoencoder(),
        text_encoder=load_tower_model(MiniLMConfig()),
        tokenizer=load_tower_tokenizer(MiniLMConfig()),
        **{"run": run_of(16), **settings},
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe

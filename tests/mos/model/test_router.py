"""What the router's logits depend on, and what they must not depend on."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from mos.model.fusion import RoutedFusion
from mos.model.rope import image_positions
from mos.model.router import Router, RouterConfig

CONFIG = RouterConfig(dim=24, num_heads=2, ffn_dim=40)
SAMPLE = CONFIG.model_copy(update={"prediction": "sample"})
LENGTHS = (5, 2)


def random_router(config: RouterConfig = CONFIG) -> Router:
    """4 layers for 3 blocks, over states 20 wide and latent tokens 16 wide; nothing in it is zero."""
    generator = torch.Generator().manual_seed(0)
    router = Router(config, state_dim=20, latent_dim=16, num_layers=4, num_generation_blocks=3)
    with torch.no_grad():
        for parameter in router.parameters():
            parameter.normal_(0.1, 0.3, generator=generator)
    return router


def random_inputs() -> dict[str, Tensor]:
    """Two samples: contexts of 5 and 2 tokens, latents of 2 x 3."""
    generator = torch.Generator().manual_seed(1)
    return {
        "context": torch.randn(2, 5, 20, generator=generator),
        "mask": torch.arange(5) < torch.tensor(LENGTHS)[:, None],
        "timestep": torch.tensor([0.3, 0.8]),
        "latent": torch.randn(2, 6, 16, generator=generator),
        "positions": image_positions(2, 3, torch.device("cpu")),
    }


def change(router: Router, **inputs: Tensor) -> Tensor:
    """Largest change of a real token's logits [batch, ctx] when some inputs are others."""
    given = random_inputs()
    with torch.no_grad():
        difference = router(**given | inputs) - router(**given)
    return difference.abs().amax(dim=(2, 3)) * given["mask"]


@pytest.mark.parametrize("config", [CONFIG, SAMPLE], ids=["token", "sample"])
def test_every_token_gets_a_logit_for_each_layer_and_block(config):
    assert random_router(config)(**random_inputs()).shape == (2, 5, 4, 3)


@pytest.mark.parametrize("config", [CONFIG, SAMPLE], ids=["token", "sample"])
def test_a_context_is_read_with_the_timestep_and_the_latent_in_both_directions(config):
    router, given = random_router(config), random_inputs()
    first, last = given["context"].clone(), given["context"].clone()
    first[0, 0] += 1
    last[0, 4] += 1
    for context in (first, last):
        changed = change(router, context=context)
        assert changed[0].min() > 1e-4
        assert changed[1].max() == 0
    assert change(router, timestep=torch.tensor([0.3, 0.4]))[1, :2].min() > 1e-4
    assert change(router, latent=given["latent"].flip(0))[:, :2].min() > 1e-4


@pytest.mark.parametrize("prediction", ["token", "sample"])
@pytest.mark.parametrize("norms", ["separate", "shared"])
@pytest.mark.parametrize("inputs", [("context",), ("context", "latent"), ("context", "timestep")], ids="+".join)
def test_an_input_that_is_left_out_has_no_weights_and_is_not_read(inputs, norms, prediction):
    router = random_router(CONFIG.model_copy(update={"inputs": inputs, "norms": norms, "prediction": prediction}))
    assert {name.removesuffix("_in") for name, _ in router.named_children() if name.endswith("_in")} == set(inputs)
    others = {"timestep": torch.tensor([0.3, 0.4]), "latent": random_inputs()["latent"].flip(0)}
    for name, other in others.items():
        assert (change(router, **{name: other})[1, :2].min() > 1e-4) == (name in inputs)
    context = random_inputs()["context"]
    context[0, 4] += 1
    assert change(router, context=context)[0].min() > 1e-4


def test_shared_norms_are_one_behind_the_projections():
    router = random_router(CONFIG.model_copy(update={"norms": "shared"}))
    names = {name for name, _ in router.named_parameters() if "norm" in name and "." not in name.split("_norm")[0]}
    assert names == {"input_norm.weight", "head_norm.weight"}
    with torch.no_grad():
        router.input_norm.weight.fill_(1.0)
    sequence = router._sequence(*(random_inputs()[name] for name in ("context", "timestep", "latent")))
    torch.testing.assert_close(sequence.square().mean(-1), torch.ones(2, 5 + 1 + 6), atol=1e-3, rtol=0)


@pytest.mark.parametrize("config", [CONFIG, SAMPLE], ids=["token", "sample"])
def test_padding_is_not_read(config):
    router, given = random_router(config), random_inputs()
    noisy = torch.where(given["mask"][..., None], given["context"], 1e3)
    assert change(router, context=noisy).max() == 0
    short = {name: part[1:] for name, part in given.items() if name != "positions"}
    alone = short | {"context": short["context"][:, :2], "mask": short["mask"][:, :2], "positions": given["positions"]}
    with torch.no_grad():
        torch.testing.assert_close(router(**alone)[0], router(**given)[1, :2], atol=1e-5, rtol=1e-5)


def test_context_tokens_have_an_order_and_latent_tokens_a_place():
    router, given = random_router(), random_inputs()
    order = [4, 2, 0, 5, 3, 1]
    moved = {"latent": given["latent"][:, order], "positions": given["positions"][order]}
    assert change(router, **moved).max() < 1e-5
    assert change(router, latent=moved["latent"]).max() > 1e-3
    swapped = given["context"][:, [1, 0, 2, 3, 4]]
    assert change(router, context=swapped)[0, 2:].min() > 1e-4


def test_inputs_of_any_size_are_brought_to_one():
    """A tower's embeddings may be tiny; latents are as large as the weights that patchify them."""
    router, given = random_router(), random_inputs()
    assert change(router, context=given["context"] * 100, latent=given["latent"] * 100).max() < 1e-4


@pytest.mark.parametrize("config", [CONFIG, SAMPLE], ids=["token", "sample"])
def test_logits_are_read_at_the_tokens_or_at_the_one_that_stands_for_all(config):
    """Where blocks add nothing, each is what its place in the sequence came in with."""
    router, given = random_router(config), random_inputs()
    with torch.no_grad():
        for block in router.blocks:
            block.out.weight.zero_()
            block.ffn.down.weight.zero_()
    tokens = router.context_in(router.context_norm(given["context"]))
    read = router.cls.expand_as(tokens) if config is SAMPLE else tokens
    expected = router.head(router.head_norm(read)).view(2, 5, 4, 3)
    torch.testing.assert_close(router(**given), expected)


def test_sample_wise_routing_is_one_decision_for_all_tokens(tiny_config, tiny_inputs, build):
    router = tiny_config.fusion.router.model_copy(update={"prediction": "sample"})
    latents, timestep, context = tiny_inputs
    weights = build(tiny_config.model_copy(update={"fusion": RoutedFusion(router=router)})).route(
        latents, timestep, context
    )
    torch.testing.assert_close(weights.weights, weights.weights[:, :1].expand_as(weights.weights))
    per_token = build(tiny_config).route(latents, timestep, context).weights[0]
    assert (per_token[0] - per_token[1]).abs().max() > 1e-4


@pytest.mark.parametrize(
    "setting",
    [
        {"top_k": 0},
        {"epsilon": -0.1},
        {"epsilon": 1.5},
        {"prediction": "word"},
        {"num_blocks": 0},
        {"dims": 24},
        {"inputs": ["latent", "timestep"]},
        {"inputs": ["context", "context"]},
        {"norms": "none"},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(setting):
    with pytest.raises(ValidationError, match=next(iter(setting))):
        RouterConfig(dim=24, num_heads=2, ffn_dim=40, **setting)

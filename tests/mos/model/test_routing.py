import torch

from mos.model.context import Context
from mos.model.mixing import mix_context
from mos.model.routing import Exploration, Routing, route


def test_weights_are_a_softmax_over_layers_and_picks_are_its_largest():
    logits = torch.randn(2, 3, 5, 4)
    routing = route(logits, top_k=2)
    torch.testing.assert_close(routing.weights.sum(dim=2), torch.ones(2, 3, 4))
    for j in range(4):
        index = logits[:, :, :, j].topk(2, dim=-1).indices
        assert torch.equal(routing.index[:, :, j], index)
        kept = torch.softmax(logits[:, :, :, j], dim=-1).gather(-1, index)
        torch.testing.assert_close(routing.picked[:, :, j], kept)  # not renormalised


def test_exploring_tokens_take_random_layers_with_their_own_weights():
    logits = torch.randn(1, 2, 5, 3)
    take = torch.tensor([[[True, False, False], [False, False, True]]])
    layers = torch.tensor([4, 0]).expand(1, 2, 3, 2)
    greedy, routing = route(logits, 2), route(logits, 2, Exploration(take, layers))
    assert routing.index[0, 0, 0].tolist() == [4, 0]
    assert torch.equal(routing.picked[0, 0, 0], routing.weights[0, 0, [4, 0], 0])
    assert torch.equal(routing.index[~take], greedy.index[~take])


def test_mixing_is_the_weighted_sum_of_routable_layers_of_unit_size():
    states = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    index, picked = torch.randint(0, 5, (2, 3, 4, 2)), torch.rand(2, 3, 4, 2)
    routing = Routing(torch.rand(2, 3, 5, 4), index, picked)
    mixed = mix_context(Context.of(list(states * 100)), routing).unflatten(1, (2, 3))
    states = states / states.square().mean(-1, keepdim=True).sqrt()
    for j in range(4):
        for b in range(2):
            for c in range(3):
                expected = sum(picked[b, c, j, i] * states[b, c, 1 + index[b, c, j, i]] for i in range(2))
                torch.testing.assert_close(mixed[j, b, c], expected)


def test_gradient_reaches_every_logit_through_the_softmax():
    logits = torch.randn(1, 2, 5, 3, requires_grad=True)
    route(logits, 2).picked.square().sum().backward()
    assert (logits.grad != 0).all()

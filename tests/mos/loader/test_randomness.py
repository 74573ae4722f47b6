"""A sample's draws: of its key and their purpose alone, of the right shape and share."""

import numpy as np
import pytest
import torch

from mos.loader.randomness import (
    MAX_POSITION,
    ExplorationRule,
    Purpose,
    SampleKey,
    draw_noise,
    draw_uniform,
    drops_caption,
)

RULE = ExplorationRule(num_blocks=3, num_layers=5, top_k=2, epsilon=0.25)
KEYS = [SampleKey(7, position % 3, position) for position in range(2000)]


def test_every_part_of_a_key_and_every_purpose_has_a_stream_of_its_own():
    keys = [SampleKey(0, 0, 0), SampleKey(1, 0, 0), SampleKey(0, 1, 0), SampleKey(0, 0, 1), SampleKey(1, 1, 1)]
    keys += [SampleKey(2**64 - 1, 2**24 - 1, MAX_POSITION - 1), SampleKey(0, 0, MAX_POSITION - 1)]
    draws = {tuple(key.stream(purpose).random(2)) for key in keys for purpose in Purpose}
    assert len(draws) == len(keys) * len(Purpose)


def test_streams_do_not_run_into_each_other():
    """Noise of a large latent is a million numbers; the next purpose's stream begins far behind them."""
    noise = SampleKey(7, 1, 5).stream(Purpose.NOISE).random(10**6)
    assert not np.isin(SampleKey(7, 1, 5).stream(Purpose.TIMESTEP).random(10), noise).any()


@pytest.mark.parametrize("position", [-1, MAX_POSITION])
def test_a_position_beyond_an_epoch_would_be_another_epochs(position):
    with pytest.raises(AssertionError):
        SampleKey(0, 0, position).stream(Purpose.NOISE)


def test_draws_never_change_between_releases():
    """A run that goes on with a newer version draws what the older one would have drawn."""
    key = SampleKey(7, 1, 5)
    assert draw_uniform(key) == 0.677674220580907
    assert draw_noise(key, (3,)).tolist() == pytest.approx([-0.62162632, -0.37227091, 1.02336848], rel=1e-6)
    assert [drops_caption(key, share) for share in (0.9664, 0.9665)] == [False, True]
    take, layers = RULE.draw(key, 2)
    assert take.tolist() == [[True, False, False], [False, True, False]]
    assert layers.tolist() == [[[1, 3], [3, 0], [0, 3]], [[0, 2], [4, 1], [1, 0]]]


def test_noise_is_standard_normal():
    noise = torch.stack([draw_noise(key, (4, 3, 2)) for key in KEYS])
    assert noise.dtype == torch.float32
    assert noise.shape == (2000, 4, 3, 2)
    assert noise.mean() == pytest.approx(0, abs=0.02)
    assert noise.std() == pytest.approx(1, abs=0.02)


def test_timesteps_are_spread_evenly():
    draws = np.array([draw_uniform(key) for key in KEYS])
    assert ((draws >= 0) & (draws < 1)).all()
    assert np.histogram(draws, bins=4, range=(0, 1))[0] == pytest.approx(500, abs=70)


def test_captions_are_dropped_for_their_share_and_more_only_with_a_larger_one():
    dropped = {share: {key.position for key in KEYS if drops_caption(key, share)} for share in (0.0, 0.1, 0.3, 1.0)}
    assert [len(dropped[share]) for share in (0.0, 1.0)] == [0, 2000]
    assert len(dropped[0.1]) == pytest.approx(200, abs=50)
    assert dropped[0.1] < dropped[0.3]


def test_explored_layers_are_distinct_and_all_layers_come_up_alike():
    draws = [RULE.draw(key, 4) for key in KEYS[:500]]
    take, layers = (torch.stack(parts) for parts in zip(*draws, strict=True))
    assert (take.shape, layers.shape) == ((500, 4, 3), (500, 4, 3, 2))
    assert take.float().mean() == pytest.approx(0.25, abs=0.02)
    assert (layers[..., 0] != layers[..., 1]).all()
    for pick in (0, 1):
        assert layers[..., pick].flatten().bincount(minlength=5).tolist() == pytest.approx([1200] * 5, abs=120)


@pytest.mark.parametrize(("epsilon", "share"), [(0.0, 0), (1.0, 1)])
def test_epsilon_of_0_explores_nowhere_and_of_1_everywhere(epsilon, share):
    take, _ = ExplorationRule(num_blocks=3, num_layers=5, top_k=2, epsilon=epsilon).draw(KEYS[0], 50)
    assert take.float().mean() == share


def test_as_many_picks_as_layers_are_all_of_them():
    _, layers = ExplorationRule(num_blocks=2, num_layers=4, top_k=4, epsilon=0.5).draw(KEYS[0], 6)
    assert torch.equal(layers.sort().values, torch.arange(4).expand(6, 2, 4))

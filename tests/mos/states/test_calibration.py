import pytest
import torch

from mos.states.calibration import LEAST_RATIO, MAX_MASSIVE, Calibration, CalibrationSample
from tests.mos.states.towers_like import learn, random_states


def test_mean_and_deviation_are_those_of_all_tokens_together() -> None:
    contexts = [random_states(length, seed=length) for length in (3, 50, 11)]
    learned = learn(*contexts)
    tokens = torch.cat(contexts).float()
    torch.testing.assert_close(learned.mean.float(), tokens.mean(dim=0), atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(learned.std.float(), tokens.std(dim=0, correction=0), atol=1e-2, rtol=1e-2)


def test_planted_massive_channels_are_found_and_no_others() -> None:
    assert learn(random_states(200)).massive.shape == (3, 0)
    found = learn(*(random_states(50, massive=(70, 5), seed=seed) for seed in range(4)))
    assert found.massive.tolist() == [[5, 70]] * 3
    many = learn(*(random_states(50, massive=tuple(range(9)), seed=seed) for seed in range(4)))
    assert many.massive.shape == (3, MAX_MASSIVE)


def test_a_constant_channel_keeps_a_usable_scale() -> None:
    states = random_states(100)
    states[..., 3] = 0.5
    learned = learn(states)
    assert (learned.std[:, 3] > 0.9 * LEAST_RATIO * learned.std.float().median(dim=1).values).all()
    assert learn(torch.ones(4, 2, 8, dtype=torch.bfloat16)).std.gt(0).all()


def test_bytes_and_digest_are_those_of_the_values() -> None:
    one, same = (learn(random_states(20, massive=(4,))) for _ in range(2))
    assert one.to_bytes() == same.to_bytes()
    back = Calibration.from_bytes(one.to_bytes())
    assert back.digest == one.digest
    assert torch.equal(back.massive, one.massive)
    assert learn(random_states(20, massive=(4,), seed=1)).digest != one.digest


def test_nothing_teaches_nothing() -> None:
    with pytest.raises(ValueError, match="at least one context"):
        CalibrationSample().learn()

import torch

from mos.kernels.rms_norm.reference import rotate
from mos.model.layers import RMSNorm, timestep_embedding
from mos.model.patchify import patchify, unpatchify
from mos.model.rope import image_positions, rotary_angles


def test_rms_norm_has_unit_mean_square():
    x = 7 * torch.randn(3, 5, 64)
    torch.testing.assert_close(RMSNorm(64)(x).square().mean(-1), torch.ones(3, 5), atol=1e-4, rtol=0)


def test_rotation_depends_on_relative_position_alone():
    q, k = torch.randn(1, 1, 1, 16, dtype=torch.float64), torch.randn(1, 1, 1, 16, dtype=torch.float64)

    def score(p, r):
        angles = rotary_angles(torch.tensor([p, r]), 16).double()
        return (rotate(q, angles[:1]) * rotate(k, angles[1:])).sum()

    torch.testing.assert_close(score([1.0, 2.0], [4.0, 1.0]), score([3.0, 7.0], [6.0, 6.0]), atol=1e-5, rtol=0)
    assert abs(score([1.0, 2.0], [4.0, 1.0]) - score([1.0, 2.0], [4.0, 2.0])) > 1e-3


def test_positions_are_centred_and_row_major():
    positions = image_positions(2, 3, torch.device("cpu"))
    assert positions.tolist() == [[-0.5, -1], [-0.5, 0], [-0.5, 1], [0.5, -1], [0.5, 0], [0.5, 1]]


def test_patches_round_trip_in_row_order():
    x = torch.arange(2 * 3 * 4 * 6.0).view(2, 3, 4, 6)
    tokens = patchify(x, 2)
    assert tokens.shape == (2, 6, 12)
    assert torch.equal(tokens[0, 1], x[0, :, :2, 2:4].flatten())
    assert torch.equal(unpatchify(tokens, 2, 4, 6), x)


def test_timestep_embedding_tells_times_apart():
    t = torch.linspace(0, 1, 101)
    e = timestep_embedding(t, 256)
    distance = torch.cdist(e, e) + 100 * torch.eye(101)
    assert distance.min() > 0.1

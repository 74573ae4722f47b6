import torch

from mos.flow.path import interpolate, velocity, velocity_to_data


def test_ends_are_data_at_0_and_noise_at_1():
    z0, z1 = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    torch.testing.assert_close(interpolate(z0, z1, torch.zeros(2)), z0)
    torch.testing.assert_close(interpolate(z0, z1, torch.ones(2)), z1)


def test_velocity_is_the_derivative_of_the_path():
    z0, z1 = torch.randn(4, 7, dtype=torch.float64), torch.randn(4, 7, dtype=torch.float64)
    t = torch.rand(4, dtype=torch.float64)
    _, slope = torch.func.jvp(lambda t: interpolate(z0, z1, t), (t,), (torch.ones_like(t),))
    torch.testing.assert_close(slope, velocity(z0, z1))


def test_the_data_end_is_recovered_from_velocity():
    z0, z1, t = torch.randn(4, 3, 2), torch.randn(4, 3, 2), torch.rand(4)
    z_t, v = interpolate(z0, z1, t), velocity(z0, z1)
    torch.testing.assert_close(velocity_to_data(z_t, v, t), z0)

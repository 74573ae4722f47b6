import pytest

from tests.benchmarks.decoding import differences, odd_pictures, trained


@pytest.mark.slow
def test_drawing_sees_a_picture_to_edit_as_training_does() -> None:
    found = differences()
    assert len(found) >= 40
    assert {name: ways for name, ways in found.items() if any(ways.values())} == {}


def test_the_odd_pictures_are_odd() -> None:
    """A comparison of pictures that all look alike, or are all refused, would find nothing."""
    seen = {name: trained(data) for name, data in odd_pictures().items()}
    taken = {name: pixels for name, pixels in seen.items() if pixels is not None}
    assert len(taken) >= 30
    plain = taken["plain png"].int()
    for name in ("display p3 png", "linear rgb", "alpha", "grey", "palette with alpha", "orientation 6"):
        assert (taken[name].int() - plain).abs().max() > 8, name

import pytest

from tests.benchmarks.decoding import differences


@pytest.mark.slow
def test_training_and_drawing_see_the_same_picture_whatever_it_is():
    found = differences()
    assert len(found) >= 40
    assert {picture: ways for picture, ways in found.items() if any(ways.values())} == {}

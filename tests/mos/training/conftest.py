import pytest

from tests.mos.training.gloo import process_group


@pytest.fixture
def group(tmp_path_factory):
    """A process group of this process alone."""
    with process_group(0, 1, tmp_path_factory.mktemp("group") / "rendezvous"):
        yield

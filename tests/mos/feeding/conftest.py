from pathlib import Path

import pytest

from mos.feeding.queue import StateQueue
from tests.mos.feeding.queues import new_queue


@pytest.fixture
def queue(tmp_path: Path) -> StateQueue:
    return new_queue(tmp_path / "queue.lance")

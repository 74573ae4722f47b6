from pathlib import Path

import pytest

from tests.towers import save_llama


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LlamaModel of 3 layers, width 32; copy it before you change it."""
    return save_llama(tmp_path_factory.mktemp("llama"))

from pathlib import Path

import pytest

from mos.tables.lance import TableVersion, create_table
from tests.mos.tables.latent_rows import SCHEMA


@pytest.fixture
def table(tmp_path: Path) -> TableVersion:
    """A latents table without rows."""
    return create_table(str(tmp_path / "latents.lance"), SCHEMA)

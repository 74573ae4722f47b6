import pytest

from mos.loader.index import EncodedTables
from tests.mos.tables.sample_tables import make_tables


@pytest.fixture(scope="session")
def tables(tmp_path_factory) -> EncodedTables:
    """40 pairs and 10 edits, encoded; not to be written to."""
    return make_tables(tmp_path_factory.mktemp("tables"))

import pytest
from pydantic import ValidationError

from mos.exports.config import ExportConfig


def test_an_object_store_is_no_folder():
    with pytest.raises(ValidationError, match="name one that every node mounts"):
        ExportConfig(path="s3://bucket/export")
    assert ExportConfig(path="exports/best").path == "exports/best"

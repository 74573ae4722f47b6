"""What the tables promise: a column for each resolution, nulls where nothing was measured and nowhere else."""

import pyarrow as pa
import pytest

from mos.tables.blobs import is_payload
from mos.tables.lance import create_table, write_rows
from mos.tables.schema import LATENTS, REJECTS, STATES, samples_schema
from tests.mos.tables.sample_tables import RESOLUTION, sample

SAMPLES = samples_schema((RESOLUTION,))


def test_each_resolution_has_a_bucket_column_after_all_others() -> None:
    plain = samples_schema(())
    assert samples_schema((48, 16)).names == [*plain.names, "bucket_48", "bucket_16"]
    assert not [name for name in plain.names if name.startswith("bucket")]


@pytest.mark.parametrize("is_edit", [False, True])
def test_what_nobody_measured_may_be_missing(tmp_path, is_edit: bool) -> None:
    row = sample(0, is_edit) | {f"bucket_{RESOLUTION}": None}
    table = create_table(str(tmp_path / "samples.lance"), SAMPLES)
    assert len(write_rows(table.uri, pa.Table.from_pylist([row], schema=SAMPLES))) == 1


@pytest.mark.parametrize("column", ["sample_id", "task", "source", "image_hash", "caption", "aspect", "phash"])
def test_what_every_sample_has_may_not(tmp_path, column: str) -> None:
    table = create_table(str(tmp_path / "samples.lance"), SAMPLES)
    with pytest.raises((OSError, ValueError), match=column):
        write_rows(table.uri, pa.Table.from_pylist([sample(0, False) | {column: None}], schema=SAMPLES))


@pytest.mark.parametrize("schema", [STATES, LATENTS])
def test_encoded_rows_begin_with_their_key_and_have_one_payload(schema: pa.Schema) -> None:
    assert schema.names[0].endswith("_key")
    assert [field.name for field in schema if is_payload(field)] == ["payload"]
    assert not any(field.nullable for field in schema)


def test_pictures_are_no_payloads_so_that_rows_are_scanned_at_full_speed() -> None:
    assert not any(is_payload(field) for schema in (SAMPLES, REJECTS) for field in schema)

"""The states tables of one tower: how they are named, and which calibration a quantised one is written with.

A calibration is settled once for a tower, a format and a choice of layers, by whoever commits it first to an empty
table of its own; every later run and every run beside it takes it from there. Equal inputs are then encoded
into one table, whatever sample a run would have learned from.
"""

import pyarrow as pa

from mos.errors import UserError
from mos.fingerprint import fingerprint
from mos.states.packed import FormatName
from mos.states.payload import CODEC_VERSION, StateCodec
from mos.tables.lance import create_table, open_table, schema_metadata, table_exists
from mos.tables.schema import STATES


def states_schema(tower_id: str, codec: StateCodec) -> pa.Schema:
    """STATES of one tower in one codec."""
    return STATES.with_metadata({"tower": tower_id, **codec.metadata()})


def states_name(tower_id: str, codec: StateCodec) -> str:
    """Name of the table: tower, format, and 12 hex digits over calibration, layers and code version."""
    return f"{tower_id}-{codec.format}-{codec.identity}"


def calibration_name(tower_id: str, format: FormatName, layers: tuple[int, ...]) -> str:
    """Name of the table whose metadata are the calibration of such tables."""
    return f"{tower_id}-{format}-{fingerprint(codec=CODEC_VERSION, layers=layers)[:12]}"


def read_calibration(uri: str) -> StateCodec | None:
    """The codec settled at this uri; None where nothing is yet."""
    return codec_of(open_table(uri).schema, uri) if table_exists(uri) else None


def agree_on_calibration(uri: str, tower_id: str, codec: StateCodec) -> StateCodec:
    """Settle a codec unless another run was faster; returns the one that stands."""
    try:
        create_table(uri, states_schema(tower_id, codec))
    except UserError:
        standing = read_calibration(uri)
        if standing is None:
            raise
        return standing
    return codec


def codec_of(schema: pa.Schema, uri: str) -> StateCodec:
    """The codec that a states table was written with.

    Raises:
        UserError: another version of the code wrote it, or its calibration is damaged.
    """
    try:
        return StateCodec.from_metadata(schema_metadata(schema))
    except ValueError as error:
        raise UserError(f"table {uri} cannot be read: {error}; run pipelines/encode.py") from error

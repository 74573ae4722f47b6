import threading
from pathlib import Path

import pytest
import torch

from mos.errors import UserError
from mos.states.calibration import CalibrationSample
from mos.states.payload import StateCodec
from mos.tables.lance import create_table, open_table
from mos.tables.state_tables import (
    agree_on_calibration,
    calibration_name,
    codec_of,
    read_calibration,
    states_name,
    states_schema,
)


def learned(seed: int, format: str = "int8") -> StateCodec:
    sample = CalibrationSample()
    sample.add(torch.randn(20, 2, 64, generator=torch.Generator().manual_seed(seed)).bfloat16())
    return StateCodec(format, (0, 1), 64, sample.learn())


def test_a_table_tells_its_codec_on_any_store(tmp_path: Path) -> None:
    codec = learned(0)
    table = create_table(str(tmp_path / "states.lance"), states_schema("tower-1", codec))
    assert codec_of(table.open().schema, table.uri).identity == codec.identity


def test_names_differ_where_rows_would() -> None:
    codecs = [learned(0), learned(1), learned(0, "int4"), StateCodec("bf16", (0, 1), 64), StateCodec("bf16", (0,), 64)]
    names = {states_name(tower, codec) for tower in ("tower-1", "tower-2") for codec in codecs}
    assert len(names) == 10
    assert states_name("tower-1", codecs[0]) == f"tower-1-int8-{codecs[0].identity}"
    assert len({calibration_name("t", format, layers) for format in ("int8", "int4") for layers in ((0, 1), (0,))}) == 4


def test_a_table_of_another_tower_or_codec_is_refused(tmp_path: Path) -> None:
    uri = str(tmp_path / "states.lance")
    create_table(uri, states_schema("tower-1", learned(0)))
    create_table(uri, states_schema("tower-1", learned(0)))
    for tower, codec in (("tower-2", learned(0)), ("tower-1", learned(1)), ("tower-1", learned(0, "int4"))):
        with pytest.raises(UserError, match="is to be written"):
            create_table(uri, states_schema(tower, codec))


def test_the_first_claim_stands(tmp_path: Path) -> None:
    uri = str(tmp_path / "claim.lance")
    assert read_calibration(uri) is None
    assert agree_on_calibration(uri, "tower-1", learned(0)).identity == learned(0).identity
    assert agree_on_calibration(uri, "tower-1", learned(1)).identity == learned(0).identity
    standing = read_calibration(uri)
    assert standing is not None
    assert standing.identity == learned(0).identity


def test_runs_that_claim_at_once_agree(tmp_path: Path) -> None:
    for attempt in range(5):
        uri = str(tmp_path / f"claim-{attempt}.lance")
        settled: list[str] = []
        start = threading.Barrier(4)

        def run(seed: int, uri: str = uri, settled: list[str] = settled, start: threading.Barrier = start) -> None:
            codec = learned(seed)
            start.wait()
            settled.append(agree_on_calibration(uri, "tower-1", codec).identity)

        threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(settled) == 4
        assert set(settled) == {codec_of(open_table(uri).schema, uri).identity}


def test_a_damaged_calibration_is_refused(tmp_path: Path) -> None:
    schema = states_schema("tower-1", learned(0))
    other = states_schema("tower-1", learned(1)).metadata[b"calibration"]
    table = create_table(str(tmp_path / "s.lance"), schema.with_metadata(schema.metadata | {b"calibration": other}))
    with pytest.raises(UserError, match="cannot be read: the table's calibration does not have the sha256"):
        codec_of(table.open().schema, table.uri)

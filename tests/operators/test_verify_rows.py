"""Rows of finished tables against what their encoders give: the same to the last bit, or how far from it."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mos.encoders.encoding import EncodeConfig
from mos.encoders.load import describe_codec
from mos.encoders.understanding import LlamaConfig
from mos.errors import UserError
from mos.states.quality import QualityBound
from mos.tables.blobs import plain_schema
from mos.tables.encode_plan import plan_contexts, plan_latents
from mos.tables.lance import TableVersion, commit_fragments, latest_version
from operators import verify_rows
from operators.encode_latents import EncodeLatents
from operators.encode_states import EncodeStates
from operators.verify_rows import Drift
from tests.mos.tables.sample_tables import write
from tests.operators.encoding_blocks import LIMITS, calibrated_table, latents_table
from tests.samples import Pair, append_samples, views
from tests.towers import save_llama

PAIRS = [
    Pair("a red circle", "red", buckets=("32x32", "48x48")),
    Pair("a blue square", "blue", buckets=("32x32", None)),
    Pair("a green circle", "green", buckets=("24x40", None)),
]


@pytest.fixture
def config(tmp_path: Path) -> EncodeConfig:
    tower = LlamaConfig(path=str(save_llama(tmp_path / "tower")), dtype="float32")
    return EncodeConfig(tower=tower, quality=QualityBound(max_whitened_error=10, min_cosine=-1))


def encoded(config: EncodeConfig, folder: Path) -> dict:
    """Outputs of an encode step at 32 px."""
    samples = append_samples(folder, PAIRS)
    codec_id = describe_codec(config.vae).codec_id
    contexts, images = plan_contexts(samples, views(32), False), plan_latents(samples, views(32), codec_id)
    states, latents = calibrated_table(config, samples, contexts, folder), latents_table(config, folder)
    tables = {
        "samples": asdict(samples),
        "states": asdict(committed(states, EncodeStates(config, samples, states, LIMITS)(contexts))),
        "latents": asdict(committed(latents, EncodeLatents(config, samples, latents, LIMITS)(images))),
    }
    return {**tables, "sees_images": False, "codec_id": codec_id}


def committed(uri: str, encoded: Iterable[pa.Table]) -> TableVersion:
    [written] = encoded
    [row] = written.to_pylist()
    return commit_fragments(uri, [row["fragment"]], len(row["keys"]))


def verified(outputs: dict, config: EncodeConfig, resolution: int = 32) -> list[Drift]:
    seen = {str(number): asdict(view) for number, view in enumerate(views(resolution))}
    return verify_rows.verify_rows(outputs | {"views": seen}, config, LIMITS)


def with_first_payload(table: dict, change: Callable[[np.ndarray], np.ndarray], path: Path) -> dict:
    """A copy of a latents table whose first row holds other numbers."""
    stored = TableVersion(**table).open()
    rows = stored.scanner(blob_handling="all_binary").to_table().to_pylist()
    rows[0]["payload"] = change(np.frombuffer(rows[0]["payload"], np.float16)).astype(np.float16).tobytes()
    return asdict(write(path, pa.Table.from_pylist(rows, plain_schema(stored.schema))))


@pytest.mark.parametrize("format", ["bf16", "int8"])
def test_what_stands_as_it_was_written_has_not_drifted(config: EncodeConfig, tmp_path: Path, format: str) -> None:
    config = config.model_copy(update={"state_format": format})
    outputs = encoded(config, tmp_path)
    states, latents = verified(outputs, config)
    assert states == Drift(outputs["states"]["uri"], rows=4, identical=4, worst=0.0)
    assert latents == Drift(outputs["latents"]["uri"], rows=3, identical=3, worst=0.0)


@pytest.mark.parametrize(("factor", "error"), [(2, 0.5), (0.5, 1.0), (-1, 2.0), (np.nan, np.inf)])
def test_a_row_that_differs_is_measured_against_what_is_stored(
    config: EncodeConfig, tmp_path: Path, factor: float, error: float
) -> None:
    outputs = encoded(config, tmp_path)
    outputs["latents"] = with_first_payload(outputs["latents"], lambda row: row * factor, tmp_path / "other.lance")
    states, latents = verified(outputs, config)
    assert states.identical == states.rows
    assert (latents.uri, latents.rows, latents.identical) == (str(tmp_path / "other.lance"), 3, 2)
    assert latents.worst == pytest.approx(error, rel=1e-3)


def test_another_tower_drifts_in_every_row(config: EncodeConfig, tmp_path: Path) -> None:
    outputs = encoded(config, tmp_path)
    save_llama(tmp_path / "tower", seed=1)
    states, latents = verified(outputs, config)
    assert (states.identical, latents.identical) == (0, latents.rows)
    assert states.worst > 0.1


def test_of_a_large_table_a_sample_is_encoded(
    config: EncodeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = encoded(config, tmp_path)
    monkeypatch.setattr(verify_rows, "SAMPLE_ROWS", 2)
    assert [drift.rows for drift in verified(outputs, config)] == [2, 2]


def test_what_has_no_row_is_no_drift(config: EncodeConfig, tmp_path: Path) -> None:
    """At 48 px one sample asks for a caption that is there and for a latent that is not."""
    outputs = encoded(config, tmp_path)
    assert [drift.rows for drift in verified(outputs, config, resolution=48)] == [2, 0]


def test_tables_of_a_run_that_stores_no_states_are_verified(config: EncodeConfig, tmp_path: Path) -> None:
    outputs = encoded(config, tmp_path)
    samples = TableVersion(**outputs["samples"])
    empty = calibrated_table(config, samples, plan_contexts(samples, views(32), False), tmp_path / "empty")
    states, latents = verified(outputs | {"states": asdict(latest_version(empty))}, config)
    assert states == Drift(empty, rows=0, identical=0, worst=0.0)
    assert latents.identical == 3


@pytest.mark.parametrize("kind", ["states", "latents"])
def test_a_table_that_lost_a_file_is_named_with_the_remedy(config: EncodeConfig, tmp_path: Path, kind: str) -> None:
    outputs = encoded(config, tmp_path)
    uri = outputs[kind]["uri"]
    (pack,) = Path(uri, "data").rglob("*.blob")
    pack.unlink()
    with pytest.raises(UserError, match=rf"table {uri} is damaged, a file is missing .*{pack.name}: .*--force"):
        verified(outputs, config)


def test_a_line_tells_of_drift_and_of_none() -> None:
    same = Drift("t.lance", rows=7, identical=7, worst=0.0)
    assert same.describe() == "t.lance: 7 of 7 rows are encoded to the same values again, no drift"
    far = Drift("t.lance", rows=7, identical=5, worst=0.0123)
    assert far.describe().startswith("t.lance: 5 of 7 rows ")
    assert far.describe().endswith(", largest relative error of a row 1.23e-02")

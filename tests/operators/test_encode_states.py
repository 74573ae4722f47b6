"""The operator that writes hidden states, called as Ray Data would call it: one block in, its fragments out."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from mos.encoders.encoding import EncodeConfig
from mos.encoders.load import describe_tower, load_tower
from mos.encoders.understanding import Encoded, InternVLConfig, LlamaConfig
from mos.errors import UserError
from mos.images.decode import ImageLimits
from mos.states.calibration import Calibration
from mos.states.keys import context_key
from mos.states.payload import StateCodec
from mos.states.quality import QualityBound, QualityReport, check_quality, violation
from mos.tables.encode_plan import plan_contexts
from mos.tables.lance import TableVersion, commit_fragments, create_table, open_table
from mos.tables.state_tables import codec_of, states_schema
from operators.calibrate_states import CalibrateStates
from operators.encode_states import EncodeStates, Packed
from tests.operators.encoding_blocks import LIMITS, PAIRS, EncoderThatFails, calibrated_table, commit, set_first
from tests.samples import Pair, append_samples, views
from tests.towers import WORDS, plant_massive, save_internvl, save_llama


def encode_states(config: EncodeConfig, samples: TableVersion, tasks: pa.Table, folder: Path) -> tuple:
    uri = calibrated_table(config, samples, tasks, folder)
    return commit(uri, EncodeStates(config, samples, uri, LIMITS)(tasks))


@pytest.mark.parametrize("layers", [None, (0, 2, 6)])
def test_states_in_the_table_are_the_towers_own_bit_by_bit(tmp_path: Path, layers: tuple[int, ...] | None) -> None:
    config = EncodeConfig(layers=layers)
    samples = append_samples(tmp_path, PAIRS)
    rows, failures = encode_states(config, samples, plan_contexts(samples, views(32, 48), False), tmp_path)
    assert not failures
    assert len(rows) == 4
    held = config.held_layers(6)
    for text in ("a red circle", "make it red", ""):
        row = rows[context_key(text)]
        stored = StateCodec("bf16", held, 384).decode(row["payload"], row["num_tokens"])
        (alone,) = load_tower(config.tower).encode([text])
        assert torch.equal(stored, alone.states[:, held])


@pytest.mark.parametrize("format", ["int8", "int4"])
def test_quantised_rows_are_those_of_the_context_alone(tmp_path: Path, format: str) -> None:
    config = EncodeConfig(state_format=format)
    samples = append_samples(tmp_path, [Pair(f"{number} red circles and a star", "red") for number in range(40)])
    tasks = plan_contexts(samples, views(32), False)
    uri = str(tmp_path / "states.lance")
    rows, _ = encode_states(config, samples, tasks, tmp_path)
    codec = codec_of(open_table(uri).schema, uri)
    for text in ("7 red circles and a star", ""):
        row = rows[context_key(text)]
        (alone,) = load_tower(config.tower).encode([text])
        assert row["payload"] == codec.pack(codec.quantise(alone.states))


def test_beyond_the_bound_nothing_is_written(tmp_path: Path) -> None:
    strict = EncodeConfig(state_format="int4", quality=QualityBound(max_whitened_error=0.02))
    samples = append_samples(tmp_path, PAIRS)
    tasks = plan_contexts(samples, views(32, 48), False)
    uri = calibrated_table(strict, samples, tasks, tmp_path)
    (written,) = EncodeStates(strict, samples, uri, LIMITS)(tasks)
    (row,) = written.to_pylist()
    assert row["fragment"] is None
    assert row["keys"] == []
    with pytest.raises(UserError, match=r"^int4 states: layer 0 has a whitened error of 0\.\d+, above"):
        check_quality(QualityReport.from_json(row["quality"]), strict.quality, "int4")
    assert open_table(str(tmp_path / "states.lance")).count_rows() == 0
    assert not list((tmp_path / "states.lance").glob("data/*.lance"))


def test_quality_of_what_was_written_travels_with_the_fragment(tmp_path: Path) -> None:
    config = EncodeConfig(state_format="int8")
    samples = append_samples(tmp_path, PAIRS)
    tasks = plan_contexts(samples, views(32, 48), False)
    encode_states(config, samples, tasks, tmp_path)
    (written,) = EncodeStates(config, samples, str(tmp_path / "states.lance"), LIMITS)(tasks)
    (row,) = written.to_pylist()
    report = QualityReport.from_json(row["quality"])
    assert report.layers == tuple(range(7))
    assert all(0 < quality.whitened < 0.015 for quality in report.qualities)


@pytest.mark.parametrize("format", ["int8", "int4"])
@pytest.mark.parametrize(("save", "kind"), [(save_llama, LlamaConfig), (save_internvl, InternVLConfig)])
def test_towers_with_planted_massive_activations_stay_within_the_bound(
    tmp_path: Path, save: Callable[[Path], Path], kind: type[LlamaConfig | InternVLConfig], format: str
) -> None:
    tower = kind(path=str(plant_massive(save(tmp_path / "tower"))), dtype="float32")
    config = EncodeConfig(tower=tower, state_format=format)
    draw = random.Random(0)
    captions = [" ".join(draw.choices(WORDS, k=draw.randint(3, 12))) for _ in range(80)]
    references = ["blue" if place % 4 == 0 else None for place in range(80)]
    pairs = [Pair(caption, "red", reference=shown) for caption, shown in zip(captions, references, strict=True)]
    samples = append_samples(tmp_path, pairs)
    tasks = plan_contexts(samples, views(32), describe_tower(tower).sees_images)
    (row,) = CalibrateStates(config, samples, LIMITS)(tasks).to_pylist()
    calibration = Calibration.from_bytes(row["calibration"])
    assert all(17 in channels for channels in calibration.massive[1:-1].tolist())
    # Rows of 32 values: the errors of a row spread more than at a real tower's width, where 0.99 is the bound.
    check_quality(QualityReport.from_json(row["quality"]), QualityBound(min_cosine=0.98), format)


def test_a_tower_that_sees_images_gets_the_reference_of_an_edit(tmp_path: Path) -> None:
    tower = InternVLConfig(path=str(save_internvl(tmp_path / "internvl")), dtype="float32")
    config = EncodeConfig(tower=tower)
    samples = append_samples(tmp_path, PAIRS)
    rows, failures = encode_states(config, samples, plan_contexts(samples, views(32, 48), True), tmp_path)
    assert not failures
    assert len(rows) == 5
    shown, alone = (
        (row for key, row in rows.items() if key not in map(context_key, ("a red circle", "a broken picture", ""))),
        rows[context_key("")],
    )
    for row in shown:
        assert row["num_tokens"] > alone["num_tokens"]


def test_a_broken_reference_fails_alone(tmp_path: Path) -> None:
    samples = append_samples(tmp_path, [Pair("make it red", "red", reference="blue"), Pair("a red circle")])
    broken = ImageLimits(max_pixels=10)
    tower = InternVLConfig(path=str(save_internvl(tmp_path / "internvl")), dtype="bfloat16")
    config = EncodeConfig(tower=tower)
    spec = describe_tower(tower)
    codec = StateCodec("bf16", tuple(range(4)), 32)
    uri = create_table(str(tmp_path / "s.lance"), states_schema(spec.tower_id, codec)).uri
    rows, failures = commit(uri, EncodeStates(config, samples, uri, broken)(plan_contexts(samples, views(32), True)))
    assert set(rows) == {context_key("a red circle"), context_key("")}
    assert len(failures) == 2
    assert all("pixels" in reason for reason in failures.values())


@pytest.mark.parametrize("format", ["bf16", "int8", "int4"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e38])
def test_states_that_a_table_cannot_hold_are_refused_with_a_reason(tmp_path: Path, format: str, value: float) -> None:
    """bf16 holds 1e38; a quantised format has no scale for it."""
    config = EncodeConfig(state_format=format, quality=QualityBound(max_whitened_error=10, min_cosine=-1))
    samples = append_samples(tmp_path, PAIRS)
    tasks = plan_contexts(samples, views(32, 48), False)
    uri = calibrated_table(config, samples, tasks, tmp_path)
    operator = EncodeStates(config, samples, uri, LIMITS)
    operator._contexts.tower = EncoderThatFails(operator._contexts.tower, set_first(value))
    rows, failures = commit(uri, operator(tasks))
    refused = 0 if (format, value) == ("bf16", 1e38) else 1
    assert (len(rows), len(failures)) == (4 - refused, refused)
    assert all(reason.startswith("states_not_finite: ") for reason in failures.values())


def test_fragments_are_cut_where_they_would_be_too_many_bytes(tmp_path: Path) -> None:
    """Half of a fragment's bytes are the rows', the other half those of states that wait to be packed."""
    config = EncodeConfig(mb_per_fragment=1)
    samples = append_samples(tmp_path, [Pair(f"{number} red circles " * 20, "red") for number in range(24)])
    tasks = plan_contexts(samples, views(32), False)
    uri = calibrated_table(config, samples, tasks, tmp_path)
    written = [row for part in EncodeStates(config, samples, uri, LIMITS)(tasks) for row in part.to_pylist()]
    assert len(written) > 5
    assert all(row["num_bytes"] < 2**20 for row in written)
    assert all(QualityReport.from_json(row["quality"]) for row in written if row["quality"])
    keys = [key for row in written for key in row["keys"]]
    assert sorted(keys) == sorted(tasks.column("context_key").to_pylist())
    assert commit_fragments(uri, [row["fragment"] for row in written], 25).rows == 25


def test_a_violation_at_the_border_of_fragments_is_told_and_kept_out_with_its_own(tmp_path: Path) -> None:
    """Every context is compared; those whose states are changed for the worse are in the second half."""
    config = EncodeConfig(
        mb_per_fragment=1, state_format="int8", quality=QualityBound(max_whitened_error=0.2, min_cosine=0.5)
    )
    samples = append_samples(tmp_path, [Pair(f"{number:02d} red circles " * 20, "red") for number in range(24)])
    tasks = plan_contexts(samples, views(32), False)
    uri = calibrated_table(config, samples, tasks, tmp_path)
    operator = EncodeStates(config, samples, uri, LIMITS)
    worse = set(tasks.column("context_key").to_pylist()[12:])
    pack = operator._pack

    def pack_some_worse(key: str, context: Encoded, audit: bool) -> Packed:
        row, report = pack(key, context, audit=True)
        assert report is not None
        if key in worse:
            bad = tuple(replace(quality, min_cosine=-1.0) for quality in report.qualities)
            report = replace(report, qualities=bad)
        return row, report

    operator._pack = pack_some_worse
    written = [row for part in operator(tasks) for row in part.to_pylist()]
    for row in written:
        violated = violation(QualityReport.from_json(row["quality"]), config.quality) is not None
        assert violated == (row["fragment"] is None)
        assert not worse.intersection(row["keys"])
    assert sum(row["fragment"] is None for row in written) > 1

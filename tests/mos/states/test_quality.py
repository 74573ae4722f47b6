from dataclasses import replace

import pytest
import torch

from mos.errors import UserError
from mos.states.calibration import CalibrationSample
from mos.states.packed import PackedStates
from mos.states.payload import StateCodec
from mos.states.quality import QualityBound, QualityReport, check_quality, measure_quality, total
from mos.states.quantise import dequantise, quantise
from tests.mos.states.towers_like import random_states

LAYERS = (0, 2, 5)
STRICT = QualityBound(min_cosine=1.0)


def codec(format: str, massive: tuple[int, ...] = ()) -> StateCodec:
    sample = CalibrationSample()
    for seed in range(8):
        sample.add(random_states(40, massive=massive, seed=seed))
    return StateCodec(format, LAYERS, 96, sample.learn())


def measured(format: str, states: torch.Tensor, massive: tuple[int, ...] = ()) -> QualityReport:
    table = codec(format, massive)
    packed = table.unpack(table.pack(_quantised(table, states)), len(states))
    return measure_quality(states, packed, LAYERS)


def _quantised(table: StateCodec, states: torch.Tensor) -> PackedStates:

    return quantise(states, table.calibration, table.format)


@pytest.mark.parametrize("massive", [(), (7, 50)])
def test_both_formats_meet_the_default_bound_with_massive_tokens(massive: tuple[int, ...]) -> None:
    states = random_states(60, massive=massive, seed=77)
    for format, largest in (("int8", 0.015), ("int4", 0.12)):
        report = measured(format, states, massive)
        check_quality(report, QualityBound(), format)
        assert max(quality.whitened for quality in report.qualities) < largest


def test_massive_values_that_are_not_kept_aside_break_the_bound() -> None:
    sample = CalibrationSample()
    sample.add(random_states(300))
    ordinary = StateCodec("int4", LAYERS, 96, sample.learn())
    states = random_states(60, massive=(7, 50), seed=77)
    report = measure_quality(states, _quantised(ordinary, states), LAYERS)
    with pytest.raises(UserError, match=r"int4 states: layer 0 has a whitened error of 0\.1"):
        check_quality(report, QualityBound(), "int4")


def test_a_broken_bound_names_layer_value_and_remedy() -> None:
    report = measured("int4", random_states(60, seed=5))
    with pytest.raises(
        UserError, match=r"layer 0 .* 0\.0\d+, above encode.quality.max_whitened_error = 0.01; .* 'int8'"
    ):
        check_quality(report, QualityBound(max_whitened_error=0.01), "int4")
    with pytest.raises(UserError, match=r"layer 2 .* cosine 0\.9\d+, below encode.quality.min_cosine = 1"):
        check_quality(replace(report, layers=report.layers[1:], qualities=report.qualities[1:]), STRICT, "int4")
    with pytest.raises(UserError, match=r"set encode.state_format = 'bf16'"):
        check_quality(measured("int8", random_states(60)), QualityBound(max_whitened_error=1e-4), "int8")


def test_reports_of_parts_add_up_to_the_whole() -> None:
    states = random_states(60, seed=5)
    table = codec("int4")
    whole = measure_quality(states, _quantised(table, states), LAYERS)
    parts = [measure_quality(part, _quantised(table, part), LAYERS) for part in states.split(20)]
    added = total(QualityReport.from_json(part.to_json()) for part in parts)
    assert added is not None
    for one, two in zip(whole.qualities, added.qualities, strict=True):
        assert one.relative == pytest.approx(two.relative)
        assert one.whitened == pytest.approx(two.whitened)
        assert one.min_cosine == two.min_cosine
    assert total([]) is None
    assert whole.lines()[1].startswith("layer 2: relative error ")


def test_figures_are_what_they_say() -> None:
    states = random_states(30, seed=2)
    table = codec("int4")
    packed = _quantised(table, states)

    read, original = dequantise(packed).double(), states.double()
    quality = measure_quality(states, packed, LAYERS).qualities[1]
    assert quality.relative == pytest.approx(float((read - original)[:, 1].norm() / original[:, 1].norm()), rel=1e-4)
    cosine = torch.nn.functional.cosine_similarity(read[:, 1], original[:, 1], dim=-1).min()
    assert quality.min_cosine == pytest.approx(float(cosine), abs=1e-5)


def test_rows_of_zeros_count_as_equal_when_they_are() -> None:
    sample = CalibrationSample()
    sample.add(torch.zeros(4, 3, 96, dtype=torch.bfloat16))
    table = StateCodec("int8", LAYERS, 96, sample.learn())
    zeros = torch.zeros(2, 3, 96, dtype=torch.bfloat16)
    check_quality(measure_quality(zeros, _quantised(table, zeros), LAYERS), QualityBound(), "int8")

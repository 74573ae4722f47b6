"""A sample of contexts -> the calibration of a quantised table, and what it loses on contexts it has not seen."""

import pyarrow as pa

from mos.encoders.encoding import EncodeConfig
from mos.images.decode import ImageLimits
from mos.states.calibration import CalibrationSample
from mos.states.payload import StateCodec
from mos.states.quality import QualityReport, measure_quality, total
from mos.tables.lance import TableVersion
from operators.context_encoder import ContextEncoder

CALIBRATED = pa.schema(
    [
        pa.field("calibration", pa.binary()),  # Calibration.to_bytes
        pa.field("quality", pa.string()),  # QualityReport.to_json
        pa.field("failure", pa.string()),  # why there is neither: one reason for which a context could not be encoded
    ]
)
"""One row per call."""


class CalibrateStates:
    """Callable class for `Dataset.map_batches` on Arrow tables; holds the tower. Learns from every other context.

    Reads   context_key, text, row, version (CONTEXT_TASKS of mos.tables.encode_tasks)
    Writes  calibration, quality (CALIBRATED)
    """

    def __init__(self, config: EncodeConfig, samples: TableVersion, limits: ImageLimits) -> None:
        self._config = config
        self._contexts = ContextEncoder(config, samples, limits)

    def __call__(self, tasks: pa.Table) -> pa.Table:
        """Learn from the tasks at even places, measure on those at odd ones (on the only one where there is one)."""
        rows = tasks.to_pylist()
        tower = self._contexts.tower
        layers = self._config.held_layers(tower.num_layers)
        sample = CalibrationSample()
        failures: dict[str, str] = {}
        for _, context in self._contexts.encode(rows[::2], failures):
            sample.add(context.states[:, list(layers)])
        if len(failures) == len(rows[::2]):
            return _row(failure=next(iter(failures.values())))
        calibration = sample.learn()
        codec = StateCodec(self._config.state_format, layers, tower.dim, calibration)
        quality = self._measure(codec, rows[1::2]) or self._measure(codec, rows)
        assert quality is not None, "a context that taught something can be measured"
        return _row(calibration=calibration.to_bytes(), quality=quality.to_json())

    def _measure(self, codec: StateCodec, tasks: list[dict]) -> QualityReport | None:
        held = list(codec.layers)
        return total(
            measure_quality(context.states[:, held], codec.quantise(context.states), codec.layers)
            for _, context in self._contexts.encode(tasks, {})
        )


def _row(**values: bytes | str) -> pa.Table:
    return pa.Table.from_pylist([values], schema=CALIBRATED)

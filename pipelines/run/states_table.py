"""Which states table a run reads and writes, found without loading a tower or starting Ray."""

from mos.checkout import CLONE
from mos.encoders.load import TowerSpec, describe_tower
from mos.states.payload import StateCodec
from mos.tables.state_tables import calibration_name, read_calibration, states_name
from pipelines.run.config import RunConfig


def current_codec(config: RunConfig, tower: TowerSpec) -> StateCodec | None:
    """The codec that states of this run have; None for a quantised format that no run has calibrated yet."""
    encode = config.encode
    layers = encode.held_layers(tower.num_layers)
    if encode.state_format == "bf16":
        return StateCodec("bf16", layers, tower.dim)
    return read_calibration(config.calibration_uri(calibration_name(tower.tower_id, encode.state_format, layers)))


def current_states_uri(config: RunConfig) -> str | None:
    """The states table of this run, which may not exist yet; None as for `current_codec`."""
    tower = describe_tower(config.encode.anchored(CLONE).tower)
    codec = current_codec(config, tower)
    return None if codec is None else config.states_uri(states_name(tower.tower_id, codec))

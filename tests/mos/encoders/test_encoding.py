from pathlib import Path

import pytest
from pydantic import ValidationError

from mos.encoders.encoding import EncodeConfig
from mos.encoders.understanding import LlamaConfig
from mos.encoders.vae import RandomWan, WanConfig
from mos.errors import UserError


def test_a_table_holds_every_layer_unless_some_are_named() -> None:
    assert EncodeConfig().held_layers(6) == (0, 1, 2, 3, 4, 5, 6)
    assert EncodeConfig(layers=(0, 2, 6)).held_layers(6) == (0, 2, 6)


def test_a_layer_beyond_the_tower_is_named() -> None:
    with pytest.raises(UserError, match=r"encode\.layers names 7, the tower's last is 6: leave it out"):
        EncodeConfig(layers=(0, 2, 7)).held_layers(6)


@pytest.mark.parametrize("layers", [(), (1, 2), (0, 3, 2), (0, 2, 2), (-1, 0, 1)])
def test_layers_ascend_from_the_embedding(layers: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="must ascend from 0, the embedding that routers read"):
        EncodeConfig(layers=layers)


def test_folders_of_weights_stand_beside_the_config_and_hub_ids_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("run/weights/tower", "run/weights/vae", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "run")
    relative = EncodeConfig(tower=LlamaConfig(path="weights/tower"), vae=WanConfig(path="../run/weights/vae"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    anchored = relative.anchored(tmp_path / "run")
    assert anchored.tower.path == str(tmp_path / "run" / "weights" / "tower")
    assert anchored.vae.path == str(tmp_path / "run" / "weights" / "vae")
    assert anchored.anchored(tmp_path / "elsewhere") == anchored
    hub = EncodeConfig(tower=LlamaConfig(path="owner/tower", revision="0" * 40), vae=WanConfig(random=RandomWan()))
    assert hub.anchored(tmp_path / "run") == hub


def test_anchoring_changes_nothing_else(tmp_path: Path) -> None:
    config = EncodeConfig(layers=(0, 1), state_format="int8", images_per_batch=3, calibration_contexts=9)
    assert config.anchored(tmp_path) == config

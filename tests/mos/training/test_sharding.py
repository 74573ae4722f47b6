"""Settings of the engines: which one is meant, and what it cannot do."""

import pytest

from mos.errors import UserError
from mos.training import sharding
from mos.training.sharding import Fsdp2Config, MeshConfig, ZeroConfig
from tests.mos.training.tiny import FLOAT32, tiny_stage


def test_an_engine_without_a_type_is_fsdp2():
    assert tiny_stage(engine={"blocks_per_unit": 2}).engine == Fsdp2Config(blocks_per_unit=2)
    assert tiny_stage(engine={"type": "deepspeed", "stage": 3}).engine == ZeroConfig(stage=3)
    with pytest.raises(ValueError, match="fsdp2', 'deepspeed"):
        tiny_stage(engine={"type": "horovod"})


def test_what_zero_cannot_do_is_refused_in_one_sentence():
    with pytest.raises(ValueError, match="use adamw"):
        tiny_stage(engine=ZeroConfig(), optimizer={"type": "muon"})
    with pytest.raises(ValueError, match="device = 'nvme'"):
        ZeroConfig(options={"offload_optimizer": {"device": "nvme"}})
    with pytest.raises(ValueError, match="`stage` of the engine"):
        ZeroConfig(options={"stage": 1})


def test_a_package_that_is_missing_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sharding, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'mos\[deepspeed\]'"):
        sharding.check_installed(ZeroConfig())
    sharding.check_installed(FLOAT32)


def test_a_mesh_that_is_not_the_gangs_is_refused():
    assert MeshConfig().num_shards(8) == 8
    assert MeshConfig(replicate=2).num_shards(8) == 4
    assert MeshConfig(replicate=2, shard=4).num_shards(8) == 4
    for mesh in (MeshConfig(replicate=3), MeshConfig(replicate=16), MeshConfig(shard=4)):
        with pytest.raises(UserError, match=r"8 workers: set cluster\.train\.num"):
            mesh.num_shards(8)

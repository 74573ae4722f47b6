"""What would end a job is told before it is started."""

from argparse import Namespace
from pathlib import Path

import pytest

from mos.errors import UserError
from pipelines import doctor
from pipelines.doctor import Finding, cluster, devices, disks, found_by, packages, processor, same, sources, weights
from pipelines.run.steps import Run


def verdicts(found: list[Finding]) -> dict[str, str]:
    return {finding.subject: finding.verdict for finding in found}


def test_packages_are_held_against_the_pins(small_run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pins = tmp_path / "constraints.txt"
    pins.write_text("# pins\ntorch==2.13.0+cpu\nnumpy==1.0.0\nno-such-package==3\n", encoding="utf-8")
    monkeypatch.setattr(doctor, "CONSTRAINTS", pins)
    missing, other = packages(small_run())
    assert (missing.verdict, missing.told.split(":")[0]) == ("fault", "no-such-package not installed")
    assert other.verdict == "note"
    assert "1.0.0 is what this checkout is tested with" in other.told
    monkeypatch.setattr(doctor, "CONSTRAINTS", tmp_path / "none")
    assert [finding.verdict for finding in packages(small_run())] == ["note"]


def test_a_build_for_another_device_is_the_same_version() -> None:
    assert same("2.13.0+cu130", "2.13.0")
    assert not same("2.13.1", "2.13.0")


def test_the_processor_tells_its_dtype(small_run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "fast_dtype", lambda device: "float32")
    (fine,) = processor(small_run("stage1.engine.precision.compute=float32"))
    assert fine.verdict == "ok"
    assert "auto is float32" in fine.told
    _, slow = processor(small_run("stage1.engine.precision.compute=bfloat16"))
    assert slow.verdict == "note"
    assert slow.told.startswith("stage1 compute in bfloat16")


def test_gpus_that_nobody_has_are_a_fault(small_run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.torch.cuda, "device_count", lambda: 0)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert list(devices(small_run())) == []
    (fault,) = devices(small_run("cluster.train={num=2, gpus=1}"))
    assert (fault.verdict, fault.told.split(" ")[0]) == ("fault", "cluster.train")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert list(devices(small_run("cluster.train={num=2, gpus=1}"))) == []


def test_a_root_that_cannot_be_written_is_a_fault(small_run, tmp_path: Path) -> None:
    assert "fault" not in verdicts(list(disks(small_run()))).values()
    (tmp_path / "file").touch()
    found = list(disks(small_run(f"root={tmp_path}/file/run")))
    assert found[-1].subject == "root"
    assert found[-1].verdict != "ok"


def test_sources_are_listed(small_run, tmp_path: Path) -> None:
    (drawn,) = sources(small_run())
    assert drawn.told.startswith("drawn by")
    (tmp_path / "a.tar").write_bytes(b"0" * 1000)
    config = small_run().model_copy(update={"shapes": None})
    there = {"name": "w", "type": "webdataset", "paths": (f"{tmp_path}/*.tar",)}
    read = config.curate.model_validate(config.curate.model_dump() | {"sources": [there]})
    (found,) = sources(config.model_copy(update={"curate": read}))
    assert (found.subject, found.told) == ("source w", "1 units of webdataset, 0.00 GB")
    gone = config.curate.model_validate(
        config.curate.model_dump() | {"sources": [there | {"paths": (f"{tmp_path}/gone/*.tar",)}]}
    )
    (fault,) = found_by(sources, config.model_copy(update={"curate": gone}))
    assert (fault.subject, fault.verdict) == ("sources", "fault")
    assert "no tar matches" in fault.told


def test_weights_have_to_be_those_that_the_model_wants(small_run) -> None:
    assert verdicts(list(weights(small_run()))) == {"tower": "ok", "codec": "ok"}
    found = list(weights(small_run("model.latent_channels=5", "model.state_dim=7")))
    assert [finding.verdict for finding in found] == ["ok", "ok", "fault", "fault"]
    start = '{type="weights", path="no/such/export"}'
    (*_, fault) = found_by(weights, small_run(f"stage1.start={start}"))
    assert fault.verdict == "fault"
    assert "no/such/export" in fault.told


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_node_writes_into_the_root_and_gangs_have_room(local_ray, small_run, capsys) -> None:
    config = small_run("cluster.train={num=2, cpus=1}")
    found = list(cluster(config))
    assert {finding.verdict for finding in found} <= {"ok", "note"}
    (node,) = [finding for finding in found if finding.subject.startswith("node ")]
    assert node.told.endswith("and it is seen here")
    assert not list(Path(config.root).glob(".doctor-*"))
    too_many = small_run("cluster.train={num=64, cpus=1}")
    assert verdicts(list(cluster(too_many)))["cluster.train"] == "fault"
    doctor.main(Run(config), Namespace(force=False))
    with pytest.raises(UserError, match=r"^1 of these would end a job of config 'small': see the lines above$"):
        doctor.main(Run(too_many), Namespace(force=False))
    assert "fault cluster.train: 64 workers of 1 CPU each" in capsys.readouterr().out

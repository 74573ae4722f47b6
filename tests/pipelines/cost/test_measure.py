"""Measured speeds: of the run's own tower, model and table, and of nothing that is not there."""

import pytest
import torch
import torch.distributed as dist

from mos.errors import UserError
from pipelines.cost import measure as measuring
from pipelines.cost.figures import stage_figures
from tests.pipelines.cost.counted_run import counted_run, write_states

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch):
    """Short measurements, and this process's threads as they were."""
    monkeypatch.setattr(measuring, "SECONDS", 0.05)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_speeds_can_be_measured(small_run, capsys):
    config = small_run("stage2.batch_size=4", "model.num_blocks=1")
    assumed = config.plan.machine_for(0)
    measured = measuring.measure_machine(config, assumed)
    assert 0 < measured.train_tflops < 10
    assert 0 < measured.tower_tflops < 10
    assert measured.read_gb_per_s == assumed.read_gb_per_s  # there is no table to read yet
    assert measured.train_hour == assumed.train_hour
    said = capsys.readouterr().out
    assert f"plan: train_tflops = {measured.train_tflops:.3g}\n" in said
    assert "plan: read_gb_per_s = no states table yet, left as it is\n" in said


def test_a_states_table_is_read_as_training_reads_it(small_run):
    config = counted_run(small_run)
    assert measuring.measure_reading(config) is None
    write_states(config, [])
    assert measuring.measure_reading(config) is None
    write_states(config, [f"caption {number}" for number in range(12)])
    assert 0 < measuring.measure_reading(config) < 100  # GB/s


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_speeds_of_gpus_are_not_measured_where_there_is_none(small_run):
    config = small_run("cluster.train={num=1, gpus=1}")
    with pytest.raises(UserError, match=r"--measure needs the GPU that cluster.train.gpus names: run it on a node"):
        measuring.measure_machine(config, config.plan.machine_for(1))


@pytest.mark.parametrize(("num", "share"), [(1, 32), (4, 8), (64, 1)])
def test_a_worker_is_given_its_share_of_a_step(small_run, num: int, share: int):
    config = small_run(f"cluster.train={{num={num}, cpus=1}}", "stage2.resolution=24", "plan.tokens=[[10, 1.0]]")
    batch = measuring.random_batch(config, "stage2", stage_figures(config, "stage2"))
    assert batch.latents.shape == batch.noise.shape == (share, 12, 12, 12)  # 24 px in a codec of stride 2
    assert batch.timesteps.shape == (share,)
    assert batch.context.layout.offsets.diff().tolist() == [10] * share
    assert batch.context.states.shape == (10 * share, 7, 384)
    assert batch.reference is None


def test_a_step_of_an_editing_stage_has_pictures_to_edit(small_run):
    config = small_run("cluster.train={num=8, cpus=1}")
    batch = measuring.random_batch(config, "edit", stage_figures(config, "edit"))
    assert batch.reference is not None
    assert batch.reference.shape == batch.latents.shape == (4, 12, 16, 16)


def test_a_call_is_repeated_after_one_that_does_not_count():
    calls: list[int] = []
    repeats, seconds = measuring._repeat(lambda: calls.append(1), CPU, 0.01)
    assert len(calls) == repeats + 1 > 1
    assert seconds >= 0.01


def test_a_step_that_fails_leaves_no_process_group_behind(small_run, monkeypatch: pytest.MonkeyPatch):
    config = small_run("cluster.train={num=8, cpus=1}", "model.num_blocks=1")
    figures = stage_figures(config, "stage1")

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no memory left")

    with monkeypatch.context() as patch:
        patch.setattr(measuring, "update", fails)
        with pytest.raises(RuntimeError, match="no memory left"):
            measuring.step_seconds(config, "stage1", figures, CPU, 0.01)
    assert not dist.is_initialized()
    assert measuring.step_seconds(config, "stage1", figures, CPU, 0.01) > 0
    assert not dist.is_initialized()

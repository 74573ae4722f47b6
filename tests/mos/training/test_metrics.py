"""Lines of metrics: whole, in order, never twice."""

import dataclasses

import pytest

from mos.training.metrics import MetricsWriter, StepMetrics, latest_metrics, progress_line, read_metrics

LINE = StepMetrics(10, 0, 0.5, 1e-4, 1.25, 64.0, 0.01, 0)


def at(step: int) -> StepMetrics:
    return dataclasses.replace(LINE, step=step)


@pytest.mark.slow
def test_a_resumed_writer_drops_what_will_be_written_again(tmp_path):
    assert latest_metrics(tmp_path) is None
    first = MetricsWriter(tmp_path, 0)
    for step in range(10, 60, 10):
        first.write(at(step))
    first.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 60, "epo')  # killed in the middle of a line
    assert latest_metrics(tmp_path) == at(50)
    resumed = MetricsWriter(tmp_path, 30)
    resumed.write(at(40))
    resumed.close()
    assert read_metrics(tmp_path) == [at(10), at(20), at(30), at(40)]
    assert latest_metrics(tmp_path) == at(40)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2


def test_progress_reads_well():
    line = progress_line(LINE, num_steps=110, batch_size=32)
    assert line == "step 10/110  loss 0.5000  lr 1.0e-04  grad norm 1.25  64 samples/s  50 s left"

"""Lines of metrics: whole, in order, never twice."""

import dataclasses

import pytest

from mos.errors import UserError
from mos.training.metrics import MetricsWriter, StepMetrics, latest_metrics, progress_line, read_metrics
from tests.mos.training.small_disk import fill, small_disk

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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's own thread
def test_a_full_disk_delays_lines_and_stops_nobody(tmp_path):
    with small_disk(tmp_path / "disk", 1) as folder:
        writer = MetricsWriter(folder, 0)
        writer.write(at(10))
        filler = fill(folder, leave=0)
        for step in range(20, 500, 10):
            writer.write(at(step))
        assert len(read_metrics(folder)) < 45
        filler.unlink()
        writer.write(at(500))
        writer.write(at(510))
        assert [line.step for line in read_metrics(folder)] == list(range(10, 511, 10))
        fill(folder, leave=0)
        writer.close()
        with pytest.raises(UserError, match=r"No space left .* make room there"):
            MetricsWriter(folder, 250)
        assert len(read_metrics(folder)) == 51


def test_a_damaged_line_costs_that_line(tmp_path):
    first = MetricsWriter(tmp_path, 0)
    for step in (10, 20, 30):
        first.write(at(step))
    first.close()
    path = tmp_path / "metrics.jsonl"
    one, two, three = path.read_bytes().splitlines()
    newer = three.replace(b"{", b'{"tokens": 5, ')
    for damaged in (two[:-1], bytes(len(two)), b"null", b"[]", b'{"step": 20}', b"\xff"):
        path.write_bytes(b"\n".join([one, damaged, newer, b""]))
        assert read_metrics(tmp_path) == [at(10), at(30)]
        path.write_bytes(b"\n".join([one, damaged, b""]))
        assert latest_metrics(tmp_path) == at(10)


def test_progress_reads_well():
    line = progress_line(LINE, num_steps=110, batch_size=32)
    assert line == "step 10/110  loss 0.5000  lr 1.0e-04  grad norm 1.25  64 samples/s  50 s left"

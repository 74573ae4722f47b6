"""Ray shows what a gang reports, under the names that the dashboard asks for."""

import json
import re
import time
from urllib.request import urlopen

import pytest
import ray

from mos.checkout import CLONE
from mos.training.goodput import Span
from mos.training.metrics import StepMetrics
from pipelines.train.ray_metrics import CAUSES, GAUGES, SECONDS, WORKERS, RayMetrics, ray_metrics

RUN = "scraped"
LINE = StepMetrics(
    step=40, epoch=1, loss=0.25, lr=1e-4, grad_norm=0.5, samples_per_s=64.0, data_wait=0.1, nonfinite_steps=2, mfu=0.4
)
SPANS = (
    Span(0.0, 10.0, 20, 0, 10.0, 0.0, 0.0, 0.0, workers=2),
    Span(0.0, 40.0, 40, 20, 30.0, 3.0, 2.0, 1.0, workers=2),
)


def test_the_dashboard_asks_for_what_is_reported() -> None:
    text = (CLONE / "cluster" / "grafana-training.json").read_text(encoding="utf-8")
    asked = {name.removesuffix("_total") for name in re.findall(r"ray_(mos_train_\w+)", text)}
    assert asked == {*(f"mos_train_{name}" for name in GAUGES), SECONDS, WORKERS}
    panels = json.loads(text)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) == 12


@ray.remote
def report() -> bool:
    seen = ray_metrics(RUN, "stage1")
    assert isinstance(seen, RayMetrics)
    seen.see(LINE)
    for span in SPANS:
        seen.spent(span)
    time.sleep(120)  # until it is cancelled: Ray shows nothing of processes that are gone
    return True


def exported(node: dict) -> dict[tuple[str, ...], float]:
    """What one node shows to Prometheus, by name and what time was spent on."""
    with urlopen(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics") as page:
        text = page.read().decode()
    found = {}
    for name, labels, value in re.findall(r"^ray_(mos_train_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
        if RUN in re.findall(r'\brun="([^"]*)"', labels):  # other gangs of the same Ray report, too
            assert 'stage="stage1"' in labels
            found[name, *re.findall(r'spent_on="(\w+)"', labels)] = float(value)
    return found


@pytest.mark.slow
def test_prometheus_can_scrape_them(local_ray) -> None:
    running = report.remote()
    (node,) = ray.nodes()
    expected = {(f"mos_train_{name}",): float(getattr(LINE, name)) for name in GAUGES} | {(WORKERS,): 2.0}
    spent = {"starting": 10.0, "training": 24.0, "data": 3.0, "checkpoints": 2.0, "looks": 1.0}
    assert set(spent) == set(CAUSES)
    expected |= {(f"{SECONDS}_total", cause): seconds for cause, seconds in spent.items()}
    deadline, found = time.monotonic() + 60, {}
    while found.keys() != expected.keys() and time.monotonic() < deadline:
        time.sleep(1)
        found = exported(node)
    assert found == expected
    ray.cancel(running)


def test_nothing_is_reported_where_ray_does_not_run() -> None:
    assert ray.is_initialized() or ray_metrics("small", "stage1") is None

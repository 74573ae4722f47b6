"""Whether the cluster at hand can ever hold a group of workers, and what they wait for while it does not."""

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.experimental.internal_kv import _internal_kv_get

from mos.errors import UserError
from mos.watching import watching

REPORTED_WITHIN_S = 15.0
"""How long after its start a cluster tells of its node types at the latest."""


SAID_EVERY_S = 60.0
"""Between lines about what is waited for."""


def refuse_too_many(key: str, num: int, options: Mapping[str, Any]) -> None:
    """Raise `UserError` where so many workers never fit the cluster: it has too few nodes for them and adds none.

    Args:
        key: the setting that asks for them.
        num: workers at the same time.
        options: of an actor of Ray: `num_cpus`, `num_gpus`, `label_selector`.
    """
    room = num_fitting(ray.nodes(), options)
    if room >= num or may_grow():
        return
    total = ray.cluster_resources()
    raise UserError(
        f"{num} workers of {_needs(options)} each ({key}) do not fit the cluster{_where(options)}, which has room for "
        f"{room} ({total.get('CPU', 0):g} CPUs and {total.get('GPU', 0):g} GPUs in all) and does not grow: lower {key} "
        "or what each of them asks for, or use a larger cluster"
    )


@contextmanager
def told_while_waiting(
    key: str, num: int, options: Mapping[str, Any], has_begun: Callable[[], bool], first_s: float = 20.0
) -> Iterator[None]:
    """Say what a group of workers waits for, after a while and then once a minute, until it has begun.

    Args:
        key: the setting that asks for them.
        num: workers at the same time.
        options: as for `refuse_too_many`.
        has_begun: asked every second or so.
        first_s: seconds until the first line.
    """

    def watch(ended: threading.Event) -> None:
        said = time.monotonic() + first_s - SAID_EVERY_S
        while not ended.wait(min(1.0, first_s)) and not has_begun():
            if time.monotonic() - said < SAID_EVERY_S:
                continue
            said = time.monotonic()
            free, total = ray.available_resources(), ray.cluster_resources()
            missing = num_fitting(ray.nodes(), options) < num
            why = "it has too few nodes for them and may grow" if missing else "others use it, or they are starting"
            print(
                f"{key}: waits for {num} workers of {_needs(options)} each{_where(options)}; free are "
                f"{free.get('CPU', 0):g} of {total.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} of "
                f"{total.get('GPU', 0):g} GPUs of the cluster: {why}",
                flush=True,
            )

    with watching("told-while-waiting", watch):
        yield


def _needs(options: Mapping[str, Any]) -> str:
    """What one worker asks for."""
    units = (("num_cpus", "CPU"), ("num_gpus", "GPU"))
    return " and ".join(f"{options[name]:g} {unit}" for name, unit in units if name in options)


def _where(options: Mapping[str, Any]) -> str:
    """The nodes that it may stand on."""
    labels = options.get("label_selector")
    return f" on nodes with {labels}" if labels else ""


def num_fitting(nodes: list[dict[str, Any]], options: Mapping[str, Any]) -> int:
    """Number of such workers that the nodes hold when nothing else runs there."""
    needs = {"CPU": options.get("num_cpus", 0), "GPU": options.get("num_gpus", 0)}
    room = 0
    for node in nodes:
        if node["Alive"] and all(_allows(node["Labels"], *one) for one in options.get("label_selector", {}).items()):
            fits = [int(node["Resources"].get(name, 0) / need + 1e-9) for name, need in needs.items() if need]
            room += min(fits)
    return room


def may_grow() -> bool:
    """True if an autoscaler may add nodes; where nothing tells, it may."""
    if "RAY_ADDRESS" not in os.environ:
        return False  # a local Ray, this process's own
    if is_autoscaler_v2():
        return True
    deadline = time.monotonic() + REPORTED_WITHIN_S
    while (status := _internal_kv_get(DEBUG_AUTOSCALING_STATUS)) is None and time.monotonic() < deadline:
        time.sleep(0.5)
    if status is None:
        return True
    # Where there is no autoscaler each node is a type of its own, named by its id.
    report = json.loads(status).get("autoscaler_report") or {}
    types = [*(report.get("active_nodes") or {}), *(report.get("idle_nodes") or {})]
    return not all(re.fullmatch(r"node_[0-9a-f]{56}", name) for name in types)


def _allows(labels: Mapping[str, str], key: str, selector: str) -> bool:
    """True if a node's labels satisfy one entry of a selector: `a`, `!a`, `in(a, b)` or `!in(a, b)`."""
    wanted = selector.removeprefix("!")
    values = [value.strip() for value in wanted[3:-1].split(",")] if wanted.startswith("in(") else [wanted]
    return (labels.get(key) in values) != selector.startswith("!")

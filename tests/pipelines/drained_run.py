"""A script: a stage trains on one node of two, which is drained; it goes on on the other and is told to stop there.

It prints what came of it. A process of its own, since nodes go in its Ray.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import ray
from ray._private.state import actors
from ray.cluster_utils import Cluster

from mos.training.goodput import read_spans
from mos.training.stop import StopRequest
from pipelines.run.steps import Run
from pipelines.train import driver, moving
from pipelines.train.job import make_job, newest_step, stage_folder
from tests.pipelines.growing_run import begun

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
WITHIN_S = 400.0


def drain(nodes: Cluster, folder: Path) -> None:
    """Once some steps are done, the node of the first gang, with two minutes' notice."""
    wait_for(lambda: gangs_that_trained(folder) == 1)
    workers = [actor for actor in actors().values() if "TrainWorker" in actor["ActorClassName"]]
    (node,) = {actor["Address"]["NodeID"] for actor in workers if actor["State"] == "ALIVE"}
    reason = ("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "reclaimed")
    notice = ("--deadline-remaining-seconds", "120")
    ray_command = Path(sys.executable).with_name("ray")
    command = [ray_command, "drain-node", "--address", nodes.address, "--node-id", node, *reason, *notice]
    subprocess.run(command, check=True, capture_output=True)
    wait_for(lambda: gangs_that_trained(folder) == 2)


def drain_then_stop(nodes: Cluster, folder: Path) -> None:
    """Drain, and end the stage once that was seen, or failed."""
    try:
        drain(nodes, folder)
    finally:
        StopRequest(folder).ask()


def gangs_that_trained(folder: Path) -> int:
    """How many have done updates."""
    return len({span.attempt for span in read_spans(folder) if span.updates})


def wait_for(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.1)


def main() -> None:
    """The head node has no core, so that it can stay."""
    moving.LOOK_EVERY_S = 0.5
    nodes = Cluster(initialize_head=True, head_node_args=NODE | {"num_cpus": 0})
    for _ in range(2):
        nodes.add_node(**NODE)
    os.environ["RAY_ADDRESS"] = nodes.address
    with tempfile.TemporaryDirectory() as root:
        settings = (
            "stage1.steps=1000000",
            "stage1.checkpoint_every=1000000",
            "stage1.log_every=20",
            "cluster.train={num=1, cpus=1}",
        )
        config, _ = begun(Path(root) / "run", "stage1.refresh=false", *settings)
        run = Run(config)
        folder = stage_folder(run.step("stage1"), config)
        draining = threading.Thread(target=drain_then_stop, args=(nodes, folder))
        draining.start()
        with suppress(KeyboardInterrupt):  # what a stage that was told to stop ends with
            driver.train_stage("stage1", run, Namespace(force=False))
        draining.join()
        spans = read_spans(folder)
        began = [span for span in spans if not span.updates and not span.ended]
        print("steps at which the gangs began", *(span.step for span in began), flush=True)
        print("updates in all", sum(span.updates for span in spans), flush=True)
        print("saved at step", newest_step(make_job(run.step("stage1"), run)), flush=True)
    ray.shutdown()
    nodes.shutdown()


if __name__ == "__main__":
    sys.exit(main())

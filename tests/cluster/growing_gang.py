"""A script: a gang of one worker grows when a node comes. Prints the sizes that it had, in order.

A process of its own, since nodes come in its Ray.
"""

import sys
import tempfile
import threading
import time
from pathlib import Path

import ray
import torch
import torch.distributed as dist
from ray.cluster_utils import Cluster

import cluster.train
from cluster.train import run_workers
from mos.workers import GangConfig

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
WITHIN_S = 60.0


def train(folder: Path, device: torch.device) -> None:
    """Until it is the second gang; each leaves a note of its size."""
    number = len(list(folder.glob("*-0")))
    dist.barrier()
    (folder / f"{number}-{dist.get_rank()}").write_text(str(dist.get_world_size()), encoding="utf-8")
    while number < 1:
        time.sleep(0.2)


def until(there: Path) -> None:
    """Wait for a note."""
    deadline = time.monotonic() + WITHIN_S
    while not there.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(there)
        time.sleep(0.2)


def main() -> None:
    """Nodes come from the main thread, which alone may start them."""
    cluster.train.LOOK_FOR_ROOM_S = 2.0
    nodes = Cluster(initialize_head=True, head_node_args=NODE)
    ray.init(address=nodes.address, logging_level="ERROR")
    with tempfile.TemporaryDirectory() as root:
        notes = Path(root) / "notes"
        notes.mkdir()
        gang = GangConfig(num=1, max_num=2, cpus=1)
        options = {"folder": Path(root) / "ray", "max_failures": 3}
        running = threading.Thread(target=run_workers, args=(train, notes, gang), kwargs=options)
        running.start()
        until(notes / "0-0")
        nodes.add_node(**NODE)
        running.join(WITHIN_S)
        sizes = [path.read_text(encoding="utf-8") for path in sorted(notes.glob("*-0"))]
        print("sizes", *sizes, flush=True)
    ray.shutdown()
    nodes.shutdown()
    sys.exit(running.is_alive())


if __name__ == "__main__":
    main()

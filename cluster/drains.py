"""Nodes of the cluster that are about to be taken away: reclaimed by a cloud, drained by an autoscaler or a person."""

import ray
from ray._private.state import state


def draining_hosts() -> dict[str, str]:
    """Names of the hosts that Ray drains, and the ids of their nodes."""
    draining = state.get_draining_nodes()
    return {node["NodeManagerHostname"]: node["NodeID"] for node in ray.nodes() if node["NodeID"] in draining}

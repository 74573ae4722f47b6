"""A gang that leaves nodes before they are taken away, and goes on where there is room: nothing is done twice."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.drains import draining_hosts
from mos.training.stop import StopRequest
from mos.training.whereabouts import read_places
from mos.watching import watching

LOOK_EVERY_S = 5.0
"""Seconds between looks at the nodes: clouds give notice of half a minute or more."""


class Moves:
    """Whether a gang that has left its loop did so for a node that is drained."""

    def __init__(self, request: StopRequest) -> None:
        self._request = request
        self._drained: set[str] = set()
        self._leaving = False

    def take(self) -> bool:
        """True once after each time; the gang may then be started again."""
        leaving, self._leaving = self._leaving, False
        if leaving:
            self._request.clear()
        return leaving

    def look(self, name: str, hosts: dict[str, str], training_on: set[str]) -> None:
        """Ask the gang to leave where one of its hosts is drained, for the first time; `hosts` are node ids by host."""
        new = {host for host in hosts if host in training_on and hosts[host] not in self._drained}
        if not new or self._request.is_asked() or not self._request.is_training():
            return
        self._drained |= {hosts[host] for host in new}
        self._leaving = True
        self._request.ask()
        print(
            f"{name}: {', '.join(sorted(new))} is about to be taken away: training leaves it after this step with a "
            "checkpoint, and goes on where there is room",
            flush=True,
        )


@contextmanager
def leaving_drained_nodes(
    name: str, folder: Path, request: StopRequest, drained: Callable[[], dict[str, str]] = draining_hosts
) -> Iterator[Moves]:
    """Watch the nodes of a gang that trains in `folder` for the duration of the block; Ray is connected.

    Args:
        name: of the stage.
        folder: of the stage.
        request: through which its gang is asked to leave.
        drained: hosts and the ids of their nodes.
    """
    moves = Moves(request)

    def watch(ended: threading.Event) -> None:
        while not ended.wait(LOOK_EVERY_S):
            hosts = drained()
            if hosts:
                moves.look(name, hosts, {place.host for place in read_places(folder)})

    with watching("moves", watch):
        yield moves

"""A pool of equal Ray actors that grows and shrinks between bounds and outlives any of them."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError

MOST_DEATHS = 5
"""Actors that may be lost, without one task finished in between, before the pool gives up."""


@dataclass
class PoolTime:
    """Seconds, summed over actors that were ready."""

    ready_s: float = 0.0
    busy_s: float = 0.0

    @property
    def idle_share(self) -> float:
        """Share of the time that actors had nothing to do, in [0, 1]."""
        return 1 - self.busy_s / self.ready_s if self.ready_s else 0.0


@dataclass
class _Member:
    actor: ActorHandle
    call: ray.ObjectRef
    """What it does now: start, or a task; done where the actor is idle."""
    ready: bool = False
    task: Any = None
    since: float = field(default_factory=time.monotonic)
    """When it became idle or busy."""


class _Host:
    """Holds one object in a process of its own."""

    def __init__(self, create: Callable[..., Callable], arguments: tuple) -> None:
        self._call = create(*arguments)

    def run(self, task: Any) -> Any:
        """The object, called with a task."""
        return self._call(task)


class ActorPool:
    """Actors that each hold `create(*arguments)` and call it with one task at a time; for one thread.

    A task whose actor is lost, to a crash, the memory monitor or its node, is given to another one. Leave no
    pool without `close`.

    Args:
        create: a class of an importable module whose objects can be called.
        arguments: of its constructor.
        options: of the Ray actors.
        bounds: fewest and most actors.
    """

    def __init__(
        self, create: Callable[..., Callable], arguments: tuple, options: dict[str, Any], bounds: tuple[int, int]
    ) -> None:
        self.time = PoolTime()
        self.num_died = 0
        """Actors lost so far."""
        self._host = ray.remote(**options)(_Host)
        self._arguments = create, arguments
        self._fewest, self._most = bounds
        self._members: list[_Member] = []
        self._again: deque[Any] = deque()
        self._results: list[Any] = []
        self._deaths = 0
        self._ticked = time.monotonic()
        while len(self._members) < self._fewest:
            self._add()

    def __len__(self) -> int:
        return len(self._members)

    @property
    def num_idle(self) -> int:
        """Actors that would take a task at once."""
        return sum(member.ready and member.task is None for member in self._members) - len(self._again)

    @property
    def num_starting(self) -> int:
        """Actors that are not ready yet."""
        return sum(not member.ready for member in self._members)

    def submit(self, task: Any) -> None:
        """Give a task to an idle actor; there is one."""
        self._again.append(task)
        self._hand_out()

    def collect(self, timeout_s: float) -> list[Any]:
        """Results that have come; waits for one, at most so long.

        Raises:
            Exception: what a task raised; nothing is lost: the task is done again if the caller goes on collecting.
            ray.exceptions.RayError: what the last of too many actors was lost to.
        """
        self._hand_out()  # the task that an error of the last call left
        self._tick()
        waiting = {member.call: member for member in self._members if not member.ready or member.task is not None}
        if not waiting:
            time.sleep(timeout_s)
            self._tick()
            return []
        done, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        if not done:
            done, _ = ray.wait(list(waiting), num_returns=1, timeout=timeout_s)
        self._tick()
        for call in done:
            self._finish(waiting[call])
        self._hand_out()
        results, self._results = self._results, []
        return results

    def grow(self) -> bool:
        """One actor more, unless there are enough or one is still starting."""
        if len(self._members) >= self._most or self.num_starting:
            return False
        self._add()
        return True

    def shrink(self, idle_s: float) -> bool:
        """One actor less, if one beyond the fewest has been idle so long."""
        now = time.monotonic()
        idle = [m for m in self._members if m.ready and m.task is None and now - m.since >= idle_s]
        if not idle or len(self._members) <= self._fewest:
            return False
        self._remove(idle[-1])
        return True

    def close(self) -> None:
        """End every actor."""
        while self._members:
            self._remove(self._members[-1])

    def _add(self) -> None:
        actor = self._host.remote(*self._arguments)
        self._members.append(_Member(actor, actor.__ray_ready__.remote()))

    def _remove(self, member: _Member) -> None:
        self._members.remove(member)
        ray.kill(member.actor)

    def _hand_out(self) -> None:
        for member in self._members:
            if self._again and member.ready and member.task is None:
                member.task = self._again.popleft()
                member.call = member.actor.run.remote(member.task)
                member.since = time.monotonic()

    def _finish(self, member: _Member) -> None:
        """Keep the result of a member's call, if it was a task; replaces a member that was lost."""
        try:
            result = ray.get(member.call)
        except RayTaskError as error:
            if member.ready:
                self._again.append(member.task)
                member.task, member.since = None, time.monotonic()
            raise error.cause or error from error
        except RayError as error:
            self._replace(member, error)
            return
        if member.ready:
            self._results.append(result)
            self._deaths = 0
        member.ready, member.task, member.since = True, None, time.monotonic()

    def _replace(self, member: _Member, error: RayError) -> None:
        self.num_died += 1
        self._deaths += 1
        doing = "started" if not member.ready else "was at work"
        print(f"an actor was lost while it {doing} ({self._deaths} in a row): {_first_line(error)}", flush=True)
        self._remove(member)
        if member.task is not None:
            self._again.append(member.task)
        if self._deaths >= MOST_DEATHS:
            raise error
        self._add()

    def _tick(self) -> None:
        now = time.monotonic()
        ready = [member for member in self._members if member.ready]
        self.time.ready_s += len(ready) * (now - self._ticked)
        self.time.busy_s += sum(member.task is not None for member in ready) * (now - self._ticked)
        self._ticked = now


def _first_line(error: RayError) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"

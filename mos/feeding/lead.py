"""Plan of the producers, what to encode and to drop: the lead over the trainer, window by window, bounded in bytes.

Nothing in here is remembered between runs: the windows follow from the plan, what is encoded from the table, the place
from the trainer. A trainer that begins again at an earlier step finds what is still there and gets the rest anew.
"""

import math
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from mos.errors import UserError

MOST_WINDOWS = 256
"""Windows planned beyond the trainer's, where all of them together are far below the bound."""


@dataclass(frozen=True)
class Task:
    """Contexts that one producer encodes and writes together."""

    window: int
    """The first window that needs them."""
    contexts: tuple[int, ...]


@dataclass(frozen=True)
class LeadRule:
    """Bound on how far producers run ahead."""

    num_windows: int
    max_bytes: float
    """Of encoded states that the trainer has not consumed; with `drop`, of all that stand in the queue."""
    drop: bool
    """Whether consumed contexts are dropped from the table."""


class Lead:
    """The producers' side of a stage's windows.

    Args:
        demand: distinct contexts of a window.
        cut: cuts contexts of a window into those of single tasks.
        rule: bounds.
        present: contexts in the table, with their bytes.
        pinned: contexts that are encoded first and never dropped.
    """

    def __init__(
        self,
        demand: Callable[[int], list[int]],
        cut: Callable[[list[int]], list[list[int]]],
        rule: LeadRule,
        present: Mapping[int, float],
        pinned: Collection[int] = (),
    ) -> None:
        self.window = 0
        """Where the trainer is."""
        self.most_bytes = 0.0
        """The largest lead so far."""
        self._demand = demand
        self._cut = cut
        self._rule = rule
        self._present = dict(present)
        self._pinned = tuple(pinned)
        self._largest = max(present.values(), default=0.0)
        self._running: set[int] = set()
        self._begin(0)

    @property
    def held_bytes(self) -> float:
        """Bytes in the table that count against the bound."""
        return sum(self._present.values()) if self._rule.drop else self._claimed_bytes()

    @property
    def all_planned(self) -> bool:
        """True if every window to the end of the stage is in the table or being encoded."""
        return self._planned >= self._rule.num_windows and not self._todo

    def missing(self) -> int:
        """Contexts of the trainer's own window that are not in the table yet."""
        return len(self._own - self._present.keys())

    def follow(self, window: int) -> list[int]:
        """The trainer has come to a window; returns the contexts to drop from the table."""
        if window == self.window:
            return []
        if window < self.window or window > self._planned:
            self._begin(window)
            return []
        return self._advance(window)

    def next_task(self) -> Task | None:
        """Next contexts to encode; None where the lead is full, or the stage's end is planned.

        Raises:
            UserError: not even one window fits the bound.
        """
        ahead = self._planned - self.window
        if not self._todo and ahead <= MOST_WINDOWS and self._claimed_bytes() < self._rule.max_bytes:
            self._plan_window()
        if not self._todo:
            return None
        task = self._todo[0]
        if not self._fits(len(task.contexts)):
            if task.window == self.window and not self._running and not self._unclaimed():
                raise UserError(
                    f"a stream's lead of {self._rule.max_bytes / 1e6:.3g} MB does not hold one window (it has "
                    f"{self.held_bytes / 1e6:.3g} MB so far): raise states.lead_mb or lower states.window_steps"
                )
            return None
        self._todo.popleft()
        self._running |= set(task.contexts)
        return task

    def make_room(self) -> list[int]:
        """Contexts to drop from a full queue because no planned window needs them, such as those of an earlier run."""
        blocked = self._rule.drop and self._todo and not self._fits(len(self._todo[0].contexts))
        return self._drop(self._unclaimed()) if blocked else []

    def arrived(self, contexts: Sequence[int], num_bytes: float) -> None:
        """A task's contexts are in the table; none of them where the task gave no rows."""
        if not contexts:
            return
        self._running -= set(contexts)
        self._present.update(dict.fromkeys(contexts, num_bytes / len(contexts)))
        self._largest = max(self._largest, num_bytes / len(contexts))
        self.most_bytes = max(self.most_bytes, self.held_bytes)

    def _begin(self, window: int) -> None:
        """Plan anew from a window on; what is in the table or being encoded is claimed as windows are planned."""
        self.window = self._planned = window
        self._last: dict[int, float] = {}
        self._todo: deque[Task] = deque()
        self._own: set[int] = set()
        self._claim(list(self._pinned), window, math.inf)
        self._plan_window()

    def _advance(self, window: int) -> list[int]:
        self.window = window
        consumed = [context for context, last in self._last.items() if last < window]
        for context in consumed:
            del self._last[context]
        tasks = (Task(task.window, tuple(c for c in task.contexts if c in self._last)) for task in self._todo)
        self._todo = deque(Task(max(task.window, window), task.contexts) for task in tasks if task.contexts)
        if window == self._planned:
            self._plan_window()
        else:
            self._own = {*self._demand(window), *self._pinned}
        # A window planned just now may have claimed some of them again.
        gone = [context for context in consumed if context in self._present and context not in self._last]
        return self._drop(gone) if self._rule.drop else []

    def _plan_window(self) -> None:
        window = self._planned
        if window >= self._rule.num_windows:
            return
        wanted = self._demand(window)
        if window == self.window:
            self._own = {*wanted, *self._pinned}
        self._claim(wanted, window, window)
        self._planned += 1

    def _claim(self, contexts: list[int], window: int, last: float) -> None:
        """Keep these until a window is over, and encode what is neither there nor on its way."""
        queued = {context for task in self._todo for context in task.contexts}
        for context in contexts:
            self._last[context] = max(self._last.get(context, -1), last)
        new = [c for c in contexts if c not in self._present and c not in self._running and c not in queued]
        self._todo.extend(Task(window, tuple(part)) for part in self._cut(new) if part)

    def _claimed_bytes(self) -> float:
        return sum(self._present.get(context, 0.0) for context in self._last)

    def _unclaimed(self) -> list[int]:
        return [context for context in self._present if context not in self._last] if self._rule.drop else []

    def _drop(self, contexts: list[int]) -> list[int]:
        for context in contexts:
            del self._present[context]
        return contexts

    def _fits(self, num_contexts: int) -> bool:
        """True if so many more contexts keep to the bound, each as large as those of the largest task so far."""
        if not self._largest:
            return not self._running
        return self.held_bytes + (len(self._running) + num_contexts) * self._largest <= self._rule.max_bytes

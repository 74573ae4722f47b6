"""A run of measurements on a device: the time it may take, what it found, and what it had to leave out."""

import gc
import time
from collections.abc import Callable, Iterable, Sequence

import torch

from tests.benchmarks.harness import Row


class Run:
    """Collects rows; a measurement that raises is named, and neither its earlier rows nor those of others are lost."""

    def __init__(self, seconds: float, keep: Callable[[Sequence[Row]], object]) -> None:
        """Start the clock.

        Args:
            seconds: what the whole run may take.
            keep: writes the rows found so far, after every measurement.
        """
        self._end = time.monotonic() + seconds
        self._keep = keep
        self.rows: dict[str, Row] = {}
        """By id; a later row of an id takes the place of the earlier one."""
        self.skipped: list[str] = []

    def allows(self, what: str, seconds: float) -> bool:
        """Whether `what` still fits; if not, it is noted as skipped."""
        fits = time.monotonic() + seconds < self._end
        if not fits:
            self.skip(what, "out of time")
        return fits

    def skip(self, what: str, why: str) -> None:
        """Note and print what is not measured."""
        self.skipped.append(f"{what}: {why}")
        print(f"skipped {what}: {why}", flush=True)

    def measure(self, what: str, seconds: float, rows: Callable[[], Iterable[Row]]) -> None:
        """Collect rows from an emptied device, if the time allows.

        Args:
            what: named where it is skipped.
            seconds: it takes at most, by estimate.
            rows: yields each as soon as it stands.
        """
        if not self.allows(what, seconds):
            return
        self.attempt(what, lambda: self._collect(rows))
        self._keep(list(self.rows.values()))

    def attempt(self, what: str, action: Callable[[], None]) -> None:
        """Do it; what it raises is noted: compilers and peers raise errors of any kind, each costs its rows alone."""
        try:
            action()
        except Exception as error:
            self.skip(what, f"{type(error).__name__}: {str(error)[:400]}")

    def _collect(self, rows: Callable[[], Iterable[Row]]) -> None:
        free()
        for row in rows():
            self.rows[row.id] = row


def free() -> None:
    """Give back what earlier measurements held: models hang in reference cycles, compiled code in torch's caches."""
    torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

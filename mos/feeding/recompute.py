"""Hidden states from a tower beside the trainer: encoded when they are asked for, stored nowhere."""

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
from torch import Tensor

from mos.errors import UserError
from mos.states.packed import PackedStates
from mos.states.payload import StateCodec
from mos.tables.payloads import RowCache

Encode = Callable[[list[dict], dict[str, str]], Iterator[tuple[str, Tensor]]]
"""CONTEXT_TASKS and a dict for failures in; key and all m + 1 states of each context out, in any order."""


class RecomputedStates:
    """States as a table in the same codec would give them, to the last bit.

    Args:
        contexts: of the stage, CONTEXT_TASKS.
        encode: the tower.
        codec: of the table that is stood in for: what it loses is lost here, too.
        layers: hidden states of the tower to give, ascending, among those the codec holds.
        cache: where the first states are kept.
    """

    def __init__(
        self, contexts: pa.Table, encode: Encode, codec: StateCodec, layers: tuple[int, ...], cache: RowCache
    ) -> None:
        self._contexts = contexts
        self._encode = encode
        self._codec = codec
        self._places = [codec.layers.index(layer) for layer in layers]
        self._cache = cache

    def extend(self, contexts: pa.Table) -> None:
        """Know more contexts from now on, CONTEXT_TASKS that begin with those known."""
        self._contexts = contexts

    def read(self, rows: Iterable[int]) -> list[PackedStates]:
        """States of contexts by their numbers, in the order given; not to be written to.

        Raises:
            UserError: a context cannot be encoded.
        """
        wanted = list(rows)
        found: dict[int, PackedStates] = {}
        for number in dict.fromkeys(wanted):
            cached = self._cache.get(("recomputed", number))
            if cached is not None:
                found[number] = cached
        missing = [number for number in dict.fromkeys(wanted) if number not in found]
        if missing:
            found |= self._recompute(missing)
        return [found[number] for number in wanted]

    def _recompute(self, numbers: list[int]) -> dict[int, PackedStates]:
        tasks = self._contexts.take(numbers).to_pylist()
        number_of = {task["context_key"]: number for task, number in zip(tasks, numbers, strict=True)}
        failures: dict[str, str] = {}
        found = {number_of[key]: self._through_codec(states) for key, states in self._encode(tasks, failures)}
        refuse_failures(failures)
        for number, states in found.items():
            self._cache.put(("recomputed", number), states)
        return found

    def _through_codec(self, states: Tensor) -> PackedStates:
        return self._codec.quantise(states).to("cpu").select(self._places)


def refuse_failures(failures: dict[str, str]) -> None:
    """Raise `UserError` where a context of a stage cannot be encoded; a finished table would leave its samples out."""
    if failures:
        key, reason = next(iter(failures.items()))
        raise UserError(
            f"{len(failures)} contexts cannot be encoded, among them {key[:12]} ({reason}): exclude their samples with "
            'the stage\'s filter, or set states = { type = "cache" }, which leaves them out'
        )

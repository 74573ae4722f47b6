"""How many bytes a computation holds at most, found without running it.

Its own code runs on tensors that have shapes and no values, and those that are alive at one time are counted: nothing
is computed, and no memory is taken. What kernels and allocators take beside the tensors is not known.
"""

import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Made = TypeVar("Made")


def peak_bytes(run: Callable[[], object]) -> int:
    """Most bytes that the tensors which `run` makes hold at one time.

    Args:
        run: makes all that is to count, its inputs among them, in the call. What it finds made, such as the weights of
            a model, does not count.
    """
    return peak_bytes_beside(lambda: None, lambda _: run())


def peak_bytes_beside(make: Callable[[], Made], run: Callable[[Made], object]) -> int:
    """As `peak_bytes`, beside what `make` makes, without values as well: a model too large for this machine."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # a second to import

    live = _LiveBytes()
    with FakeTensorMode(allow_non_fake_inputs=True):
        made = make()
        with live:
            run(made)
    return live.peak


class _LiveBytes(TorchDispatchMode):
    """Counts the storages that operations return, until the last tensor on each is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._known: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if not any(result.alias_info for result in func._schema.returns):  # views share what is counted, or a weight
            for tensor in tree_leaves(made):
                if isinstance(tensor, Tensor):
                    self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        size = storage.nbytes()
        self._known[storage] = size
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self._now -= size

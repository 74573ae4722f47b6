"""States of a batch as they lie in memory: ragged, row-addressed `[token][layer][dim]`, quantised or not.

Row r = token * layers + layer; a kernel finds the codes, the scales and the massive values of a picked (token, layer)
at r times their row length and dequantises that row alone.

Dimension key
    batch    contexts
    token    tokens of all contexts, one after the other, padding never
    layer    hidden states held per token
    dim      width of the tower
    code     dim for bf16 and int8, dim / 2 for int4
    group    ceil(dim / channels per group)
    massive  channels per layer whose values are kept exactly
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
import torch
from jaxtyping import BFloat16, Int, Shaped, UInt8
from torch import Tensor

from mos.states.calibration import Calibration

FormatName = Literal["bf16", "int8", "int4"]

GROUP = {"int8": 64, "int4": 32}
"""Neighbouring channels that share a scale; the last group of a row may be shorter."""
NO_SCALE = 255
"""Scale of a group with a value that is not finite, or too large for any scale."""
LARGEST_CODE = {"int8": 127, "int4": 7}
"""Codes lie in [-largest, largest]."""


@dataclass(frozen=True)
class PackedStates:
    """Hidden states of a batch of contexts.

    `bf16` holds the states themselves in `codes`. A quantised value is

        mean[layer, channel] + std[layer, channel] * 2 ** ((scale - 128) / 8) * code

    with the scale of its group, where scale 0 means that all codes of the group are 0; the layer's massive channels are
    then overwritten by their exact values. int4 stores code + 8 in nibbles: channel 2i in the low one of byte i,
    channel 2i + 1 in the high one. int8's scales are the smallest that clip no value; int4's may be two finer, where
    that lowers a group's squared error. `mos.states.quantise` is the arithmetic.
    """

    format: FormatName
    offsets: Int[Tensor, " batch+1"]
    """Context b owns the tokens offsets[b] to offsets[b + 1]; starts at 0, ends at `token`."""
    codes: Shaped[Tensor, "token layer code"]
    """bf16 (`bf16`), int8 (`int8`) or uint8 (`int4`)."""
    scales: UInt8[Tensor, "token layer group"] | None = None
    """One step per group; None for `bf16`."""
    massive: BFloat16[Tensor, "token layer massive"] | None = None
    """Values of the massive channels, in the calibration's order; None for `bf16`."""
    calibration: Calibration | None = None
    """Of the table the states came from; None for `bf16`."""

    @property
    def num_layers(self) -> int:
        """Hidden states held per token."""
        return self.codes.shape[1]

    @property
    def dim(self) -> int:
        """Width of the tower."""
        return self.codes.shape[2] * (2 if self.format == "int4" else 1)

    @property
    def nbytes(self) -> int:
        """Bytes of the planes, the calibration apart."""
        return sum(plane.nbytes for plane in (self.codes, self.scales, self.massive) if plane is not None)

    def is_finite(self) -> bool:
        """True if every state is a number; waits for the device."""
        if self.format == "bf16":
            return _is_finite(self.codes)
        assert self.scales is not None, "quantised states have scales"
        assert self.massive is not None, "quantised states have massive values"
        return bool((self.scales != NO_SCALE).all()) and _is_finite(self.massive)

    def zeros(self) -> Self:
        """As many states of as many contexts, all alike: quantised ones are the calibration's mean."""
        return self._with(torch.zeros_like)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The same on another device; the flag is that of `Tensor.to`."""
        moved = self._with(lambda plane: plane.to(device, non_blocking=non_blocking))
        calibration = None if self.calibration is None else self.calibration.to(device)
        return replace(moved, offsets=self.offsets.to(device, non_blocking=non_blocking), calibration=calibration)

    def select(self, layers: list[int] | slice) -> Self:
        """Some of the layers, by their place in this one; a slice shares memory and does not make a GPU wait."""
        calibration = None if self.calibration is None else self.calibration.select(layers)
        return replace(self._with(lambda plane: plane[:, layers]), calibration=calibration)

    def pin_memory(self) -> Self:
        """The same in pinned memory, the calibration apart: a GPU fetches it while others work."""
        return replace(self._with(Tensor.pin_memory), offsets=self.offsets.pin_memory())

    def clone(self) -> Self:
        """The same in memory of its own, the calibration apart."""
        return self._with(Tensor.clone)

    def tokens(self, start: int, end: int, offsets: Int[Tensor, " bounds"]) -> Self:
        """The contexts that own the tokens from start to end, sharing this one's memory; `offsets` are theirs."""
        return replace(self._with(lambda plane: plane[start:end]), offsets=offsets)

    def _with(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same with every plane changed."""
        scales = None if self.scales is None else change(self.scales)
        massive = None if self.massive is None else change(self.massive)
        return replace(self, codes=change(self.codes), scales=scales, massive=massive)


def concatenate(batch: Sequence[PackedStates]) -> PackedStates:
    """One batch of several, in order.

    Raises:
        ValueError: nothing was given, or formats or calibrations differ: states of different tables do not mix.
    """
    if not batch:
        raise ValueError("a batch of states needs at least one context")
    first = batch[0]
    for other in batch:
        same = other.calibration is first.calibration or _equal(other.calibration, first.calibration)
        if other.format != first.format or not same:
            raise ValueError("states of different tables do not mix in one batch")
    starts = [0]
    for part in batch:
        starts += [starts[-1] + offset for offset in part.offsets[1:].tolist()]
    return replace(
        first,
        offsets=first.offsets.new_tensor(starts),
        codes=torch.cat([part.codes for part in batch]),
        scales=_cat([part.scales for part in batch]),
        massive=_cat([part.massive for part in batch]),
    )


def take(states: PackedStates, contexts: Sequence[int]) -> PackedStates:
    """Some of a batch's contexts, by number, in that order and as often as they are named."""
    bounds = states.offsets.tolist()
    if list(contexts) == list(range(len(bounds) - 1)):
        return states
    spans = [(bounds[context], bounds[context + 1]) for context in contexts]
    offsets = states.offsets.new_tensor
    return concatenate([states.tokens(start, end, offsets([0, end - start])) for start, end in spans])


def _is_finite(plane: BFloat16[Tensor, "token layer value"]) -> bool:
    """As `isfinite().all()`, ten times as fast on a CPU: a number is below the bits of infinity."""
    if plane.device.type != "cpu" or not plane.numel():
        return bool(plane.isfinite().all())
    bits = plane.contiguous().view(torch.int16).numpy()
    return bool(bits.max() < 0x7F80 and bits.view(np.uint16).max() < 0xFF80)


def _cat(planes: Sequence[Tensor | None]) -> Tensor | None:
    present = [plane for plane in planes if plane is not None]
    return torch.cat(present) if present else None


def _equal(one: Calibration | None, other: Calibration | None) -> bool:
    if one is None or other is None:
        return one is other
    pairs = ((one.mean, other.mean), (one.std, other.std), (one.massive, other.massive))
    return all(torch.equal(left, right) for left, right in pairs)

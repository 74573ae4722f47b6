"""Context of the generation tower: hidden states of the understanding tower, for contexts of any lengths in one batch.

No padding is stored, mixed or projected: a batch of contexts is its tokens, one context after the other, and a layout
that says whose they are. Padding appears where tokens of one sample meet: in the router, in the baseline of
cross-attention, and in attention where the flash kernel of variable lengths does not run.

Dimension key
    batch  samples                    bounds  batch + 1
    token  tokens of all contexts, one context after the other
    ctx    context tokens, padded to the longest of the batch
    layers m + 1 hidden states: index 0 is the tower's input embedding, 1..m its layers
    dim    width of the understanding tower
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from mos.states.norms import inverse_rms
from mos.states.packed import PackedStates
from mos.states.quantise import dequantise


class ContextLayout(NamedTuple):
    """Bounds of each sample's tokens. A tuple of tensors, so that torch.compile and FSDP see through it."""

    offsets: Int[Tensor, " bounds"]
    """Sample b owns the tokens offsets[b] to offsets[b + 1]; starts at 0, ends at `token`."""
    mask: Bool[Tensor, "batch ctx"]
    """True at real tokens of the padded batch."""
    rows: Int[Tensor, " token"]
    """Place of every token in the padded batch, counted row by row."""

    @classmethod
    def of(cls, offsets: Int[Tensor, " bounds"]) -> "ContextLayout":
        """The layout of contexts on the CPU, padded to the longest."""
        lengths = offsets.diff()
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        return cls(offsets, mask, mask.flatten().nonzero()[:, 0])

    def pad(self, tokens: Shaped[Tensor, " token *rest"]) -> Shaped[Tensor, " batch ctx *rest"]:
        """Give tokens their places in the padded batch; the others are zero."""
        padded = tokens.new_zeros(self.mask.numel(), *tokens.shape[1:])
        return padded.index_copy(0, self.rows, tokens).unflatten(0, self.mask.shape)

    def unpad(self, padded: Shaped[Tensor, " batch ctx *rest"]) -> Shaped[Tensor, " token *rest"]:
        """The real tokens of a padded batch."""
        return padded.flatten(0, 1)[self.rows]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "ContextLayout":
        """Move to a device; the flag is that of `Tensor.to`."""
        return ContextLayout(*(part.to(device, non_blocking=non_blocking) for part in self))


@dataclass(frozen=True)
class Context:
    """All hidden states of a batch of contexts (paper eq. 2)."""

    states: Float[Tensor, "token layers dim"] | PackedStates
    """Index 0 of `layers` is the router's view, 1..m can be routed; as a tower gives them, or as tables keep them:
    quantised states are dequantised as they are mixed, on a GPU the picked ones alone."""
    layout: ContextLayout

    @classmethod
    def of(cls, contexts: Sequence[Float[Tensor, "_ layers dim"]] | PackedStates) -> "Context":
        """A batch on the CPU: a tensor for each sample, one or more, or the packed states of all."""
        if isinstance(contexts, PackedStates):
            return cls(contexts, ContextLayout.of(contexts.offsets))
        lengths = torch.tensor([0, *(len(states) for states in contexts)])
        return cls(torch.cat(list(contexts)), ContextLayout.of(lengths.cumsum(0)))

    @property
    def embedding(self) -> Float[Tensor, "batch ctx dim"]:
        """The router's view of the contexts, padded."""
        if isinstance(self.states, PackedStates):
            return self.layout.pad(dequantise(self.states.select(slice(1)))[:, 0])
        return self.layout.pad(self.states[:, 0])

    @cached_property
    def inverse_rms(self) -> Float[Tensor, "token layer"]:
        """1 / rms of hidden states 1..m, which brings them to unit size; kept, since it is the same at every step."""
        routed = slice(1, None)
        return inverse_rms(self.states[:, routed] if isinstance(self.states, Tensor) else self.states.select(routed))

    def __len__(self) -> int:
        return len(self.layout.mask)

    def __getitem__(self, samples: slice) -> "Context":
        """Consecutive samples, padded as far as all were; reads where they begin, so do it on the CPU."""
        first, last, _ = samples.indices(len(self))
        offsets = self.layout.offsets[first : last + 1]
        start, end = int(offsets[0]), int(offsets[-1])
        mask, offsets = self.layout.mask[first:last], offsets - start
        rows = self.layout.rows[start:end] - first * mask.shape[1]
        layout = ContextLayout(offsets, mask, rows)
        if isinstance(self.states, PackedStates):
            return Context(self.states.tokens(start, end, offsets), layout)
        return Context(self.states[start:end], layout)

    def pin_memory(self) -> "Context":
        """The same in pinned memory."""
        return Context(self.states.pin_memory(), ContextLayout(*(part.pin_memory() for part in self.layout)))

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None, non_blocking: bool = False) -> "Context":
        """Move to a device and, where given, cast states that are not packed; the flag is that of `Tensor.to`."""
        layout = self.layout.to(device, non_blocking)
        if isinstance(self.states, PackedStates):
            return Context(self.states.to(device, non_blocking), layout)
        return Context(self.states.to(device, dtype, non_blocking=non_blocking), layout)

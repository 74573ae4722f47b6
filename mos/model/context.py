"""What the generation side is told: hidden states of the understanding tower, for ragged contexts in one batch.

Dimension key
    batch  samples
    token  tokens of all contexts, one after the other
    ctx    context tokens, padded to the longest of the batch
    layers m + 1 hidden states: index 0 is the tower's input embedding, 1..m its layers
    dim    width of the understanding tower
"""

import itertools
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mos.states.packed import PackedStates
from mos.states.quantise import dequantise


@dataclass(frozen=True)
class Context:
    """All hidden states of a batch of contexts (paper eq. 2)."""

    states: Float[Tensor, "batch ctx layers dim"]
    """Index 0 of `layers` is the router's view, 1..m can be routed. Padding holds zeros."""
    mask: Bool[Tensor, "batch ctx"]
    """True at real tokens."""

    @classmethod
    def pad(cls, states: list[Float[Tensor, "_ layers dim"]]) -> "Context":
        """Stack ragged samples, padding with zeros behind the last token of each."""
        lengths = torch.tensor([len(sample) for sample in states])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        return cls(torch.nn.utils.rnn.pad_sequence(states, batch_first=True), mask)

    @property
    def embedding(self) -> Float[Tensor, "batch ctx dim"]:
        """The router's view of the contexts."""
        return self.states[:, :, 0]

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Context":
        """Move to a device and, where given, cast the states."""
        return Context(self.states.to(device, dtype), self.mask.to(device))


@dataclass(frozen=True)
class RaggedContext:
    """The same as it is kept in tables: without padding, quantised or not. Layers are dequantised as they are mixed."""

    packed: PackedStates
    mask: Bool[Tensor, "batch ctx"]
    """True at real tokens of the padded batch that a context becomes once its states are mixed."""
    rows: Int[Tensor, " token"]
    """Place of every token in the padded batch, counted row by row."""

    @classmethod
    def of(cls, packed: PackedStates) -> "RaggedContext":
        """The contexts of a batch; on the CPU, since lengths are read."""
        lengths = torch.tensor([end - start for start, end in itertools.pairwise(packed.offsets.tolist())])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        return cls(packed, mask, mask.flatten().nonzero()[:, 0])

    @property
    def embedding(self) -> Float[Tensor, "batch ctx dim"]:
        """The router's view of the contexts."""
        return self.pad(dequantise(self.packed.select(slice(1)))[None, :, 0])[0]

    def pad(self, tokens: Float[Tensor, "block token dim"]) -> Float[Tensor, "block batch ctx dim"]:
        """Give tokens their places in the padded batch; the others are zero."""
        padded = tokens.new_zeros(len(tokens), self.mask.numel(), tokens.shape[-1])
        return padded.index_copy(1, self.rows, tokens).unflatten(1, self.mask.shape)

    def to(self, device: torch.device | str) -> "RaggedContext":
        """Move to a device."""
        return replace(self, packed=self.packed.to(device), mask=self.mask.to(device), rows=self.rows.to(device))

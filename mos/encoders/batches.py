"""Forward passes of a shape that no neighbour changes, so that a context's states are the same to the last bit.

The sums inside a matrix product depend on the shape of the whole batch. Contexts are therefore padded to a multiple of
a step that is their own, meet only contexts of that length, and share a pass with a fixed number of rows, filled up
with copies. Cache, stream and recomputed states are then equal bit by bit, whatever else was encoded beside them.

Dimension key
    batch  rows of one forward pass
    ctx    tokens, padded on the right
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class PassShape:
    """Fixed shape of every forward pass of a tower."""

    rows: int
    """Contexts of a pass, copies included."""
    step: int
    """Lengths are padded to a multiple of this many tokens."""


@dataclass(frozen=True)
class Pass:
    """One forward pass."""

    indices: list[int]
    """Contexts it encodes, by their index in the list that was given."""
    rows: list[int]
    """The same, filled up to the fixed number of rows with copies of the first."""
    length: int
    """Tokens of every row, padding included."""


def plan_passes(lengths: Sequence[int], kinds: Sequence[Hashable], shape: PassShape) -> list[Pass]:
    """Group contexts by padded length and kind, and cut each group into passes; longest first.

    Args:
        lengths: tokens of each context.
        kinds: what else must be alike within a pass, such as whether there is an image.
        shape: of the tower.
    """
    groups: dict[tuple[int, Hashable], list[int]] = {}
    for index, (length, kind) in enumerate(zip(lengths, kinds, strict=True)):
        padded = length + -length % shape.step
        groups.setdefault((padded, kind), []).append(index)
    passes = []
    for (padded, _), indices in sorted(groups.items(), key=lambda group: (-group[0][0], group[1])):
        for start in range(0, len(indices), shape.rows):
            part = indices[start : start + shape.rows]
            passes.append(Pass(part, part + part[:1] * (shape.rows - len(part)), padded))
    return passes


def pad_tokens(
    token_ids: Sequence[Sequence[int]], length: int, pad_id: int
) -> tuple[Int[Tensor, "batch ctx"], Int[Tensor, "batch ctx"]]:
    """Token ids and attention mask of one pass, padded on the right to `length`."""
    ids = torch.full((len(token_ids), length), pad_id)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(token_ids):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    return ids, mask

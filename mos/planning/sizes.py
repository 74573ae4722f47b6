"""Bytes of a context's hidden states in each format of a table, by formula (layout: `mos.states.packed`)."""

from dataclasses import dataclass

from mos.planning.tokens import TokenHistogram
from mos.states.packed import GROUP, FormatName
from mos.states.payload import ALIGNMENT

EXPONENT_AT_REST = 0.4
"""Bytes that a bf16 value's exponent takes at rest, of one: 0.70 on both planes, measured on MiniLM's states."""


@dataclass(frozen=True)
class StatesShape:
    """Hidden states that a table holds of every token."""

    layers: int
    """Hidden states held: m + 1, or fewer where a table holds a subset."""
    dim: int
    """Width of the tower."""
    massive: int = 4
    """Massive channels kept exactly per layer, at most."""

    def raw(self, tokens: float) -> float:
        """Bytes in memory as plain bf16."""
        return 2.0 * tokens * self.layers * self.dim


def at_rest(format: FormatName, tokens: float, shape: StatesShape) -> float:
    """Bytes of one context in a table: the planes of its rows, each at an aligned place."""
    rows = tokens * shape.layers
    match format:
        case "bf16":
            return _aligned(rows * shape.dim, EXPONENT_AT_REST * rows * shape.dim)
        case "int8":
            return _aligned(rows * shape.dim, *_beside_codes(rows, shape, GROUP[format]))
        case "int4":
            return _aligned(rows * shape.dim / 2, *_beside_codes(rows, shape, GROUP[format]))


def mean_at_rest(format: FormatName, tokens: TokenHistogram, shape: StatesShape) -> float:
    """Mean bytes of a context in a table."""
    pairs = zip(tokens.lengths, tokens.shares, strict=True)
    return sum(share * at_rest(format, length, shape) for length, share in pairs)


def _beside_codes(rows: float, shape: StatesShape, group: int) -> tuple[float, float]:
    """Scales, one byte a group, and massive values, two bytes each."""
    return rows * -(-shape.dim // group), 2 * rows * shape.massive


def _aligned(*planes: float) -> float:
    """Planes behind each other, all but the last padded."""
    return sum(-(-plane // ALIGNMENT) * ALIGNMENT for plane in planes[:-1]) + planes[-1]

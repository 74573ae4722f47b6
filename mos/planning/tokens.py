"""How long contexts are: a small histogram of tokens per context."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class TokenHistogram:
    """Share of the contexts with each number of tokens."""

    lengths: tuple[int, ...]
    """Tokens, ascending, special tokens included."""
    shares: tuple[float, ...]
    """Share of each length; they sum to 1."""

    @classmethod
    def of(cls, pairs: Iterable[Sequence[float]]) -> Self:
        """From (tokens, weight) pairs of any scale.

        Raises:
            ValueError: there is no pair of positive weight.
        """
        weights: Counter[int] = Counter()
        for tokens, weight in pairs:
            weights[int(tokens)] += weight  # type: ignore[assignment]
        lengths = tuple(sorted(length for length, weight in weights.items() if weight > 0))
        if not lengths:
            raise ValueError("a token histogram needs at least one length with a positive weight")
        total = sum(weights[length] for length in lengths)
        return cls(lengths, tuple(weights[length] / total for length in lengths))

    @property
    def mean(self) -> float:
        """Mean tokens of a context."""
        return sum(length * share for length, share in zip(self.lengths, self.shares, strict=True))

    def quantile(self, q: float) -> int:
        """The smallest length that a share of at least q of the contexts does not exceed."""
        reached = 0.0
        for length, share in zip(self.lengths, self.shares, strict=True):
            reached += share
            if reached >= q - 1e-9:
                return length
        return self.lengths[-1]

    def padded_to(self, step: int) -> "TokenHistogram":
        """The same with every length rounded up to a multiple of `step`."""
        pairs = zip(self.lengths, self.shares, strict=True)
        return TokenHistogram.of((length + -length % step, share) for length, share in pairs)

    def tokens_in_passes(self, batch: int, rows: int) -> float:
        """Tokens computed for `batch` contexts drawn at random, expected.

        Contexts share a forward pass only with those of their length, and each pass has `rows` rows, filled up with
        copies: in a small batch most rows are copies.
        """
        pairs = zip(self.lengths, self.shares, strict=True)
        return sum(length * rows * _expected_passes(batch, share, rows) for length, share in pairs)

    def longer_by(self, tokens: int) -> "TokenHistogram":
        """The same with so many tokens more in every context."""
        return TokenHistogram(tuple(length + tokens for length in self.lengths), self.shares)

    def bars(self, bins: int = 8) -> str:
        """The histogram as a line of block characters, from the shortest to the longest context."""
        first, last = self.lengths[0], self.lengths[-1]
        heights = [0.0] * (bins if last > first else 1)
        for length, share in zip(self.lengths, self.shares, strict=True):
            heights[min(len(heights) - 1, (length - first) * len(heights) // max(1, last - first))] += share
        return "".join(BARS[round(height / max(heights) * (len(BARS) - 1))] for height in heights)


def _expected_passes(batch: int, share: float, rows: int) -> float:
    """E[ceil(n / rows)] for n of `batch` contexts, each with probability `share`."""
    if share >= 1 - 1e-12:
        return -(-batch // rows)
    n = np.arange(batch + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, batch + 1)))])
    log_chance = log_factorial[batch] - log_factorial - log_factorial[::-1]
    log_chance = log_chance + n * np.log(share) + (batch - n) * np.log1p(-share)
    return float((np.exp(log_chance) * -(-n // rows)).sum())

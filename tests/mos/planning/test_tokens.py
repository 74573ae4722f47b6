"""Histograms say what they were made of."""

import itertools
import math

import pytest

from mos.planning.tokens import TokenHistogram

TWO = TokenHistogram.of([(10, 1), (30, 2), (10, 1)])
"""Half of the contexts have 10 tokens, half 30."""


def test_weights_become_shares_in_order_of_length():
    tokens = TokenHistogram.of([(30, 3), (10, 0.5), (20, 0), (10, 0.5), (5, -1)])
    assert tokens.lengths == (10, 30)
    assert tokens.shares == (0.25, 0.75)
    assert tokens.mean == 25


@pytest.mark.parametrize("pairs", [[], [(10, 0)], [(10, -1), (12, 0)]])
def test_nothing_makes_no_histogram(pairs):
    with pytest.raises(ValueError, match="at least one length with a positive weight"):
        TokenHistogram.of(pairs)


def test_quantiles_are_lengths_that_occur():
    assert [TWO.quantile(q) for q in (0, 0.5, 0.51, 1)] == [10, 10, 30, 30]
    tenths = TokenHistogram.of([(length, 1) for length in range(1, 11)])
    assert [tenths.quantile(tenth / 10) for tenth in range(1, 11)] == list(range(1, 11))


def test_padding_brings_lengths_together():
    assert TWO.padded_to(8).lengths == (16, 32)
    assert TokenHistogram.of([(9, 1), (16, 1), (17, 2)]).padded_to(8) == TokenHistogram((16, 24), (0.5, 0.5))


def test_longer_contexts_keep_their_shares():
    assert TWO.longer_by(5) == TokenHistogram((15, 35), (0.5, 0.5))


def test_passes_are_filled_up_with_copies():
    assert TWO.tokens_in_passes(1, rows=4) == pytest.approx(4 * 20)
    assert TWO.tokens_in_passes(2, rows=4) == pytest.approx(0.25 * 40 + 0.25 * 120 + 0.5 * 160)
    assert TokenHistogram.of([(9, 3)]).tokens_in_passes(5, rows=4) == 72


@pytest.mark.parametrize(("batch", "rows"), [(1, 1), (4, 3), (5, 2), (6, 8)])
def test_tokens_in_passes_are_the_mean_over_every_batch_there_can_be(batch, rows):
    tokens = TokenHistogram.of([(4, 5), (7, 3), (12, 2)])
    pairs = list(zip(tokens.lengths, tokens.shares, strict=True))
    expected = 0.0
    for drawn in itertools.product(pairs, repeat=batch):
        lengths = [length for length, _ in drawn]
        computed = sum(length * rows * math.ceil(lengths.count(length) / rows) for length in set(lengths))
        expected += computed * math.prod(share for _, share in drawn)
    assert tokens.tokens_in_passes(batch, rows) == pytest.approx(expected)


def test_copies_vanish_in_a_large_batch():
    assert TWO.tokens_in_passes(1000, rows=4) == pytest.approx(1000 * 20, rel=0.01)
    assert TWO.tokens_in_passes(7, rows=1) == pytest.approx(7 * 20)
    rare = TokenHistogram.of([(10, 1e6), (500, 1)])
    assert rare.tokens_in_passes(100_000, rows=1) == pytest.approx(100_000 * rare.mean, rel=1e-6)


def test_bars_run_from_the_shortest_to_the_longest():
    assert TWO.bars(4) == "█▁▁█"
    assert TokenHistogram.of([(0, 7), (50, 2), (99, 1)]).bars(2) == "█▄"
    assert TokenHistogram.of([(9, 3)]).bars() == "█"

"""Question lengths: drawn from the data's distribution, and corrected for when samples are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def draw_lengths(counts: Mapping[int, int], runs: int, *, seed: int) -> list[int]:
    """Return the lengths of `runs` questions; `counts` maps a number of tokens to its number of questions in the data.

    They are the data's quantiles at even steps, in a seeded order, so that even 50 of them have the data's 90th
    percentile.
    """
    lengths = sorted(counts)
    ends = np.cumsum([counts[length] for length in lengths])
    ranks = (np.arange(runs) + 0.5) / runs * ends[-1]
    drawn = np.asarray(lengths)[np.searchsorted(ends, ranks, side="right")]
    return [int(length) for length in np.random.default_rng(seed).permutation(drawn)]


def at_one_length(values: Sequence[float], lengths: Sequence[int]) -> list[float]:
    """Return `values` corrected to the median length, or unchanged if there are no different lengths.

    The time of a token is the median slope between questions of different length (Theil 1950, Sen 1968), which single
    slow answers do not change.
    """
    if len(set(lengths)) < 2:
        return list(values)
    given, tokens = np.asarray(values, dtype=float), np.asarray(lengths, dtype=float)
    first, second = np.triu_indices(len(given), 1)
    is_different = tokens[first] != tokens[second]
    first, second = first[is_different], second[is_different]
    slope = np.median((given[second] - given[first]) / (tokens[second] - tokens[first]))
    return [float(value) for value in given - slope * (tokens - np.median(tokens))]

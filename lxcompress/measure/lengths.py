"""The question's length: lengths drawn as the data has them, and samples compared as if all were of one length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def draw_lengths(counts: Mapping[int, int], runs: int, *, seed: int) -> list[int]:
    """Lengths of `runs` questions, where `counts` says how many questions of the data have how many tokens.

    They are the data's quantiles at even steps, in a seeded order: even 50 of them have the data's 90th percentile.
    """
    lengths = sorted(counts)
    ends = np.cumsum([counts[length] for length in lengths])
    places = (np.arange(runs) + 0.5) / runs * ends[-1]
    drawn = np.asarray(lengths)[np.searchsorted(ends, places, side="right")]
    return [int(each) for each in np.random.default_rng(seed).permutation(drawn)]


def at_one_length(values: Sequence[float], lengths: Sequence[int]) -> list[float]:
    """`values` as they would be if each question had the median length.

    What a token takes is the median slope between questions of unlike length (Theil 1950, Sen 1968), which no slow
    answer moves. Without lengths, or where all are the same, the values as they are.
    """
    if len(set(lengths)) < 2:
        return list(values)
    given, tokens = np.asarray(values, dtype=float), np.asarray(lengths, dtype=float)
    first, second = np.triu_indices(len(given), 1)
    is_unlike = tokens[first] != tokens[second]
    first, second = first[is_unlike], second[is_unlike]
    slope = np.median((given[second] - given[first]) / (tokens[second] - tokens[first]))
    return [float(each) for each in given - slope * (tokens - np.median(tokens))]

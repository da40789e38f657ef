"""The 95 % interval of a mean over seeds, by Student's t."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

LEVEL = 0.95


def interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float] | None:
    """Where the mean lies of which `values` are a sample, at `level`; None of one value, whose spread is not known."""
    if len(values) < 2:
        return None
    mean = statistics.fmean(values)
    reach = student_t(len(values) - 1, level) * statistics.stdev(values) / math.sqrt(len(values))
    return mean - reach, mean + reach


def student_t(freedom: int, level: float = LEVEL) -> float:
    """The t within which Student's distribution of so many degrees of freedom has the share `level`, both sides."""
    assert freedom >= 1, freedom
    assert 0 < level < 1, level
    low, high = 0.0, 1.0
    while share_within(high, freedom) < level:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if share_within(middle, freedom) < level else (low, middle)
    return high


def share_within(t: float, freedom: int) -> float:
    """The share of Student's distribution between -t and t, a finite sum (Abramowitz & Stegun 1964, 26.7.3 and 4)."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine = math.cos(angle)
    is_odd = freedom % 2
    term, total = (cosine, 0.0) if is_odd else (1.0, 0.0)
    for step in range(1 + is_odd, freedom, 2):
        total += term
        term *= cosine**2 * step / (step + 1)
    share = math.sin(angle) * total
    return 2 / math.pi * (angle + share) if is_odd else share

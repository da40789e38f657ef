"""The 95 % interval of a mean accuracy over seeds, by Student's t on the logit scale."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

LEVEL = 0.95


def interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float] | None:
    """Return where the mean lies of which `values`, 0-1, are a sample; None of one value, whose spread is not known.

    The ends are those of Student's interval of logit(mean), whose standard error is by the delta method that of the
    mean over mean * (1 - mean). So they stay within 0 to 1, however few the seeds. Source: the method xlogit of
    svyciprop in R's package survey (Lumley), which is also that of SUDAAN.
    """
    if len(values) < 2:
        return None
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    if not 0 < mean < 1 or not deviation:
        return mean, mean
    reach = student_t(len(values) - 1, level) * deviation / math.sqrt(len(values)) / (mean * (1 - mean))
    logit = math.log(mean / (1 - mean))
    return _from_logit(logit - reach), _from_logit(logit + reach)


def _from_logit(value: float) -> float:
    """Return the share whose logit is `value`."""
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0


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

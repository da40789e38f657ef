"""Statistics: percentiles, Student's t, confidence intervals, bootstrap resamples and the Pareto front."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeVar

import numpy as np

LEVEL = 0.95
RESAMPLES = 2000
MOST_FREEDOM = 1000
"""Degrees of freedom from which Student's t differs from the normal distribution by less than 0.1 %."""

Row = TypeVar("Row")
Coordinates = tuple[float, ...]

# Shapes: S resamples (or seeds), N values, Q questions.


@dataclass(frozen=True)
class Percentiles:
    """Percentiles and mean of samples, in their unit; `spread` is the interquartile range over the median."""

    p50: float
    p90: float
    p99: float
    mean: float
    spread: float


def percentiles(values: Sequence[float]) -> Percentiles:
    """Return the percentiles (linear between neighbours), mean and spread of one or more samples."""
    assert len(values) > 0, "a measurement holds at least one sample"
    p25, p50, p75, p90, p99 = (float(value) for value in np.percentile(values, [25, 50, 75, 90, 99]))
    return Percentiles(p50=p50, p90=p90, p99=p99, mean=float(np.mean(values)), spread=ratio(p75 - p25, p50))


def ratio(part: float, whole: float) -> float:
    """Return `part` over `whole`, or 0 where `whole` is 0."""
    return part / whole if whole else 0.0


def mean_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float] | None:
    """Return the confidence interval of the mean of a sample of shares, 0-1; None for a single value.

    It is Student's interval of logit(mean), so that its ends stay within 0 to 1 however few the values. The standard
    error of the logit is by the delta method that of the mean over mean * (1 - mean). Source: the method xlogit of
    svyciprop in R's package survey (Lumley), which SUDAAN uses too.
    """
    if len(values) < 2:
        return None
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    if not 0 < mean < 1 or not deviation:
        return mean, mean
    reach = student_t(len(values) - 1, level) * deviation / math.sqrt(len(values)) / (mean * (1 - mean))
    logit = math.log(mean / (1 - mean))
    return _from_logit(logit - reach), _from_logit(logit + reach)


def student_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float] | None:
    """Return Student's confidence interval of the mean of a sample; None for a single value."""
    if len(values) < 2:
        return None
    mean, reach = statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
    reach *= student_t(len(values) - 1, level)
    return mean - reach, mean + reach


def paired_interval(differences: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Return the confidence interval of the mean of `differences` [S, Q], of S seeds at the same Q questions.

    Other seeds and other questions would give another mean. So its reach is the root of the sum of two squares: the
    reach of Student's interval over the S means of seeds, and that over the Q means of questions. Both contain the
    noise of single answers, so the interval is a little wide: 94 to 99 of 100 hold the mean. With one seed only the
    questions count. Source: the sum of variance estimates recovered from their limits, Zou & Donner 2008.
    """
    mean, square = float(differences.mean()), 0.0
    for means in (differences.mean(1), differences.mean(0)):
        if len(means) > 1:
            freedom = min(MOST_FREEDOM, len(means) - 1)
            square += student_t(freedom, level) ** 2 * float(means.var(ddof=1)) / len(means)
    return mean - math.sqrt(square), mean + math.sqrt(square)


def _from_logit(value: float) -> float:
    """Return the share whose logit is `value`."""
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0


def student_t(freedom: int, level: float = LEVEL) -> float:
    """Return the t for which Student's distribution with `freedom` degrees has the share `level` within -t to t."""
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
    """Return the share of Student's distribution within -t to t, as a finite sum.

    Source: Abramowitz & Stegun 1964, 26.7.3 and 26.7.4.
    """
    angle = math.atan(t / math.sqrt(freedom))
    cosine = math.cos(angle)
    is_odd = freedom % 2
    term, total = (cosine, 0.0) if is_odd else (1.0, 0.0)
    for step in range(1 + is_odd, freedom, 2):
        total += term
        term *= cosine**2 * step / (step + 1)
    share = math.sin(angle) * total
    return 2 / math.pi * (angle + share) if is_odd else share


def resample(count: int, *, seed: int) -> np.ndarray:
    """Return the indices [S, N] of S bootstrap resamples; each draws N = `count` indices with replacement."""
    return np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))


def bootstrap_interval(estimates: np.ndarray, count: int, level: float = LEVEL) -> tuple[float, float]:
    """Return the percentile interval of the estimates [S] of resamples of `count` values.

    It is widened for a small `count` as Student's interval is. Source: Hesterberg 2015, What Teachers Should Know About
    the Bootstrap, section 5.3 (expanded percentiles).
    """
    reach = math.sqrt(count / (count - 1)) * student_t(count - 1, level)
    tail = NormalDist().cdf(-reach)
    low, high = np.quantile(estimates, [tail, 1 - tail])
    return float(low), float(high)


def pareto_front(rows: Sequence[Row], *, better: Callable[[Row], Coordinates]) -> list[Row]:
    """Return the rows that no other row dominates, in their order.

    `better` gives the coordinates of a row, of which smaller is better; infinity is allowed. Rows with equal
    coordinates do not dominate each other.
    """
    points = [better(row) for row in rows]
    assert len({len(point) for point in points}) <= 1, "rows are compared in the same coordinates"
    assert not any(value != value for point in points for value in point), "a coordinate is not a number"
    # In sorted order no later point dominates an earlier one, so a comparison with the front so far is enough.
    front: list[Coordinates] = []
    for point in sorted(set(points)):
        if not any(dominates(other, point) for other in front):
            front.append(point)
    on_front = set(front)
    return [row for row, point in zip(rows, points, strict=True) if point in on_front]


def dominates(one: Coordinates, other: Coordinates) -> bool:
    """Return whether `one` is as small as `other` in every coordinate, and smaller in at least one."""
    return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))

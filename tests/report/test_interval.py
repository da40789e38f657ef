"""Student's interval against the definition of his distribution, and against published quantiles."""

from __future__ import annotations

import math
import random

import pytest

from lxcompress.report.interval import interval, share_within, student_t

PUBLISHED = {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764, 9: 2.2622, 30: 2.0423, 120: 1.9799}


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 12, 29])
def test_the_share_is_the_integral_of_the_density(freedom):
    """By Simpson's rule over 2,000 steps."""
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    for t in (0.1, 0.9, 2.5, 6.0):
        step = t / 2000
        values = [scale * (1 + (step * n) ** 2 / freedom) ** (-(freedom + 1) / 2) for n in range(2001)]
        integral = step / 3 * (values[0] + values[-1] + 4 * sum(values[1:-1:2]) + 2 * sum(values[2:-1:2]))
        assert share_within(t, freedom) == pytest.approx(2 * integral, abs=1e-9)


@pytest.mark.parametrize("freedom", PUBLISHED)
def test_the_quantiles_are_the_published_ones(freedom):
    assert student_t(freedom) == pytest.approx(PUBLISHED[freedom], abs=1e-4)
    assert share_within(student_t(freedom, 0.9), freedom) == pytest.approx(0.9)


def test_nineteen_in_twenty_intervals_hold_the_mean():
    chance, hits = random.Random(0), 0
    for _ in range(4000):
        low, high = interval([chance.gauss(0.7, 0.02) for _ in range(3)])
        hits += low <= 0.7 <= high
    assert hits / 4000 == pytest.approx(0.95, abs=0.015)


def test_one_seed_has_no_interval():
    assert interval([0.7]) is None
    assert interval([0.7, 0.7]) == (0.7, 0.7)

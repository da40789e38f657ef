"""Student's interval against the definition of his distribution, and against published quantiles."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from lxcompress.stats import mean_interval, share_within, student_t

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
        low, high = mean_interval([chance.gauss(0.7, 0.02) for _ in range(3)])
        hits += low <= 0.7 <= high
    assert hits / 4000 == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("seed", range(200))
def test_an_interval_holds_the_mean_and_stays_within_0_and_1(seed):
    chance = random.Random(seed)
    values = [chance.choice((0.0, 1.0, 1e-9, 0.999999, chance.random())) for _ in range(chance.randint(2, 5))]
    low, high = mean_interval(values)
    assert 0 <= low <= sum(values) / len(values) + 1e-12
    assert sum(values) / len(values) - 1e-12 <= high <= 1


def test_of_little_spread_it_is_the_plain_interval_of_student():
    values = [0.721, 0.724, 0.7225, 0.723]
    mean, reach = sum(values) / 4, student_t(3) * statistics.stdev(values) / 2
    assert mean_interval(values) == pytest.approx((mean - reach, mean + reach), abs=2e-5)


def test_one_seed_has_no_interval():
    assert mean_interval([0.7]) is None
    assert mean_interval([0.7, 0.7]) == (0.7, 0.7)

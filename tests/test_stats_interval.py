"""Percentiles, and Student's interval against the definition of his distribution and published quantiles."""

from __future__ import annotations

import math
import random
import statistics

import numpy as np
import pytest

from lxcompress.stats import (
    bootstrap_interval,
    mean_interval,
    paired_interval,
    percentiles,
    ratio,
    share_within,
    student_interval,
    student_t,
)

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


@pytest.mark.parametrize(
    ("of_seed", "of_question", "of_both"), [(0.0, 1.0, 1.0), (0.1, 1.0, 1.0), (0.5, 0.0, 1.0), (0.0, 0.0, 1.0)]
)
def test_nineteen_in_twenty_paired_intervals_hold_the_mean(of_seed, of_question, of_both):
    """Also where seeds or questions alone make the noise; where both do, the interval may be wide."""
    draw, hits = np.random.default_rng(0), 0
    for _ in range(1000):
        noise = of_seed * draw.normal(size=(3, 1)) + of_question * draw.normal(size=(1, 60))
        low, high = paired_interval(0.3 + noise + of_both * draw.normal(size=(3, 60)))
        hits += low <= 0.3 <= high
    assert hits / 1000 >= 0.94


def test_a_paired_interval_of_one_seed_is_students_over_questions():
    values = np.array([[0.0, 1.0, 0.0, 1.0, 1.0, 0.3]])
    reach = student_t(5) * statistics.stdev(values[0]) / math.sqrt(6)
    assert paired_interval(values) == pytest.approx((values.mean() - reach, values.mean() + reach))


def test_a_paired_interval_without_differences_is_a_point():
    assert paired_interval(np.zeros((3, 5))) == (0, 0)
    assert paired_interval(np.full((1, 1), 0.5)) == (0.5, 0.5)


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


@pytest.mark.parametrize("level", [0.01, 0.3, 0.5, 0.99, 0.9999])
def test_the_quantile_is_the_inverse_of_the_share(level):
    for freedom in (1, 2, 5, 30):
        assert share_within(student_t(freedom, level), freedom) == pytest.approx(level, rel=1e-12)


@pytest.mark.parametrize(("freedom", "level"), [(0, 0.5), (3, 0.0), (3, 1.0), (3, 1.5)])
def test_no_other_share_or_freedom_has_a_quantile(freedom, level):
    with pytest.raises(AssertionError):
        student_t(freedom, level)


def test_a_mean_that_rounds_to_an_end_is_that_end():
    """The logit of 0 and of 1 does not exist, though the values differ by the last bit."""
    assert mean_interval([1.0, math.nextafter(1.0, 0.0)]) == (1.0, 1.0)
    assert mean_interval([0.0, math.nextafter(0.0, 1.0)]) == (0.0, 0.0)


def test_an_interval_beyond_the_range_of_floats_is_all_shares():
    assert mean_interval([0.0, 1.0], level=0.999) == (0.0, 1.0)


@pytest.mark.parametrize("freedom", [2, 9, 30])
def test_a_bootstrap_interval_reaches_as_far_as_student_s(freedom):
    """Of equally spaced estimates the quantile is the probability, whose normal score is Student's t."""
    low, high = bootstrap_interval(np.linspace(0, 1, 1001), freedom + 1)
    assert low == pytest.approx(1 - high)
    score = statistics.NormalDist().inv_cdf(high)
    assert score == pytest.approx(PUBLISHED[freedom] * math.sqrt((freedom + 1) / freedom), abs=1e-3)


@pytest.mark.parametrize("count", [2, 3, 10, 101])
def test_percentiles_are_those_of_the_standard_library(count):
    chance = random.Random(count)
    values = [chance.uniform(1, 5) for _ in range(count)]
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    found = percentiles(values)
    assert (found.p50, found.p90, found.p99) == pytest.approx((cuts[49], cuts[89], cuts[98]))
    assert found.mean == pytest.approx(statistics.fmean(values))
    assert found.spread == pytest.approx((cuts[74] - cuts[24]) / cuts[49])


def test_one_sample_is_every_percentile_and_none_has_no_percentile():
    assert set(vars(percentiles([3.0])).values()) == {3.0, 0.0}
    with pytest.raises(AssertionError, match="at least one sample"):
        percentiles([])


def test_a_part_of_nothing_is_nothing():
    assert (ratio(1.0, 4.0), ratio(1.0, 0.0)) == (0.25, 0.0)


def test_students_interval_of_a_mean_is_the_textbook_one():
    low, high = student_interval([1.0, 2.0, 3.0])
    assert (low, high) == (pytest.approx(2 - 4.3027 / math.sqrt(3), abs=1e-3), pytest.approx(2 + 2.4841, abs=1e-3))
    assert student_interval([2.0, 2.0]) == (2.0, 2.0)
    assert student_interval([1.0]) is None
    assert student_interval([1.0, 2.0, 3.0], 0.5)[1] < high

"""Laws of the measures of confidence: each equals a slow, obvious version, and has the value that its source names."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from lxcompress.confidence.measures import (
    area_under_risk,
    calibration_error,
    count_changes,
    excess_area,
    majority_rate,
    pair_accuracy,
    risk_at_coverage,
    risk_curve,
    widest_coverage,
)

RANDOM = np.random.default_rng(0)


def answers(count: int, *, levels: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return random confidences and soft credits; with `levels`, only so many distinct confidences."""
    confidences = RANDOM.random(count) if not levels else RANDOM.integers(levels, size=count) / levels
    return confidences, RANDOM.integers(0, 11, size=count) / 10


def slow_calibration_error(confidences: np.ndarray, credits: np.ndarray, bins: int) -> float:
    """Return the error of equation 3 of Guo et al., bin after bin: the bin b holds ((b - 1) / bins, b / bins]."""
    total = 0.0
    for number in range(1, bins + 1):
        low, high = Fraction(number - 1, bins), Fraction(number, bins)
        values = [Fraction(float(value)) or Fraction(1, 10**9) for value in confidences]
        rows = [row for row, value in enumerate(values) if low < value <= high]
        if rows:
            gap = np.mean([credits[row] for row in rows]) - np.mean([confidences[row] for row in rows])
            total += len(rows) / len(confidences) * abs(gap)
    return total


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_the_calibration_error_is_that_of_the_equation(bins: int) -> None:
    for count, levels in ((1, 0), (7, 0), (200, 0), (60, 5)):
        confidences, credits = answers(count, levels=levels)
        slow = slow_calibration_error(confidences, credits, bins)
        assert calibration_error(confidences, credits, bins) == pytest.approx(slow)


def test_confidences_that_are_the_accuracy_of_their_bin_have_no_error() -> None:
    confidences = np.repeat([0.25, 0.75], 4)
    assert calibration_error(confidences, np.array([1, 0, 0, 0, 1, 1, 1, 0.0])) == 0
    assert calibration_error(np.ones(4), np.zeros(4)) == 1


def expected_risks(confidences: np.ndarray, credits: np.ndarray) -> np.ndarray:
    """Return the mean over all orders that descend in confidence of the risk of the first 1, 2, ... questions."""
    orders = [
        order
        for order in itertools.permutations(range(len(credits)))
        if all(confidences[a] >= confidences[b] for a, b in itertools.pairwise(order))
    ]
    counts = range(1, len(credits) + 1)
    risks = [[np.mean([1 - credits[row] for row in order[:count]]) for count in counts] for order in orders]
    return np.mean(risks, axis=0)


@pytest.mark.parametrize("levels", [0, 2, 3])
def test_area_and_risk_are_the_mean_over_all_orders_of_the_confidence(levels: int) -> None:
    confidences, credits = answers(6, levels=levels)
    risks = expected_risks(confidences, credits)
    assert area_under_risk(confidences, credits) == pytest.approx(risks.mean())
    for count in range(1, 7):
        assert risk_at_coverage(confidences, credits, count / 6) == pytest.approx(risks[count - 1])
    assert risk_at_coverage(confidences, credits, 0.51) == pytest.approx(risks[3])
    assert risk_at_coverage(confidences, credits, 0.0) == pytest.approx(risks[0])


def test_the_perfect_order_has_the_least_area_and_no_excess() -> None:
    """With n right and m wrong answers its area is the sum of i / (n + i) for i = 1 to m, over n + m."""
    credits = np.array([1.0] * 6 + [0.0] * 4)
    order = np.linspace(1, 0.1, 10)
    assert area_under_risk(order, credits) == pytest.approx(sum(i / (6 + i) for i in range(1, 5)) / 10)
    assert excess_area(order, credits) == pytest.approx(0)
    assert excess_area(np.ones(10), credits) == pytest.approx(0.4 - area_under_risk(order, credits))
    for _ in range(20):
        assert 0 <= excess_area(RANDOM.random(10), credits) <= excess_area(-order, credits) + 1e-12


def test_the_widest_coverage_is_the_largest_subset_above_a_threshold_within_the_risk() -> None:
    for levels in (0, 4):
        confidences, credits = answers(40, levels=levels)
        for risk in (0.0, 0.2, 0.4, 0.5, 1.0):
            within = [
                (float(np.mean(confidences >= threshold)), float(threshold))
                for threshold in set(confidences)
                if np.mean(1 - credits[confidences >= threshold]) <= risk + 1e-12
            ]
            point = widest_coverage(risk_curve(confidences, credits), risk)
            if not within:
                assert point is None
                continue
            assert point is not None
            assert (point.coverage, point.threshold) == pytest.approx(max(within))
            assert point.risk == pytest.approx(np.mean(1 - credits[confidences >= point.threshold]))


def test_changed_answers_are_counted_for_each_type() -> None:
    before = np.array([1, 1, 0, 0, 0.6, 0.3])
    after = np.array([1, 0, 1, 0, 0.3, 0.6])
    changes = count_changes(before, after, ["a", "a", "a", "b", "b", "b"])
    assert {kind: (c.questions, c.right_to_wrong, c.wrong_to_right) for kind, c in changes.items()} == {
        "a": (3, 1, 1),
        "b": (3, 1, 1),
    }


def test_the_changes_explain_the_change_of_accuracy() -> None:
    before, after = (RANDOM.integers(2, size=500).astype(float) for _ in range(2))
    types = [f"type {number}" for number in RANDOM.integers(3, size=500)]
    changes = count_changes(before, after, types).values()
    gained = sum(change.wrong_to_right - change.right_to_wrong for change in changes)
    assert gained == after.sum() - before.sum()
    assert sum(change.questions for change in changes) == 500


def test_majority_and_pairs_are_counted() -> None:
    assert majority_rate(np.array([3, 3, 5, 3]), ["a", "a", "b", "b"], {"a": 3, "b": 5}) == 0.75
    credits, pairs = np.array([1, 0.6, 0.3, 1, 0, 1]), np.array([[0, 1], [1, 2], [3, 4], [3, 5]])
    assert pair_accuracy(credits, pairs) == 0.5

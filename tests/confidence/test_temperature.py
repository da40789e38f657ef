"""Laws of temperature scaling: it finds the temperature that the scores were made with, and no other loss is lower."""

from __future__ import annotations

import numpy as np
import pytest

from lxcompress.confidence.temperature import LIMIT, fit_temperature, softmax


def log_loss(scores: np.ndarray, targets: np.ndarray, temperature: float) -> float:
    known = targets.sum(1) > 0
    shares = targets[known] / targets[known].sum(1, keepdims=True)
    with np.errstate(divide="ignore"):
        logs = np.log(softmax(scores[known], temperature))
    return float(-np.where(shares > 0, shares * logs, 0).sum(1).mean())


def soft_answers(count: int, answers: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random scores, and soft targets that the scores know something about; some questions have no credit."""
    random = np.random.default_rng(1)
    scores = random.normal(size=(count, answers)) * 2
    targets = np.zeros((count, answers))
    for row, probabilities in enumerate(softmax(scores, 1.7)):
        first, second = random.choice(answers, size=2, p=probabilities)
        targets[row, second] = 0.3
        targets[row, first] = 1.0
    targets[::7] = 0
    return scores, targets


def test_no_other_temperature_has_a_lower_loss() -> None:
    scores, targets = soft_answers(300, 5)
    fitted = fit_temperature(scores, targets)
    least = log_loss(scores, targets, fitted)
    for other in np.geomspace(1 / LIMIT, LIMIT, 200):
        assert log_loss(scores, targets, other) >= least - 1e-12
    assert 1 < fitted < 3


@pytest.mark.parametrize("factor", [0.25, 3.0])
def test_scores_times_a_factor_have_the_temperature_times_that_factor(factor: float) -> None:
    scores, targets = soft_answers(100, 4)
    expected = factor * fit_temperature(scores, targets)
    assert fit_temperature(factor * scores, targets) == pytest.approx(expected, rel=1e-6)


def test_the_log_probabilities_that_the_answers_follow_have_temperature_one() -> None:
    """With the true probabilities as targets, log p times c has temperature c: cross-entropy is least at p."""
    probabilities = softmax(np.random.default_rng(2).normal(size=(50, 6)))
    for factor in (1.0, 2.5):
        assert fit_temperature(factor * np.log(probabilities), probabilities) == pytest.approx(factor, rel=1e-6)


def test_answers_that_are_not_offered_have_no_say() -> None:
    scores, targets = soft_answers(60, 4)
    hidden = np.hstack([scores, np.full((60, 2), -np.inf)])
    padded = np.hstack([targets, np.zeros((60, 2))])
    assert fit_temperature(hidden, padded) == pytest.approx(fit_temperature(scores, targets))
    assert softmax(hidden)[:, 4:].max() == 0


def test_the_temperature_stays_within_its_limits() -> None:
    scores = np.random.default_rng(3).normal(size=(20, 3))
    assert fit_temperature(scores, np.eye(3)[scores.argmax(1)]) == pytest.approx(1 / LIMIT)
    assert fit_temperature(scores, np.eye(3)[scores.argmin(1)]) == pytest.approx(LIMIT)
    assert fit_temperature(scores, np.zeros((20, 3))) == 1

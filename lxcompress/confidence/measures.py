"""Measure how far the confidence of a model can be trusted: calibration, risk at coverage, and changed answers.

The confidence of an answer is its probability, 0-1. The risk is the mean of 1 - credit over the questions that are
answered, and the coverage is the share of questions that are answered. A model that may stay silent answers the
questions with the highest confidence.

Shapes: Q questions, K distinct confidences, B bins, P pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

BINS = 15
"""The number of bins of the calibration error, as in Guo et al. 2017."""
RISKS = (0.01, 0.05, 0.10)
"""The risks at which the coverage is reported."""
RIGHT = 0.5
"""An answer counts as right from this credit on. Of the soft VQA scores it is that of two annotators or more."""
ROUNDING = 1e-12
"""The rounding of a mean; a risk that is greater than a limit by less than this is within the limit."""


@dataclass(frozen=True)
class RiskCurve:
    """The risk of a model at every coverage that a threshold on its confidence can give, the lowest coverage first.

    `thresholds`, `coverage` and `risk` are float64 [K]. The model answers a question if its confidence is at least the
    threshold. Questions with equal confidence are answered together.
    """

    thresholds: np.ndarray
    coverage: np.ndarray
    risk: np.ndarray


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on the confidence, the share of questions that it lets the model answer, and their risk (0-1)."""

    threshold: float
    coverage: float
    risk: float


@dataclass(frozen=True)
class ChangedAnswers:
    """The numbers of questions, and of answers that became wrong or right, beside another model."""

    questions: int
    right_to_wrong: int
    wrong_to_right: int


def calibration_error(confidences: np.ndarray, credits: np.ndarray, bins: int = BINS) -> float:
    """Return the expected calibration error (0-1) of answers with `confidences` and `credits`, float [Q].

    The bins are of equal width, and a confidence on the border belongs to the lower bin. The error is the mean over
    questions of the distance between the mean confidence and the mean credit of their bin. Source: Guo et al. 2017,
    On calibration of modern neural networks, equation 3.
    """
    index = np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(index, weights=confidences - credits, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidences))


def risk_curve(confidences: np.ndarray, credits: np.ndarray) -> RiskCurve:
    """Return the RiskCurve of answers with `confidences` and `credits`, float [Q]."""
    thresholds, index = np.unique(-confidences, return_inverse=True)
    answered = np.cumsum(np.bincount(index))
    wrong = np.cumsum(np.bincount(index, weights=1 - credits))
    return RiskCurve(-thresholds, answered / len(confidences), wrong / answered)


def area_under_risk(confidences: np.ndarray, credits: np.ndarray) -> float:
    """Return the area under the risk-coverage curve: the mean of the risks when 1, 2, ... Q questions are answered.

    Source: Geifman & El-Yaniv 2017, Selective classification for deep neural networks. Questions with equal confidence
    are taken in random order, and the area is the expected one.
    """
    return float(_mean_risks(confidences, credits).mean())


def excess_area(confidences: np.ndarray, credits: np.ndarray) -> float:
    """Return how much of `area_under_risk` is due to the order of the confidences.

    It is the area minus that of the best order, in which every right answer comes before every wrong one. So models of
    different accuracy can be compared. Source: Geifman, Uziel & El-Yaniv 2019, Bias-reduced uncertainty estimation.
    """
    return area_under_risk(confidences, credits) - area_under_risk(credits, credits)


def risk_at_coverage(confidences: np.ndarray, credits: np.ndarray, coverage: float) -> float:
    """Return the risk when the share `coverage` (0-1) of the questions is answered, rounded up to whole questions."""
    count = min(len(confidences), max(1, int(np.ceil(coverage * len(confidences) - ROUNDING))))
    return float(_mean_risks(confidences, credits)[count - 1])


def widest_coverage(curve: RiskCurve, risk: float) -> OperatingPoint | None:
    """Return the point of the curve with the most coverage whose risk is at most `risk`; None if there is none."""
    within = np.flatnonzero(curve.risk <= risk + ROUNDING)
    if not len(within):
        return None
    last = within[-1]
    return OperatingPoint(float(curve.thresholds[last]), float(curve.coverage[last]), float(curve.risk[last]))


def count_changes(before: np.ndarray, after: np.ndarray, types: Sequence[str]) -> dict[str, ChangedAnswers]:
    """Return for each type of question how many answers turned from right to wrong, and from wrong to right.

    `before` and `after` are the credits of two models at the same questions, float [Q]. An answer is right if its
    credit is at least RIGHT. That is exact if every credit is 0 or 1.
    """
    was_right, is_right, kinds = before >= RIGHT, after >= RIGHT, np.asarray(types)
    changes = {}
    for kind in sorted(set(types)):
        rows = kinds == kind
        lost, gained = rows & was_right & ~is_right, rows & ~was_right & is_right
        changes[kind] = ChangedAnswers(int(rows.sum()), int(lost.sum()), int(gained.sum()))
    return changes


def majority_rate(answers: np.ndarray, types: Sequence[str], majority: Mapping[str, int]) -> float:
    """Return the share of questions (0-1) to which the model gives the most frequent answer of their type.

    `answers` are labels, int [Q], and `majority` maps a type to the label that is most often right for it.
    """
    return float(np.mean([answer == majority[kind] for answer, kind in zip(answers, types, strict=True)]))


def pair_accuracy(credits: np.ndarray, pairs: np.ndarray) -> float:
    """Return the share of pairs of questions (0-1) of which both answers are right: their credit is at least RIGHT.

    `pairs` are the two rows of each pair, int [P, 2]. A pair of VQA v2 asks the same question about two similar images
    with different answers (Goyal et al. 2017), so that a model that ignores the image gets no pair right.
    """
    return float((credits[pairs] >= RIGHT).all(axis=1).mean())


def _mean_risks(confidences: np.ndarray, credits: np.ndarray) -> np.ndarray:
    """Return the risk when 1, 2, ... Q questions are answered, the most confident first: float64 [Q].

    Of questions with equal confidence each counts with their mean risk.
    """
    _, index, counts = np.unique(-confidences, return_inverse=True, return_counts=True)
    means = np.bincount(index, weights=1 - credits) / counts
    wrong = np.cumsum(np.repeat(means, counts))
    return wrong / np.arange(1, len(confidences) + 1)

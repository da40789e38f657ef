"""Laws of measured confidence: it is that of one question at a time, and of the answers that a question offers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from lxcompress.confidence.record import AnswerConfidence
from lxcompress.confidence.temperature import fit_temperature, softmax
from lxcompress.data.objects import ANSWERS
from lxcompress.data.split import NO_LABEL, Split
from lxcompress.data.tasks import load_task
from lxcompress.recipe import ScenesData
from lxcompress.training import confidence
from lxcompress.training.evaluate import best_labels, credit_of

QUESTIONS = 60


@pytest.fixture(scope="module")
def split() -> Split:
    return load_task(ScenesData(kind="scenes", train=2, valid=QUESTIONS)).valid


@pytest.fixture(scope="module")
def scores(split: Split) -> Tensor:
    """Return random scores [Q, A] that know something about the right answers."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(QUESTIONS, len(ANSWERS), generator=generator)
    return noise + 2 * split.targets(torch.arange(QUESTIONS), len(ANSWERS))


def measure(split: Split, scores: Tensor, *, batch_size: int = 7) -> AnswerConfidence:
    """Measure a model whose scores for a question are the row of `scores` that stands in its `scene`."""

    def score_batches(part: Split) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.randperm(len(part), generator=torch.Generator().manual_seed(1)).split(batch_size):
            yield rows, scores[part.scene[rows]]

    found = confidence.measure_confidence(score_batches, replace(split, scene=torch.arange(QUESTIONS)), len(ANSWERS))
    assert found is not None
    return found


def test_the_confidence_is_the_probability_of_the_best_answer(split: Split, scores: Tensor) -> None:
    found = measure(split, scores)
    targets = split.targets(torch.arange(QUESTIONS), len(ANSWERS)).numpy()
    assert found.temperature == pytest.approx(fit_temperature(scores.numpy(), targets))
    for row in range(QUESTIONS):
        probabilities = softmax(scores[row : row + 1].numpy(), found.temperature)[0]
        assert found.labels[row] == probabilities.argmax()
        assert found.confidences[row] == pytest.approx(probabilities.max(), rel=1e-6)
        assert found.raw[row] == pytest.approx(softmax(scores[row : row + 1].numpy())[0].max(), rel=1e-6)
    assert np.array_equal(found.credits, credit_of(torch.from_numpy(found.labels), split).numpy())
    for kind, label in found.majority.items():
        right = [int(split.answers[row, 0]) for row in range(QUESTIONS) if split.types[row] == kind]
        assert right.count(label) == max(map(right.count, right))


def test_batches_and_a_sample_for_the_temperature_change_no_answer(
    split: Split, scores: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measure(split, scores)
    assert np.array_equal(measure(split, scores, batch_size=60).confidences, whole.confidences)
    monkeypatch.setattr(confidence, "MOST_SCORES", 20 * len(ANSWERS))
    part = measure(split, scores)
    rows = np.linspace(0, QUESTIONS - 1, 20).round().astype(int)
    targets = split.targets(torch.from_numpy(rows), len(ANSWERS)).numpy()
    assert part.temperature == pytest.approx(fit_temperature(scores[rows].numpy(), targets))
    assert np.array_equal(part.labels, whole.labels)
    assert np.array_equal(part.raw, whole.raw)


def test_only_offered_answers_share_the_probability(split: Split, scores: Tensor) -> None:
    choices = torch.tensor([[3, 5, NO_LABEL], [4, 0, 7]]).repeat(QUESTIONS // 2, 1)
    choices[10] = NO_LABEL
    found = measure(replace(split, choices=choices), scores)
    assert np.array_equal(found.labels, best_labels(scores, choices).numpy())
    for row in range(QUESTIONS):
        offered = [label for label in choices[row].tolist() if label != NO_LABEL] or list(range(len(ANSWERS)))
        assert found.raw[row] == pytest.approx(softmax(scores[row : row + 1, offered].numpy()).max(), rel=1e-6)


def test_questions_without_answers_are_not_measured(split: Split, scores: Tensor) -> None:
    empty = replace(split, credits=torch.zeros_like(split.credits))
    assert confidence.measure_confidence(lambda part: [], empty, len(ANSWERS)) is None

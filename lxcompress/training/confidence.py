"""Measure the confidence of a model's answers, and fit the temperature that calibrates it.

Shapes: Q questions, B batch, C choices, A answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lxcompress.confidence.record import AnswerConfidence
from lxcompress.confidence.temperature import fit_temperature, softmax
from lxcompress.data.split import NO_LABEL, Split
from lxcompress.models.checkpoints import Model
from lxcompress.recipe import Train
from lxcompress.training.device import DeviceSpec, explain_out_of_memory
from lxcompress.training.evaluate import answer_batches, best_labels, credit_of
from lxcompress.training.floors import commonest_label

MOST_SCORES = 1 << 24
"""The most scores that the temperature is fitted to (128 MB as float64); of more, evenly spaced questions are taken."""
Batches = Iterable[tuple[Tensor, Tensor]]
"""The rows of a batch [B], and the scores of their answers [B, A]"""


class OfferedBatch(NamedTuple):
    """The rows of a batch [B], the scores of their answers [B, A], and their best labels [B], on the CPU.

    Answers that a question does not offer have the score -inf.
    """

    rows: Tensor
    scores: Tensor
    labels: Tensor


def measure_model(model: Model, split: Split, settings: Train, device: DeviceSpec) -> AnswerConfidence | None:
    """Return the confidence of a model's answers to `split`; None if no question has an answer with credit."""
    score_batches = _score_batches(model, settings, device)
    with explain_out_of_memory(f"lower train.eval_batch_size (it is {settings.eval_batch_size})"):
        return measure_confidence(score_batches, split, model.family.count_answers(model.config))


def share_of_labels(
    model: Model, split: Split, settings: Train, device: DeviceSpec, *, temperature: float, labels: Sequence[int]
) -> np.ndarray:
    """Return the probability of the answers `labels` together for each question of `split`, float64 [Q]."""
    shares = np.empty(len(split))
    for batch in _offered_batches(_score_batches(model, settings, device), split):
        shares[batch.rows.numpy()] = softmax(batch.scores.numpy(), temperature)[:, list(labels)].sum(axis=1)
    return shares


def measure_confidence(
    score_batches: Callable[[Split], Batches], split: Split, answers: int
) -> AnswerConfidence | None:
    """Return the confidence of a model's answers to `split`; None if no question has an answer with credit.

    `score_batches` yields the rows and scores of all questions of a split, in any order, and `answers` is the number of
    scores. The temperature is fitted to the same questions.
    """
    if not split.credits.any():
        return None
    count = min(len(split), max(1, MOST_SCORES // answers))
    rows = torch.linspace(0, len(split) - 1, count).round().long()
    sample = split if count == len(split) else split.take(rows.to(split.scene.device))
    kept = list(_offered_batches(score_batches, sample))
    order = torch.cat([batch.rows for batch in kept])
    targets = sample.targets(order.to(sample.scene.device), answers).cpu()
    temperature = fit_temperature(torch.cat([batch.scores for batch in kept]).numpy(), targets.numpy())
    labels = torch.empty(len(split), dtype=torch.int64)
    probabilities = np.empty((2, len(split)), dtype=np.float32)
    for batch in kept if sample is split else _offered_batches(score_batches, split):
        labels[batch.rows] = batch.labels
        for line, divisor in enumerate((temperature, 1.0)):
            probabilities[line, batch.rows.numpy()] = softmax(batch.scores.numpy(), divisor).max(axis=1)
    return AnswerConfidence(
        temperature=temperature,
        labels=labels.numpy(),
        confidences=probabilities[0].astype(np.float64),
        raw=probabilities[1].astype(np.float64),
        credits=credit_of(labels, split).numpy(),
        types=split.types,
        majority=_find_majority(split, answers),
    )


def _score_batches(model: Model, settings: Train, device: DeviceSpec) -> Callable[[Split], Batches]:
    """Return a function that yields the rows of each batch of a split and the model's scores of their answers."""
    module, answer = model.module.eval(), model.family.answer

    def score_batches(split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        for rows, scores, _ in answer_batches(
            lambda inputs: answer(module, inputs), split, settings.eval_batch_size, device
        ):
            yield rows, scores

    return score_batches


def _offered_batches(score_batches: Callable[[Split], Batches], split: Split) -> Iterator[OfferedBatch]:
    """Yield every batch of the split, on the CPU."""
    for rows, found in score_batches(split):
        scores, choices = found.float().cpu(), None
        if split.choices is not None:
            choices = split.choices[rows.to(split.choices.device)].cpu()
        labels = best_labels(scores, choices)
        yield OfferedBatch(rows, scores if choices is None else _hide_others(scores, choices), labels)


def _hide_others(scores: Tensor, choices: Tensor) -> Tensor:
    """Return scores [B, A] with -inf for answers that are not in `choices` [B, C]; a question without any keeps all."""
    is_offered = torch.zeros(len(scores), scores.shape[1] + 1, dtype=torch.bool)
    is_offered.scatter_(1, choices.masked_fill(choices == NO_LABEL, scores.shape[1]), True)
    is_offered = is_offered[:, :-1]
    is_offered |= ~is_offered.any(1, keepdim=True)
    return scores.masked_fill(~is_offered, float("-inf"))


def _find_majority(split: Split, answers: int) -> dict[str, int]:
    """Return for each type of question the label with the most credit."""
    split = replace(split, answers=split.answers.cpu(), credits=split.credits.cpu())
    rows: dict[str, list[int]] = defaultdict(list)
    for row, kind in enumerate(split.types):
        rows[kind].append(row)
    return {kind: int(commonest_label(split, torch.tensor(rows[kind]), answers)) for kind in sorted(rows)}

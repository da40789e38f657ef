"""Floors: the accuracy that is reached without the image. A model that is not above them did not learn from images.

Shapes: Q questions, L tokens, A answers, G n-grams of a question.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lxcompress.data.split import AnswerTask, Split
from lxcompress.records import Floors
from lxcompress.training.evaluate import score_answers
from lxcompress.training.losses import binary_loss

BUCKETS = 1 << 16
MOST_ANSWERS = 512
"""How many answers, those with the most credit, the linear model chooses from. Thousands more would take minutes and
hardly change its score."""
STEPS, BATCH, LEARNING_RATE, SEED = 600, 512, 0.02, 0


def find_floors(task: AnswerTask) -> Floors:
    """Return the Floors of `task`, each learnt on the training split and scored on the validation split."""
    return Floors(
        majority=score_answers(_majority(task), task.valid),
        majority_per_type=score_answers(_majority_of(task, task.train.types, task.valid.types), task.valid),
        majority_per_question_type=(
            score_answers(_majority_of(task, task.train.families, task.valid.families), task.valid)
            if task.train.families and task.valid.families
            else None
        ),
        question_only=score_answers(_question_only(task), task.valid),
    )


def _majority(task: AnswerTask) -> Tensor:
    """Return the answer with the most credit in training, for every question: int64 [Q]."""
    return _commonest(task.train, torch.arange(len(task.train)), len(task.labels)).expand(len(task.valid))


def _majority_of(task: AnswerTask, train: Sequence[str], valid: Sequence[str]) -> Tensor:
    """Return for each question the answer with the most credit among training questions of the same kind: int64 [Q].

    `train` and `valid` have the kind of each question; a kind that is not in training gets the answer of `_majority`.
    """
    chosen = _majority(task).clone()
    rows: dict[str, list[int]] = defaultdict(list)
    for row, kind in enumerate(train):
        rows[kind].append(row)
    best = {kind: _commonest(task.train, torch.tensor(rows[kind]), len(task.labels)) for kind in set(valid) & set(rows)}
    for row, kind in enumerate(valid):
        chosen[row] = best.get(kind, chosen[row])
    return chosen


def _commonest(split: Split, rows: Tensor, answers: int) -> Tensor:
    """Return the label with the most credit in `rows`."""
    return _credit(split, rows, answers).argmax()


def _credit(split: Split, rows: Tensor, answers: int) -> Tensor:
    """Return the credit of each answer, summed over `rows`: float32 [A]."""
    total = torch.zeros(answers)
    return total.scatter_add_(0, split.answers[rows].flatten(), split.credits[rows].flatten())


def _question_only(task: AnswerTask) -> Tensor:
    """Return the answers of a linear model of words and word pairs, trained with the study's loss: int64 [Q]."""
    train, valid = _ngrams(task.train.input_ids), _ngrams(task.valid.input_ids)
    credit = _credit(task.train, torch.arange(len(task.train)), len(task.labels))
    offered = credit.argsort(descending=True, stable=True)[:MOST_ANSWERS].sort().values
    generator = torch.Generator().manual_seed(SEED)
    with torch.random.fork_rng(devices=()):
        model = nn.EmbeddingBag(BUCKETS, len(offered), mode="sum", sparse=True, padding_idx=0)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SparseAdam(model.parameters(), lr=LEARNING_RATE)
    for _ in range(STEPS):
        rows = torch.randint(len(train), (min(BATCH, len(train)),), generator=generator)
        optimizer.zero_grad()
        binary_loss(model(train[rows]), task.train.targets(rows, len(task.labels))[:, offered]).backward()
        optimizer.step()
    with torch.no_grad():
        return offered[model(valid).argmax(1)]


def _ngrams(ids: Tensor) -> Tensor:
    """Return a hashed bucket for each word and each pair of neighbouring words; 0 is padding: int64 [Q, G]."""
    words = ids.long()
    pairs = (words[:, :-1] * 48_271 + words[:, 1:] * 40_692) % (BUCKETS // 2 - 1) + BUCKETS // 2
    pairs = pairs.masked_fill(words[:, 1:] == 0, 0)
    return torch.cat([words % (BUCKETS // 2), pairs], dim=1)

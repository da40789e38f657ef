"""Floors: the accuracy that can be reached without looking at the image.

A model whose accuracy is not above the floors did not learn from images.

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
"""How many numbers the words and word pairs of a question are hashed to."""
MOST_ANSWERS = 512
"""The linear model chooses from this many answers: those with the most credit. Thousands more answers would take
minutes and hardly change its score."""
STEPS, BATCH, LEARNING_RATE, SEED = 600, 512, 0.02, 0


def find_floors(task: AnswerTask) -> Floors:
    """Return the Floors of `task`: each is learnt on the training split, and scored on the validation split."""
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
    """Return for every validation question the same label: the one with the most credit in training. int64 [Q]."""
    return commonest_label(task.train, torch.arange(len(task.train)), len(task.labels)).expand(len(task.valid))


def _majority_of(task: AnswerTask, train: Sequence[str], valid: Sequence[str]) -> Tensor:
    """Return for each validation question the label with the most credit among training questions of its kind.

    The result is int64 [Q]. `train` and `valid` give the kind of each question. For a kind that no training question
    has, the label is that of `_majority`.
    """
    chosen = _majority(task).clone()
    rows: dict[str, list[int]] = defaultdict(list)
    for row, kind in enumerate(train):
        rows[kind].append(row)
    known, answers = set(valid) & set(rows), len(task.labels)
    best = {kind: commonest_label(task.train, torch.tensor(rows[kind]), answers) for kind in known}
    for row, kind in enumerate(valid):
        chosen[row] = best.get(kind, chosen[row])
    return chosen


def commonest_label(split: Split, rows: Tensor, answers: int) -> Tensor:
    """Return the label with the most credit, summed over the questions `rows`: int64 []."""
    return _credit(split, rows, answers).argmax()


def _credit(split: Split, rows: Tensor, answers: int) -> Tensor:
    """Return the credit of each of the `answers` labels, summed over the questions `rows`: float32 [A]."""
    total = torch.zeros(answers)
    return total.scatter_add_(0, split.answers[rows].flatten(), split.credits[rows].flatten())


def _question_only(task: AnswerTask) -> Tensor:
    """Train a linear model that reads only the question; return its labels for the validation questions: int64 [Q].

    Its inputs are words and pairs of neighbouring words; its loss is `binary_loss`.
    """
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
    """Return a number below BUCKETS for each word and each pair of neighbouring words; 0 is padding: int64 [Q, G]."""
    words = ids.long()
    pairs = (words[:, :-1] * 48_271 + words[:, 1:] * 40_692) % (BUCKETS // 2 - 1) + BUCKETS // 2
    pairs = pairs.masked_fill(words[:, 1:] == 0, 0)
    return torch.cat([words % (BUCKETS // 2), pairs], dim=1)

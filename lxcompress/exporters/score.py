"""Score an exported file that is loaded in its runtime, and measure the confidence of its answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch

from lxcompress.confidence.record import AnswerConfidence
from lxcompress.data.split import AnswerTask, Split
from lxcompress.progress import Progress
from lxcompress.records import Score
from lxcompress.runtimes import Session
from lxcompress.training.confidence import measure_confidence
from lxcompress.training.evaluate import batches_by_length, best_labels, score_answers

Item = TypeVar("Item")

BATCH = 32
"""The number of questions that a file answers at a time."""


def score_session(session: Session, split: Split, progress: Progress, name: str = "validation") -> Score:
    """Return the accuracy of the artifact loaded in `session`, over the questions of `split`, called `name`."""
    labels = torch.empty(len(split), dtype=torch.int64)
    for rows, scores in _answer_batches(session, split, progress, name):
        labels[rows] = best_labels(scores, None if split.choices is None else split.choices[rows])
    return score_answers(labels, split)


def score_with_confidence(
    session: Session, task: AnswerTask, progress: Progress
) -> tuple[Score, AnswerConfidence | None]:
    """Return the accuracy of the artifact loaded in `session` on the validation questions, and its confidence in them.

    The confidence is None if the questions have no answers.
    """

    def answer_batches(split: Split) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return _answer_batches(session, split, progress, "validation")

    found = measure_confidence(answer_batches, task.valid, len(task.labels))
    if found is None:
        return score_session(session, task.valid, progress), None
    return score_answers(torch.from_numpy(found.labels), task.valid), found


def with_progress(items: Sequence[Item], what: str, progress: Progress) -> Iterator[Item]:
    """Yield the items; before each, report to `progress` how many are done."""
    for index, item in enumerate(items):
        progress(what, index, len(items))
        yield item


def _answer_batches(
    session: Session, split: Split, progress: Progress, name: str
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the rows of each batch of `split`, called `name`, and the scores that the artifact gives their answers."""
    batches = list(batches_by_length(split, BATCH))
    for rows in with_progress(batches, f"scoring it on the {name} data", progress):
        yield rows, torch.from_numpy(session.answer(split.inputs(rows).numpy()))

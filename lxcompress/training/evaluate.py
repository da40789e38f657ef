"""Accuracy: the credit of the answers that a model gives.

Shapes: B batch, A answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lxcompress.data.split import Inputs, Split
from lxcompress.records import Score
from lxcompress.training.optimise import Place


def score_split(answer: Callable[[Inputs], Tensor], split: Split, batch_size: int, place: Place) -> Score:
    """The Score of `answer` (inputs to scores [B, A]) on `split`."""
    return score_answers(best_answers(answer, split, batch_size, place), split)


@torch.no_grad()
def best_answers(answer: Callable[[Inputs], Tensor], split: Split, batch_size: int, place: Place) -> Tensor:
    """int64 [Q]: the label with the highest score for each question; questions of like length go together."""
    chosen = torch.empty(len(split), dtype=torch.int64)
    for rows in batches_by_length(split, batch_size):
        with place.autocast():
            scores = answer(split.inputs(rows).to(place.device))
        chosen[rows] = scores.argmax(1).cpu()
    return chosen


def batches_by_length(split: Split, batch_size: int) -> Iterator[Tensor]:
    """The rows of `split`, `batch_size` at a time, shortest questions first, so that little is padding."""
    yield from (split.input_ids != 0).sum(1).argsort(stable=True).split(batch_size)


def score_answers(labels: Tensor, split: Split) -> Score:
    """The Score of the answers `labels` (int64 [Q]) on `split`."""
    credit = (split.credits * (split.answers == labels[:, None])).sum(1).double()
    by_type: dict[str, list[int]] = defaultdict(list)
    for row, kind in enumerate(split.types):
        by_type[kind].append(row)
    return Score(
        accuracy=float(credit.mean()),
        by_type={kind: float(credit[rows].mean()) for kind, rows in sorted(by_type.items())},
        questions=len(split),
    )

"""Accuracy: the mean credit (0-1) of the answers that a model gives.

Shapes: B batch, Q questions, C choices, A answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lxcompress.data.split import NO_LABEL, Inputs, Split
from lxcompress.records import Score, ScoreByQuestion, pack_credits
from lxcompress.training.device import DeviceSpec
from lxcompress.training.feed import needs_prefetch, pin_inputs, prefetch


class EvaluationBatch(NamedTuple):
    """A batch of questions: their rows in the split [B], inputs [B, ...], and choices [B, C] if they have any."""

    rows: Tensor
    inputs: Inputs
    choices: Tensor | None

    def pin(self) -> EvaluationBatch:
        """Return the batch with inputs in pinned memory, from which a GPU copies without the CPU."""
        return self._replace(inputs=pin_inputs(self.inputs))


def score_split(answer: Callable[[Inputs], Tensor], split: Split, batch_size: int, device: DeviceSpec) -> Score:
    """Return the Score on `split` of a model, given as the function `answer`: inputs -> scores [B, A]."""
    return score_answers(best_answers(answer, split, batch_size, device), split)


def best_answers(answer: Callable[[Inputs], Tensor], split: Split, batch_size: int, device: DeviceSpec) -> Tensor:
    """Return for each question the label with the highest score, among its choices if it has any: int64 [Q]."""
    labels = torch.empty(len(split), dtype=torch.int64)
    for rows, scores, choices in answer_batches(answer, split, batch_size, device):
        labels[rows] = best_labels(scores, choices).cpu()
    return labels


@torch.no_grad()
def answer_batches(
    answer: Callable[[Inputs], Tensor], split: Split, batch_size: int, device: DeviceSpec
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Yield the rows of each batch [B], the scores of their answers [B, A], and their choices [B, C] if they have any.

    The rows are on the CPU, the rest is on `device`. Questions of similar length share a batch.
    """
    row_lists = batches_by_length(split, batch_size)
    if needs_prefetch(split, device):
        batches = prefetch(row_lists, lambda rows: make_evaluation_batch(split, rows).pin())
    else:
        batches = (make_evaluation_batch(split, rows) for rows in row_lists)
    for batch in batches:
        with device.autocast():
            scores = answer(batch.inputs.to(device.torch_device))
        yield batch.rows, scores, None if batch.choices is None else batch.choices.to(device.torch_device)


def make_evaluation_batch(split: Split, rows: Tensor) -> EvaluationBatch:
    """Return the EvaluationBatch of the questions `rows`: `rows` stay on the CPU, the rest is on the split's device."""
    indices = rows.to(split.scene.device)
    return EvaluationBatch(rows, split.inputs(indices), None if split.choices is None else split.choices[indices])


def best_labels(scores: Tensor, choices: Tensor | None) -> Tensor:
    """Return the label with the highest of the scores [B, A], among `choices` if they are given: int64 [B].

    `choices` are labels, int64 [B, C], padded with NO_LABEL. A question whose choices are all NO_LABEL gets the best of
    all labels.
    """
    best = scores.argmax(1)
    if choices is None:
        return best
    offered = scores.gather(1, choices.clamp(min=0)).masked_fill(choices == NO_LABEL, float("-inf"))
    chosen = choices.gather(1, offered.argmax(1, keepdim=True))[:, 0]
    return torch.where((choices != NO_LABEL).any(1), chosen, best)


def batches_by_length(split: Split, batch_size: int) -> Iterator[Tensor]:
    """Yield the rows of each batch of `split` (int64, on the CPU), shortest questions first, which saves padding."""
    yield from split.lengths.cpu().argsort(stable=True).split(batch_size)


def score_answers(labels: Tensor, split: Split) -> Score:
    """Return the Score of the answers `labels` (int64 [Q]) on `split`."""
    return _score_credit(credit_of(labels, split), split)


def score_by_question(
    answer: Callable[[Inputs], Tensor], split: Split, batch_size: int, device: DeviceSpec
) -> ScoreByQuestion:
    """Return the Score on `split` of a model (as in `score_split`), with the credit of each question."""
    credit = credit_of(best_answers(answer, split, batch_size, device), split)
    return ScoreByQuestion(**_score_credit(credit, split).model_dump(), credits=pack_credits(credit.tolist()))


def credit_of(labels: Tensor, split: Split) -> Tensor:
    """Return the credit (0-1) of each of the answers `labels` (int64 [Q]) on `split`: float64 [Q]."""
    credits, answers = split.credits.cpu(), split.answers.cpu()
    return (credits * (answers == labels[:, None])).sum(1).double()


def _score_credit(credit: Tensor, split: Split) -> Score:
    """Return the Score of answers with the credit `credit` (float64 [Q]) on `split`."""
    by_type: dict[str, list[int]] = defaultdict(list)
    for row, kind in enumerate(split.types):
        by_type[kind].append(row)
    return Score(
        accuracy=float(credit.mean()),
        by_type={kind: float(credit[rows].mean()) for kind, rows in sorted(by_type.items())},
        questions=len(split),
    )

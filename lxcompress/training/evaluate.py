"""Accuracy: the credit of the answers that a model gives.

Shapes: B batch, A answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lxcompress.data.split import NO_LABEL, Inputs, Split
from lxcompress.records import Score
from lxcompress.training.device import DeviceSpec
from lxcompress.training.feed import ahead, is_fetched, pinned


class Asked(NamedTuple):
    """Questions to be answered: their rows, inputs [B, ...] and choices [B, C], if they have any."""

    rows: Tensor
    inputs: Inputs
    choices: Tensor | None

    def pin(self) -> Asked:
        """The same in memory that a GPU copies from on its own."""
        return self._replace(inputs=pinned(self.inputs))


def score_split(answer: Callable[[Inputs], Tensor], split: Split, batch_size: int, device: DeviceSpec) -> Score:
    """The Score of `answer` (inputs to scores [B, A]) on `split`."""
    return score_answers(best_answers(answer, split, batch_size, device), split)


@torch.no_grad()
def best_answers(answer: Callable[[Inputs], Tensor], split: Split, batch_size: int, device: DeviceSpec) -> Tensor:
    """int64 [Q]: the label with the highest score for each question, among its choices if it has any; questions of like
    length go together."""
    chosen = torch.empty(len(split), dtype=torch.int64)
    batches = batches_by_length(split, batch_size)
    fetched = is_fetched(split, device)
    ready = ahead(batches, lambda rows: ask(split, rows).pin()) if fetched else (ask(split, rows) for rows in batches)
    for asked in ready:
        with device.autocast():
            scores = answer(asked.inputs.to(device.torch_device))
        choices = None if asked.choices is None else asked.choices.to(device.torch_device)
        chosen[asked.rows] = best_labels(scores, choices).cpu()
    return chosen


def ask(split: Split, rows: Tensor) -> Asked:
    """The questions of `rows` (on the CPU), where the split is."""
    indices = rows.to(split.scene.device)
    return Asked(rows, split.inputs(indices), None if split.choices is None else split.choices[indices])


def best_labels(scores: Tensor, choices: Tensor | None) -> Tensor:
    """int64 [B]: the label of the highest score [B, A]; among `choices` int64 [B, C] (padded with NO_LABEL), if given.

    A question none of whose choices is a label gets the best of all labels.
    """
    best = scores.argmax(1)
    if choices is None:
        return best
    offered = scores.gather(1, choices.clamp(min=0)).masked_fill(choices == NO_LABEL, float("-inf"))
    picked = choices.gather(1, offered.argmax(1, keepdim=True))[:, 0]
    return torch.where((choices != NO_LABEL).any(1), picked, best)


def batches_by_length(split: Split, batch_size: int) -> Iterator[Tensor]:
    """The rows of `split` (on the CPU), `batch_size` at a time, shortest questions first, so that little is padding."""
    yield from split.lengths.cpu().argsort(stable=True).split(batch_size)


def score_answers(labels: Tensor, split: Split) -> Score:
    """The Score of the answers `labels` (int64 [Q]) on `split`."""
    credits, answers = split.credits.cpu(), split.answers.cpu()
    credit = (credits * (answers == labels[:, None])).sum(1).double()
    by_type: dict[str, list[int]] = defaultdict(list)
    for row, kind in enumerate(split.types):
        by_type[kind].append(row)
    return Score(
        accuracy=float(credit.mean()),
        by_type={kind: float(credit[rows].mean()) for kind, rows in sorted(by_type.items())},
        questions=len(split),
    )

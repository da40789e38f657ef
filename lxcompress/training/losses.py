"""The losses of question answering: `train.loss` names one.

Shapes: B batch, A answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""scores and targets, both [B, A] -> the mean loss"""


def binary_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Return binary cross-entropy with soft targets [B, A], times the number of answers, as the reference code does."""
    return nn.functional.binary_cross_entropy_with_logits(scores, targets) * targets.shape[1]


def categorical_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Return cross-entropy over all answers, with soft targets [B, A]; the reference code uses it for NLVR2."""
    return nn.functional.cross_entropy(scores, targets)


def softmax(scores: Tensor) -> Tensor:
    """Return the softmax of scores [B, A] over the answers."""
    return scores.softmax(1)


LOSSES: Mapping[str, LossFunction] = {"binary": binary_loss, "categorical": categorical_loss}
"""train.loss -> its function"""
SOFT_TARGETS: Mapping[str, Callable[[Tensor], Tensor]] = {"binary": torch.sigmoid, "categorical": softmax}
"""train.loss -> the function that turns a teacher's scores [B, A] into targets of that loss"""

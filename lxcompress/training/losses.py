"""The losses of question answering; the setting `train.loss` selects one.

Shapes: B batch, A answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""scores and targets, both [B, A] -> the mean loss"""


def binary_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the binary cross-entropy of scores with soft targets, both [B, A], times A as in the reference code."""
    return nn.functional.binary_cross_entropy_with_logits(scores, targets) * targets.shape[1]


def categorical_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy over all answers of scores with soft targets, both [B, A].

    The reference code uses this loss for NLVR2.
    """
    return nn.functional.cross_entropy(scores, targets)


def softmax(scores: Tensor) -> Tensor:
    """Return the softmax of scores [B, A] over the answers."""
    return scores.softmax(1)


LOSSES: Mapping[str, LossFunction] = {"binary": binary_loss, "categorical": categorical_loss}
"""value of train.loss -> the loss function"""
SOFT_TARGETS: Mapping[str, Callable[[Tensor], Tensor]] = {"binary": torch.sigmoid, "categorical": softmax}
"""value of train.loss -> the function that turns a teacher's scores [B, A] into targets [B, A] of this loss"""

"""The score functions of the criteria in catalog/criteria.py. Weights with high scores are kept (choose.py).

Scores do not depend on the sparsity, so the masks of one criterion at increasing sparsities are nested.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from lxcompress.catalog.criteria import CRITERIA, Statistic, criterion_names, find_criterion, is_criterion
from lxcompress.catalog.extensions import resolve
from lxcompress.errors import PruneError
from lxcompress.pruning.mask import Weights


@dataclass(frozen=True)
class CalibrationStatistics:
    """Statistics of the weights of a model, each as {name of a weight: statistic}; empty if it was not measured."""

    gradient: Weights = field(default_factory=dict)
    """mean of |dL/dw| over batches, in the shape of w"""
    squared_gradient: Weights = field(default_factory=dict)
    """mean of (dL/dw)^2 over batches, in the shape of w"""
    input_norm: Weights = field(default_factory=dict)
    """float32 [C]: the L2 norm of each of the C inputs of a matrix, over the calibration questions"""
    movement: Weights = field(default_factory=dict)
    """sum of -w * dL/dw over the steps of the dense run, in the shape of w"""


Score = Callable[[Tensor, Tensor, Generator], Tensor]
"""(weight, statistic, generator) -> a new tensor with a score for each element of the weight.

The weight is float32, on the CPU. The statistic is the one that the spec of the criterion names, or an empty tensor if
the spec names none.
"""


def magnitude(weight: Tensor, _statistic: Tensor, _generator: Generator) -> Tensor:
    """Return |w| (Han et al. 2015, Learning both weights and connections)."""
    return weight.abs()


def negative_magnitude(weight: Tensor, _statistic: Tensor, _generator: Generator) -> Tensor:
    """Return -|w|, so that the largest weights are removed first (the control of Hashemi et al. 2023)."""
    return weight.abs().neg_()


def noise(weight: Tensor, _statistic: Tensor, generator: Generator) -> Tensor:
    """Return uniform random numbers, which depend on the generator and the shape only."""
    return torch.rand(weight.shape, generator=generator)


def movement(_weight: Tensor, statistic: Tensor, _generator: Generator) -> Tensor:
    """Return the sum of -w * dL/dw over training: how far w moved from zero (Sanh et al. 2020, Movement pruning)."""
    return statistic.float().clone()


def taylor(weight: Tensor, statistic: Tensor, _generator: Generator) -> Tensor:
    """Return |w| * mean of |dL/dw|: how much the loss changes if w becomes 0, to first order.

    Source: Molchanov et al. 2019, Importance estimation for neural network pruning.
    """
    return weight.abs().mul_(statistic)


def wanda(weight: Tensor, statistic: Tensor, _generator: Generator) -> Tensor:
    """Return |w| * the L2 norm of the input that w multiplies.

    Source: Sun et al. 2023, A simple and effective pruning approach.
    """
    return weight.abs().mul_(statistic)


def fisher(weight: Tensor, statistic: Tensor, _generator: Generator) -> Tensor:
    """Return w^2 / 2 * mean of (dL/dw)^2: how much the loss changes if w becomes 0, to second order.

    The diagonal of the empirical Fisher matrix replaces the diagonal of the Hessian.
    Source: LeCun et al. 1990, Optimal brain damage; Theis et al. 2018, Faster gaze prediction with dense networks.
    """
    return weight.square().mul_(statistic).mul_(0.5)


def score_weights(
    prunable: Weights, *, criterion: str, seed: int, statistics: CalibrationStatistics | None = None
) -> dict[str, Tensor]:
    """Return {name: scores, float32 on the CPU, in the shape of the weight}, by `criterion`.

    `seed` has an effect on criteria with random scores. Raises PruneError if there is no prunable weight, if a weight
    or a score is not finite, or if a statistic is missing.
    """
    if not prunable:
        raise PruneError(
            "the model has no prunable weight (a matrix outside the embeddings and the output layer); give another "
            "model"
        )
    if not is_criterion(criterion):
        raise PruneError(f"criterion {criterion}: is unknown; give one of {', '.join(criterion_names())}")
    spec, statistics = find_criterion(criterion), statistics or CalibrationStatistics()
    score: Score = resolve(spec.score)
    generator = torch.Generator().manual_seed(seed)
    scores = {}
    for name, weight in prunable.items():
        if not is_finite(weight):
            raise PruneError(
                f"{name}: has values that are NaN or infinite, so it cannot be ranked; give another checkpoint"
            )
        statistic = _find_statistic(criterion, spec.needs, name, weight, statistics) if spec.needs else torch.empty(0)
        scores[name] = score(weight.detach().float().cpu(), statistic, generator)
        _check_scores(criterion, spec.needs, name, weight, scores[name])
    return scores


def is_finite(tensor: Tensor) -> bool:
    """Return whether every value of the tensor is a finite number; the tensor is not copied."""
    low, high = torch.aminmax(tensor)  # both are NaN if any value is NaN
    return bool(torch.isfinite(low) & torch.isfinite(high))


def _find_statistic(
    criterion: str, needs: Statistic, name: str, weight: Tensor, statistics: CalibrationStatistics
) -> Tensor:
    """Return the statistic that the criterion needs of a weight. Raises PruneError if it is missing or does not fit."""
    measured: Weights = getattr(statistics, needs)
    words = needs.replace("_", " ")
    if name not in measured:
        others = ", ".join(other for other, spec in CRITERIA.items() if spec.reads_weights_only)
        raise PruneError(
            f"criterion {criterion}: needs the {words} of {name} on training data, which was not measured; draw the "
            f"ticket in a study, which measures it, or use one of {others}"
        )
    expected = weight.shape[1:] if needs == "input_norm" else weight.shape
    if measured[name].shape != expected:
        raise PruneError(
            f"criterion {criterion}: the {words} of {name} has the shape {list(measured[name].shape)}, "
            f"expected {list(expected)}; measure it with this model"
        )
    return measured[name]


def _check_scores(criterion: str, needs: Statistic | None, name: str, weight: Tensor, scores: Tensor) -> None:
    """Raise PruneError unless there is one finite score for each element of the weight."""
    if scores.shape != weight.shape or scores.dtype != torch.float32:
        raise PruneError(
            f"{name}: criterion {criterion} gives scores {list(scores.shape)} of {scores.dtype}, "
            f"expected {list(weight.shape)} of torch.float32; correct the criterion"
        )
    if not is_finite(scores):
        raise PruneError(
            f"{name}: its {needs or 'score'} for criterion {criterion} is not finite, so it cannot be ranked; "
            "lower the learning rate, or use criterion low-magnitude"
        )

"""Criteria: what a weight is worth. Each is a score; the highest stay, whatever the criterion (choose.py).

What one removes at a sparsity it removes at every higher one too, so its masks are nested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from lxcompress.errors import PruneError
from lxcompress.pruning.mask import Weights


@dataclass(frozen=True)
class CalibrationStatistics:
    """What was seen of the weights at work, by their names; empty where it was not gathered."""

    gradient: Weights = field(default_factory=dict)
    """mean over batches of |dL/dw|, the shape of w"""
    squared_gradient: Weights = field(default_factory=dict)
    """mean over batches of (dL/dw)^2, the shape of w"""
    input_norm: Weights = field(default_factory=dict)
    """float32 [C]: the L2 norm of each of a matrix's C inputs over the sample"""
    movement: Weights = field(default_factory=dict)
    """-sum over the dense run's steps of w * dL/dw, the shape of w"""


Score = Callable[[str, Tensor, CalibrationStatistics, Generator], Tensor]
"""a name, its weight, the statistics and a seeded generator -> a new tensor: a score for each element of the weight"""


@dataclass(frozen=True)
class Criterion:
    """A score, and the field of CalibrationStatistics that it needs, if any."""

    score: Score
    needs: str | None = None


def magnitude(_: str, weight: Tensor, __: CalibrationStatistics, ___: Generator) -> Tensor:
    """|w| (Han et al. 2015, Learning both weights and connections)."""
    return weight.abs()


def smallness(_: str, weight: Tensor, __: CalibrationStatistics, ___: Generator) -> Tensor:
    """-|w|: the largest go first (Hashemi et al. 2023's control)."""
    return weight.abs().neg_()


def noise(_: str, weight: Tensor, __: CalibrationStatistics, generator: Generator) -> Tensor:
    """Uniform noise; it depends on the generator and the shape alone."""
    return torch.rand(weight.shape, generator=generator)


def movement(name: str, _: Tensor, statistics: CalibrationStatistics, __: Generator) -> Tensor:
    """-sum of w * dL/dw over training: whether w grew away from zero (Sanh et al. 2020, Movement pruning)."""
    return statistics.movement[name].float().clone()


def taylor(name: str, weight: Tensor, statistics: CalibrationStatistics, _: Generator) -> Tensor:
    """|w| * mean of |dL/dw|: the loss's first-order change without w (Molchanov et al. 2019, Importance estimation)."""
    return weight.abs().mul_(statistics.gradient[name])


def wanda(name: str, weight: Tensor, statistics: CalibrationStatistics, _: Generator) -> Tensor:
    """|w| * L2 norm of the input that it multiplies (Sun et al. 2023, A simple and effective pruning approach)."""
    return weight.abs().mul_(statistics.input_norm[name])


def fisher(name: str, weight: Tensor, statistics: CalibrationStatistics, _: Generator) -> Tensor:
    """w^2 / 2 * mean of (dL/dw)^2: the second-order change, with the empirical Fisher diagonal for the Hessian's.

    Source: LeCun et al. 1990, Optimal brain damage; Theis et al. 2018, Faster gaze prediction with dense networks.
    """
    return weight.square().mul_(statistics.squared_gradient[name]).mul_(0.5)


CRITERIA: Mapping[str, Criterion] = {
    "low-magnitude": Criterion(magnitude),
    "random": Criterion(noise),
    "high-magnitude": Criterion(smallness),
    "movement": Criterion(movement, "movement"),
    "taylor": Criterion(taylor, "gradient"),
    "wanda": Criterion(wanda, "input_norm"),
    "fisher": Criterion(fisher, "squared_gradient"),
}


def score_weights(
    prunable: Weights, *, criterion: str, seed: int, statistics: CalibrationStatistics | None = None
) -> dict[str, Tensor]:
    """name -> scores, float32 on the CPU, the shape of the weight; `seed` is read by `random` alone.

    Raises PruneError if nothing can be pruned, a weight or its statistics are not finite, or statistics are missing.
    """
    if not prunable:
        raise PruneError("the model has no prunable weight (a matrix outside the embeddings and the output layer)")
    if criterion not in CRITERIA:
        raise PruneError(f"criterion {criterion}: is unknown; this lxcompress knows {', '.join(CRITERIA)}")
    chosen, statistics = CRITERIA[criterion], statistics or CalibrationStatistics()
    generator = torch.Generator().manual_seed(seed)
    scores = {}
    for name, weight in prunable.items():
        if not is_finite(weight):
            raise PruneError(f"{name}: holds values that are not finite, so it cannot be ranked; mend the checkpoint")
        if chosen.needs:
            _check_statistics(criterion, chosen.needs, name, weight, getattr(statistics, chosen.needs))
        scores[name] = chosen.score(name, weight.detach().float().cpu(), statistics, generator)
        if chosen.needs and not is_finite(scores[name]):
            raise PruneError(
                f"{name}: its {chosen.needs} for criterion {criterion} is not finite, so it cannot be ranked; "
                "lower the learning rate, or use criterion low-magnitude"
            )
    return scores


def is_finite(tensor: Tensor) -> bool:
    """Whether every value is a finite number; no copy is made."""
    low, high = torch.aminmax(tensor)  # NaN if one is
    return bool(torch.isfinite(low) & torch.isfinite(high))


def _check_statistics(criterion: str, needs: str, name: str, weight: Tensor, seen: Weights) -> None:
    """Raises PruneError unless the statistics are there, in the shape that the weight asks for."""
    if name not in seen:
        without = ", ".join(each for each, other in CRITERIA.items() if other.needs is None)
        raise PruneError(
            f"criterion {criterion}: needs the {needs.replace('_', ' ')} of {name} on training data, and there is "
            f"none; draw the ticket in a study, which gathers it, or use one of {without}"
        )
    expected = weight.shape[1:] if needs == "input_norm" else weight.shape
    if seen[name].shape != expected:
        raise PruneError(
            f"criterion {criterion}: the {needs.replace('_', ' ')} of {name} has the shape {list(seen[name].shape)}, "
            f"expected {list(expected)}; gather it from this model"
        )

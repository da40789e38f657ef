"""Criteria: what a weight is worth, and which end of that order is kept.

`low-magnitude` removes the smallest weights (Han et al. 2015), `random` any, `high-magnitude` the largest: the three of
the published study. What one removes at a sparsity it removes at every higher one too, so its masks are nested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lxcompress.errors import PruneError
from lxcompress.pruning.mask import Mask, Weights, keep_bottom, keep_top

Score = Callable[[Tensor, torch.Generator], Tensor]
"""a weight and a seeded generator -> a score for each of its elements, of the same shape"""
Keep = Callable[[Tensor, int], Tensor]
"""scores and a number -> bool, True at exactly that many"""


@dataclass(frozen=True)
class Criterion:
    """A score, and the end of its order that stays."""

    score: Score
    keep: Keep


def magnitude(weight: Tensor, _: torch.Generator) -> Tensor:
    """|w|."""
    return weight.abs()


def noise(weight: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform noise; it depends on the generator and the shape alone."""
    return torch.rand(weight.shape, generator=generator)


CRITERIA: Mapping[str, Criterion] = {
    "low-magnitude": Criterion(magnitude, keep_top),
    "random": Criterion(noise, keep_top),
    "high-magnitude": Criterion(magnitude, keep_bottom),
}


def choose_mask(prunable: Weights, *, criterion: str, sparsity: float, scope: str, seed: int) -> Mask:
    """The Mask that keeps exactly `keep_count(n, sparsity)` of the n prunable weights: of each, or of all together.

    Raises PruneError if nothing can be pruned, a weight is not finite, or a layer would be left empty.
    """
    if not prunable:
        raise PruneError("the model has no prunable weight (a matrix outside the embeddings and the output layer)")
    for name, weight in prunable.items():
        if not bool(torch.isfinite(weight).all()):
            raise PruneError(f"{name}: holds values that are not finite, so it cannot be ranked; mend the checkpoint")
    chosen = CRITERIA[criterion]
    generator = torch.Generator().manual_seed(seed)
    scores = {name: chosen.score(weight.detach().float().cpu(), generator) for name, weight in prunable.items()}
    keep = _keep_each if scope == "layer" else _keep_together
    mask = Mask(keep(scores, sparsity, chosen.keep))
    for name, kept in mask.kept.items():
        if not bool(kept.any()):
            raise PruneError(
                f"{name}: sparsity {sparsity:g} would remove all of its {kept.numel()} weights; "
                "lower the sparsity, or use scope: layer"
            )
    return mask


def keep_count(weights: int, sparsity: float) -> int:
    """How many of `weights` stay at `sparsity`."""
    return weights - round(weights * sparsity)


def _keep_each(scores: Weights, sparsity: float, keep: Keep) -> dict[str, Tensor]:
    return {name: keep(score, keep_count(score.numel(), sparsity)) for name, score in scores.items()}


def _keep_together(scores: Weights, sparsity: float, keep: Keep) -> dict[str, Tensor]:
    together = torch.cat([score.flatten() for score in scores.values()])
    kept = keep(together, keep_count(together.numel(), sparsity))
    pieces = kept.split([score.numel() for score in scores.values()])
    return {name: piece.view_as(score) for (name, score), piece in zip(scores.items(), pieces, strict=True)}

"""Draw masks as the code of the published study does, with its faults by name; docs/reproduction.md has the evidence.

Three faults concern the mask, and each can be chosen alone. Without the three faults the mask is that of `choose_mask`.

- compounded-sparsity: weights are removed in rounds, each a tenth of the remaining weights of a tensor, until the
  target is passed. The criterion random then removes each weight with the probability that these rounds give, so the
  number of removed weights is not exact.
- every-tensor-pruned: biases, LayerNorm gains and the answer head's last matrix are pruned like the other matrices.
- high-from-low-mask: the criterion high-magnitude removes weights that low-magnitude removes.

The published code also pruned the vision branch of LXMERT that no answer depends on; the models here do not have it.
Source: low_magnitude_pruning, high_magnitude_pruning and get_random_mask of Hashemi et al. 2023 (arXiv 2310.15325).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import numpy as np
import torch
from torch import Tensor

from lxcompress.errors import PruneError
from lxcompress.pruning.choose import choose_mask
from lxcompress.pruning.mask import Mask, Weights, keep_top
from lxcompress.pruning.scope import keep_count
from lxcompress.pruning.selection import Selection
from lxcompress.recipe import Fault

SHARE = 0.1
"""The fraction of the remaining weights of a tensor that a round removes."""
ROUNDING = 1e-9
"""The rounding error of floats: 1 - 0.9 ** 1 is slightly less than 0.1."""
NOT_PRUNED = (
    "lxmert.embeddings.",
    "lxmert.encoder.visn_fc.visn_fc.bias",
    "lxmert.encoder.visn_fc.visn_layer_norm.",
    "lxmert.encoder.visn_fc.box_fc.",
    "lxmert.encoder.visn_fc.box_layer_norm.",
    "answer_head.logit_fc.3.bias",
)
"""Prefixes of the tensors that the published code did not prune: numbers 0-4, 6-12 and the last of the state dict."""


def rounds_to(target: float) -> int:
    """Return the number of rounds until the sparsity `target` (0-1) is reached, if each removes exactly a tenth."""
    return max(1, math.ceil(math.log(1 - target) / math.log(1 - SHARE) - ROUNDING))


def compounded(target: float) -> float:
    """Return the sparsity (0-1) after `rounds_to(target)` rounds: 0.2 -> 0.271, 0.5 -> 0.522, 0.9 -> 0.902."""
    return 1 - (1 - SHARE) ** rounds_to(target)


def published_prunable(name: str) -> bool:
    """Return whether the published code pruned the tensor `name` of transformers' LXMERT."""
    return not name.startswith(NOT_PRUNED)


def choose_published_mask(
    weights: Weights,
    selection: Selection,
    *,
    is_prunable: Callable[[str, torch.Size], bool],
    criterion: str,
    seed: int,
    faults: Collection[Fault],
) -> Mask:
    """Return the Mask that the published code draws, with those of `faults` that concern the mask. Raises PruneError.

    `weights` has all tensors of the model. With every-tensor-pruned the published list says which tensors are pruned,
    else `is_prunable` (the family's rule). The random generators differ from the published ones, so a random mask keeps
    as many weights as the published mask, but other ones. As in the published code, compounded-sparsity can remove all
    weights of a tensor if they are equal.
    """
    sparsity = selection.sparsity
    pruned = {
        name: weight
        for name, weight in weights.items()
        if (published_prunable(name) if "every-tensor-pruned" in faults else is_prunable(name, weight.shape))
    }
    is_compounded = "compounded-sparsity" in faults
    is_drawn_from_low = "high-from-low-mask" in faults and criterion == "high-magnitude"
    if not (is_compounded or is_drawn_from_low):
        return choose_mask(pruned, selection, criterion=criterion, seed=seed)
    if selection.scope != "layer":
        raise PruneError(
            f"scope {selection.scope}: the published study pruned each tensor separately; set prune.scope=layer, "
            "or leave compounded-sparsity and high-from-low-mask out of protocol"
        )
    scores = {name: _magnitude(name, weight) for name, weight in pruned.items()}
    generator = torch.Generator().manual_seed(seed)
    if is_drawn_from_low:
        low = _compounded(scores, 1 - sparsity) if is_compounded else _exact(scores, sparsity)
        return Mask({name: _keep_but_low(kept, generator) for name, kept in low.items()})
    if criterion == "random":
        low = _compounded(scores, sparsity)
        return Mask({name: _keep_by_chance(kept, generator) for name, kept in low.items()})
    if criterion == "high-magnitude":
        scores = {name: -score for name, score in scores.items()}
    return Mask(_compounded(scores, sparsity))


def _magnitude(name: str, weight: Tensor) -> Tensor:
    """Return |w|. Raises PruneError if a weight is not finite."""
    if not bool(torch.isfinite(weight).all()):
        raise PruneError(
            f"{name}: has values that are NaN or infinite, so it cannot be ranked; give another checkpoint"
        )
    return weight.detach().float().cpu().abs()


def _compounded(scores: Weights, target: float) -> dict[str, Tensor]:
    """Return {name: bool, True = kept}: remove weights in rounds until the sparsity of all tensors reaches `target`.

    A round removes, in each tensor, the lowest tenth of the remaining scores, one more score, and all scores that are
    equal to that one.
    """
    # A round removes more than a tenth of the remaining scores, so rounds_to gives enough rounds for every tensor.
    by_tensor = {name: _rounds(score, rounds_to(target)) for name, score in scores.items()}
    total = sum(score.numel() for score in scores.values())
    removed = [sum(counts) for counts in zip(*(counts for _, counts in by_tensor.values()), strict=True)]
    last = next(index for index, count in enumerate(removed) if count / total >= target - ROUNDING)
    return {name: score > by_tensor[name][0][last] for name, score in scores.items()}


def _rounds(scores: Tensor, count: int) -> tuple[list[float], list[int]]:
    """Return, for each round, the highest score that it removes, and the number of scores removed so far."""
    ordered = np.sort(scores.flatten().numpy())  # eight times as fast as torch.sort
    cutoffs, removed = [-math.inf], [0]
    for _ in range(count):
        left = len(ordered) - removed[-1]
        cutoff = float(ordered[removed[-1] + round(SHARE * left)]) if left else cutoffs[-1]
        cutoffs.append(cutoff)
        removed.append(int(np.searchsorted(ordered, np.float32(cutoff), side="right")))
    return cutoffs[1:], removed[1:]


def _exact(scores: Weights, sparsity: float) -> dict[str, Tensor]:
    """Return {name: bool, True = kept} of the weights with the highest scores.

    The fraction `sparsity` of the weights is kept, not removed: `_keep_but_low` removes as many as are kept here.
    """
    return {
        name: keep_top(score, score.numel() - keep_count(score.numel(), sparsity)) for name, score in scores.items()
    }


def _keep_but_low(low: Tensor, generator: torch.Generator) -> Tensor:
    """Return bool, True = kept, that removes as many weights as `low` keeps; weights that `low` removes come first.

    If `low` keeps more weights than it removes, the result removes all weights that `low` removes, and some random
    weights that `low` keeps. Otherwise the result removes some random weights of those that `low` removes.
    """
    flat = low.flatten()
    kept, removed = flat.nonzero()[:, 0], (~flat).nonzero()[:, 0]
    result = torch.ones_like(flat)
    result[_sample(removed, min(len(kept), len(removed)), generator)] = False
    result[_sample(kept, max(0, len(kept) - len(removed)), generator)] = False
    return result.view_as(low)


def _sample(indices: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` different random values of `indices`."""
    return indices[torch.randperm(len(indices), generator=generator)[:count]]


def _keep_by_chance(low: Tensor, generator: torch.Generator) -> Tensor:
    """Return bool, True = kept. A weight is removed with a probability: the fraction of weights that `low` removes."""
    share = 1 - int(low.sum()) / low.numel()
    return torch.rand(low.shape, generator=generator) >= share

"""Draw masks as the published study's code does, with its faults by name; docs/reproduction.md has the evidence.

Three faults concern the mask. Each can be given alone; without all three the mask is that of `choose_mask`.

- compounded-sparsity: rounds remove a tenth of the rest of a tensor each, until the target is passed; "random"
  then removes each weight with the probability that this gives, so its count is not exact.
- every-tensor-pruned: biases, LayerNorm gains and the answer head's last matrix are pruned like the other matrices.
- high-from-low-mask: "high-magnitude" removes weights that low-magnitude removes.

The published code also pruned LXMERT's dead vision branch; the models here do not have it.
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
"""The share of the remaining weights of a tensor that a round removes."""
ROUNDING = 1e-9
"""The rounding error of floats, not a tolerance: 1 - 0.9 ** 1 is slightly less than 0.1."""
NOT_PRUNED = (
    "lxmert.embeddings.",
    "lxmert.encoder.visn_fc.visn_fc.bias",
    "lxmert.encoder.visn_fc.visn_layer_norm.",
    "lxmert.encoder.visn_fc.box_fc.",
    "lxmert.encoder.visn_fc.box_layer_norm.",
    "answer_head.logit_fc.3.bias",
)
"""Prefixes of tensors 0-4, 6-12 and the last of LXMERT's state dict; the published code pruned all others."""


def rounds_to(target: float) -> int:
    """Return the number of rounds until `target` (0-1) is reached, for tensors so large that a round takes a tenth."""
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
    """Return the Mask that the published code draws from all `weights`, with those `faults` that concern the mask.

    Without every-tensor-pruned, `is_prunable` (the family's rule) says which tensors are pruned. The random generators
    differ from the published ones, so a random mask has the published counts, but keeps other weights. As in the
    published code, a compounded tensor can lose all its weights if they are equal. Raises PruneError.
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
        raise PruneError(f"{name}: holds values that are not finite, so it cannot be ranked; mend the checkpoint")
    return weight.detach().float().cpu().abs()


def _compounded(scores: Weights, target: float) -> dict[str, Tensor]:
    """Return {name: bool, True = kept} after rounds over all tensors, until the share removed of all reaches `target`.

    A round removes the lowest tenth of a tensor's remaining scores, one more, and all scores equal to the last one.
    """
    # A round removes more than a tenth of the rest, so no tensor needs more rounds than rounds_to gives.
    by_tensor = {name: _rounds(score, rounds_to(target)) for name, score in scores.items()}
    total = sum(score.numel() for score in scores.values())
    removed = [sum(counts) for counts in zip(*(counts for _, counts in by_tensor.values()), strict=True)]
    last = next(index for index, count in enumerate(removed) if count / total >= target - ROUNDING)
    return {name: score > by_tensor[name][0][last] for name, score in scores.items()}


def _rounds(scores: Tensor, count: int) -> tuple[list[float], list[int]]:
    """Return for each round the highest score that it removes, and the number of scores that are removed by then."""
    ordered = np.sort(scores.flatten().numpy())  # eight times as fast as torch's
    cutoffs, removed = [-math.inf], [0]
    for _ in range(count):
        left = len(ordered) - removed[-1]
        cutoff = float(ordered[removed[-1] + round(SHARE * left)]) if left else cutoffs[-1]
        cutoffs.append(cutoff)
        removed.append(int(np.searchsorted(ordered, np.float32(cutoff), side="right")))
    return cutoffs[1:], removed[1:]


def _exact(scores: Weights, sparsity: float) -> dict[str, Tensor]:
    """Return the low-magnitude mask that keeps as many weights as `sparsity` removes."""
    return {
        name: keep_top(score, score.numel() - keep_count(score.numel(), sparsity)) for name, score in scores.items()
    }


def _keep_but_low(low: Tensor, generator: torch.Generator) -> Tensor:
    """Return bool, True = kept: a mask that removes as many weights as `low` keeps, first those that `low` removes.

    If `low` keeps more than it removes, all that it removes are removed, and a random sample of what it keeps. Else a
    random sample of what it removes is removed.
    """
    flat = low.flatten()
    kept, removed = flat.nonzero()[:, 0], (~flat).nonzero()[:, 0]
    result = torch.ones_like(flat)
    result[_sample(removed, min(len(kept), len(removed)), generator)] = False
    result[_sample(kept, max(0, len(kept) - len(removed)), generator)] = False
    return result.view_as(low)


def _sample(indices: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` different values of `indices`."""
    return indices[torch.randperm(len(indices), generator=generator)[:count]]


def _keep_by_chance(low: Tensor, generator: torch.Generator) -> Tensor:
    """Return bool, True = kept: each weight is removed with the probability that is the share that `low` removes."""
    share = 1 - int(low.sum()) / low.numel()
    return torch.rand(low.shape, generator=generator) >= share

"""Masks as the published study's code drew them, each of its faults by name: docs/reproduction.md has the evidence.

Three faults are of the mask, and each acts on its own; without any, the mask is `choose_mask`'s.

- compounded-sparsity: rounds that each remove a tenth of what is left of a tensor, until the target is passed;
  "random" removes each weight with the share that came of it, so its count is not exact.
- every-tensor-pruned: biases, LayerNorm gains and the answer head's last matrix are pruned as the other matrices are.
- high-from-low-mask: "high-magnitude" removes weights that low-magnitude removes.

The published code counted LXMERT's dead vision branch among what it pruned; the models here have none.
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
"""What a round removes of what is left of a tensor."""
ROUNDING = 1e-9
"""Of floats, not a tolerance: 1 - 0.9 ** 1 is a little less than 0.1."""
NOT_PRUNED = (
    "lxmert.embeddings.",
    "lxmert.encoder.visn_fc.visn_fc.bias",
    "lxmert.encoder.visn_fc.visn_layer_norm.",
    "lxmert.encoder.visn_fc.box_fc.",
    "lxmert.encoder.visn_fc.box_layer_norm.",
    "answer_head.logit_fc.3.bias",
)
"""The tensors at the places 0-4, 6-12 and last of LXMERT's state dict: all that the published code left out."""


def rounds_to(target: float) -> int:
    """The rounds until `target` (0-1) is reached, in tensors large enough that a round removes just a tenth."""
    return max(1, math.ceil(math.log(1 - target) / math.log(1 - SHARE) - ROUNDING))


def compounded(target: float) -> float:
    """The sparsity (0-1) after `rounds_to(target)` rounds: 0.2 -> 0.271, 0.5 -> 0.522, 0.9 -> 0.902."""
    return 1 - (1 - SHARE) ** rounds_to(target)


def published_prunable(name: str) -> bool:
    """Whether the published code pruned the tensor `name`, of any shape; names are transformers' LXMERT's."""
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
    scores = {name: _size(name, weight) for name, weight in pruned.items()}
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


def _size(name: str, weight: Tensor) -> Tensor:
    """|w|; raises PruneError if one is not finite."""
    if not bool(torch.isfinite(weight).all()):
        raise PruneError(f"{name}: holds values that are not finite, so it cannot be ranked; mend the checkpoint")
    return weight.detach().float().cpu().abs()


def _compounded(scores: Weights, target: float) -> dict[str, Tensor]:
    """bool, True = kept: rounds over every tensor, until the share removed of them all reaches `target`.

    A round removes the lowest tenth of a tensor's remaining scores and one more, and all that equal the last of them.
    """
    # A round removes more than a tenth of what is left, so no tensor needs more rounds than the arithmetic says.
    by_tensor = {name: _rounds(score, rounds_to(target)) for name, score in scores.items()}
    total = sum(score.numel() for score in scores.values())
    removed = [sum(counts) for counts in zip(*(counts for _, counts in by_tensor.values()), strict=True)]
    last = next(place for place, count in enumerate(removed) if count / total >= target - ROUNDING)
    return {name: score > by_tensor[name][0][last] for name, score in scores.items()}


def _rounds(scores: Tensor, count: int) -> tuple[list[float], list[int]]:
    """Of each round, the highest score that it removes, and how many scores are removed by then."""
    ordered = np.sort(scores.flatten().numpy())  # eight times as fast as torch's
    cutoffs, removed = [-math.inf], [0]
    for _ in range(count):
        left = len(ordered) - removed[-1]
        cutoff = float(ordered[removed[-1] + round(SHARE * left)]) if left else cutoffs[-1]
        cutoffs.append(cutoff)
        removed.append(int(np.searchsorted(ordered, np.float32(cutoff), side="right")))
    return cutoffs[1:], removed[1:]


def _exact(scores: Weights, sparsity: float) -> dict[str, Tensor]:
    """The low-magnitude mask whose kept weights are as many as `sparsity` removes."""
    return {
        name: keep_top(score, score.numel() - keep_count(score.numel(), sparsity)) for name, score in scores.items()
    }


def _keep_but_low(low: Tensor, generator: torch.Generator) -> Tensor:
    """bool, True = kept: as many as `low` keeps are removed, of those that `low` removes first.

    Where `low` keeps more than it removes, all that it removes go, and the rest by chance; else a sample of them.
    """
    flat = low.flatten()
    kept, removed = flat.nonzero()[:, 0], (~flat).nonzero()[:, 0]
    result = torch.ones_like(flat)
    result[_sample(removed, min(len(kept), len(removed)), generator)] = False
    result[_sample(kept, max(0, len(kept) - len(removed)), generator)] = False
    return result.view_as(low)


def _sample(places: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` different ones of `places`."""
    return places[torch.randperm(len(places), generator=generator)[:count]]


def _keep_by_chance(low: Tensor, generator: torch.Generator) -> Tensor:
    """bool, True = kept: each weight is removed with the share that `low` removes of its tensor."""
    share = 1 - int(low.sum()) / low.numel()
    return torch.rand(low.shape, generator=generator) >= share

"""Mask: which weights are kept. A mask is never derived from zeros in the weights: a kept weight may be zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lxcompress.errors import PruneError
from lxcompress.records import Sparsity

Weights = Mapping[str, Tensor]
"""{name: tensor}, as in a state dict"""
HALF = 1 << 16
"""The number of values of 16 bits, which are half of a float32."""
SIGN = np.uint32(1 << 31)
"""The sign bit of a float32."""


@dataclass(frozen=True)
class Mask:
    """The kept weights of a model: {name: bool tensor, True = kept}. Tensors that are not named are kept whole."""

    kept: Mapping[str, Tensor]

    def apply(self, weights: Weights) -> dict[str, Tensor]:
        """Return a copy of `weights` with zeros for the weights that are not kept; tensors without a mask are shared.

        Raises PruneError if the mask does not fit the weights.
        """
        self.check(weights)
        return {
            name: tensor.masked_fill(~self.kept[name], 0) if name in self.kept else tensor
            for name, tensor in weights.items()
        }

    def check(self, weights: Weights) -> None:
        """Raise PruneError unless `weights` has every tensor of the mask, with the same shape."""
        for name, kept in self.kept.items():
            if name not in weights:
                raise PruneError(
                    f"mask: the model has no weight {name}; use the mask with the model that it was made for"
                )
            if weights[name].shape != kept.shape:
                raise PruneError(
                    f"mask: {name} is {_shape(kept)}, but {_shape(weights[name])} in the model; "
                    "use the mask with the model that it was made for"
                )

    def holds_in(self, weights: Weights) -> bool:
        """Return whether every weight that is not kept is zero in `weights`."""
        return self.count_violations(weights) == 0

    def count_violations(self, weights: Weights) -> int:
        """Return how many of the weights that are not kept differ from zero in `weights`."""
        return sum(int(weights[name].masked_fill(kept, 0).count_nonzero()) for name, kept in self.kept.items())

    def count(self, live: int, whole: int) -> Sparsity:
        """Return the Sparsity of the mask.

        `live` is the number of weights that an answer depends on, and `whole` the number of weights of the published
        model.
        """
        prunable = sum(kept.numel() for kept in self.kept.values())
        remaining = sum(int(kept.sum()) for kept in self.kept.values())
        removed = prunable - remaining
        return Sparsity(
            prunable=prunable,
            kept=remaining,
            achieved=removed / prunable,
            of_live=removed / live,
            of_all=removed / whole,
            live=live,
            all=whole,
        )


def keep_top(scores: Tensor, keep: int) -> Tensor:
    """Return bool of the shape of `scores`: True for exactly the `keep` highest scores; of equal scores, the earlier.

    The scores are partitioned, not sorted, so the time is linear in the number of weights.
    """
    return keep_top_of_each(scores.reshape(1, -1), keep).view(scores.shape)


def keep_top_of_each(scores: Tensor, keep: int) -> Tensor:
    """Return bool [R, C]: True for the `keep` highest of each row of `scores` [R, C]; of equal scores, the earlier."""
    if keep <= 0 or keep >= scores.shape[1]:
        return torch.full_like(scores, keep > 0, dtype=torch.bool)
    index = scores.shape[1] - keep
    # numpy's partition needs a tenth of the time of torch's kthvalue with AVX-512, as it returns no indices.
    threshold = torch.from_numpy(np.partition(scores.numpy(), index, axis=1)[:, index, None].copy())
    kept = scores >= threshold
    total = np.count_nonzero(kept.numpy())
    assert total >= keep * len(kept), "scores must be numbers that can be ordered"
    if total > keep * len(kept):
        _drop_later_ties(kept, scores, threshold, keep)
    return kept


def _drop_later_ties(kept: Tensor, scores: Tensor, threshold: Tensor, keep: int) -> None:
    """Change `kept` [R, C] in place so that each row keeps exactly `keep` weights.

    Of the weights whose score is equal to the row's `threshold` [R, 1], the later ones are removed.
    """
    rows = (kept.sum(1) > keep).nonzero()[:, 0]
    above = scores[rows] > threshold[rows]
    ties = kept[rows] & ~above
    kept[rows] = above | (ties & (ties.cumsum(1, dtype=torch.int32) <= keep - above.sum(1, keepdim=True)))


def keep_top_by_row(scores: Tensor, keep: int) -> Tensor:
    """Return bool [R, C]: True for exactly `keep` of all scores, spread evenly over the rows.

    Each row keeps its highest scores, and the numbers of kept scores in two rows differ by at most 1. One more is kept
    in the rows whose next score is highest; of equal scores, in the earlier rows.
    """
    base, extra = divmod(keep, len(scores))
    kept = keep_top_of_each(scores, base)
    if extra:
        following = keep_top_of_each(scores, base + 1) & ~kept
        kept[following] = keep_top(scores[following], extra)
    return kept


def keep_top_together(scores: Weights, keep: int) -> dict[str, Tensor]:
    """Return {name: bool}: True for exactly the `keep` highest scores of all tensors; of equal scores, the earlier."""
    total = sum(score.numel() for score in scores.values())
    if keep <= 0 or keep >= total:
        return {name: torch.full_like(score, keep > 0, dtype=torch.bool) for name, score in scores.items()}
    threshold = find_threshold(list(scores.values()), keep)
    kept = {name: score > threshold for name, score in scores.items()}
    left = keep - sum(int(tensor.sum()) for tensor in kept.values())
    for name, score in scores.items():
        ties = (score.flatten() == threshold).nonzero()[:left, 0]
        kept[name].view(-1)[ties] = True
        left -= len(ties)
    assert left == 0, "scores must be numbers that can be ordered"
    return kept


def find_threshold(scores: Sequence[Tensor], keep: int) -> float:
    """Return the `keep`-th highest of all float32 scores in `scores` (if it is 0, perhaps as -0).

    Two histograms find it: one of the upper 16 bits of the floats, then one of the lower 16 bits. The tensors are
    neither joined nor sorted.
    """
    upper = np.zeros(HALF, dtype=np.int64)
    for score in scores:
        upper += np.bincount(_ordered(score) >> 16, minlength=HALF)
    high, left = _from_the_top(upper, keep)
    lower = np.zeros(HALF, dtype=np.int64)
    for score in scores:
        keys = _ordered(score)
        lower += np.bincount(keys[keys >> 16 == high] & (HALF - 1), minlength=HALF)
    low, _ = _from_the_top(lower, left)
    key = np.uint32(high << 16 | low)
    bits = key ^ SIGN if key & SIGN else ~key
    return float(bits.view(np.float32))


def _ordered(score: Tensor) -> np.ndarray:
    """Return uint32 numbers with the same order as the float32 scores.

    The sign bit of positive floats is set, and all bits of negative floats are inverted.
    """
    bits = score.reshape(-1).numpy().view(np.uint32)
    if bits.max(initial=0) < SIGN:  # no negative score: the usual case, which takes a third of the time
        return bits ^ SIGN
    return np.where(bits & SIGN, ~bits, bits ^ SIGN)


def _from_the_top(histogram: np.ndarray, rank: int) -> tuple[int, int]:
    """Return the bin with the `rank`-th highest value (counted from 1), and the rank of the value within that bin."""
    above = np.cumsum(histogram[::-1])
    index = int(np.searchsorted(above, rank))
    return len(histogram) - 1 - index, int(rank - (above[index - 1] if index else 0))


def _shape(tensor: Tensor) -> str:
    """Return the shape of a tensor as text, such as 12 x 16."""
    return " x ".join(str(size) for size in tensor.shape)

"""Mask: which weights are kept. It is never derived from zeros in the weights, because a kept weight may be zero."""

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
"""The number of values that 16 bits, half of a float, can have."""
SIGN = np.uint32(1 << 31)
"""The sign bit of a float32."""


@dataclass(frozen=True)
class Mask:
    """Which weights are kept: {name: bool tensor, True = kept}. Tensors that it does not name are kept whole."""

    kept: Mapping[str, Tensor]

    def apply(self, weights: Weights) -> dict[str, Tensor]:
        """Return `weights` with zeros for what is not kept; the input is not changed.

        Raises PruneError if the mask does not fit.
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
        """Return the sparsity: among the prunable weights, among `live` weights, and in the `whole` published model."""
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
    """Return bool of the shape of `scores`: True for exactly the `keep` highest; of equal scores the earlier ones.

    It partitions, then removes ties, and does not sort, so the time is linear in the number of weights.
    """
    return keep_top_of_each(scores.reshape(1, -1), keep).view(scores.shape)


def keep_top_of_each(scores: Tensor, keep: int) -> Tensor:
    """Return bool [R, C]: True for the `keep` highest of each row of scores [R, C]; of equal scores the earlier."""
    if keep <= 0 or keep >= scores.shape[1]:
        return torch.full_like(scores, keep > 0, dtype=torch.bool)
    index = scores.shape[1] - keep
    # numpy's partition returns no indices, as torch's kthvalue does, and needs a tenth of the time with AVX-512.
    threshold = torch.from_numpy(np.partition(scores.numpy(), index, axis=1)[:, index, None].copy())
    kept = scores >= threshold
    total = np.count_nonzero(kept.numpy())
    assert total >= keep * len(kept), "scores must be numbers that can be ordered"
    if total > keep * len(kept):
        _drop_later_ties(kept, scores, threshold, keep)
    return kept


def _drop_later_ties(kept: Tensor, scores: Tensor, threshold: Tensor, keep: int) -> None:
    """Change `kept` [R, C] in place so that each row keeps exactly `keep`.

    Of the scores that equal the row's `threshold` [R, 1], the later ones are dropped.
    """
    rows = (kept.sum(1) > keep).nonzero()[:, 0]
    above = scores[rows] > threshold[rows]
    ties = kept[rows] & ~above
    kept[rows] = above | (ties & (ties.cumsum(1, dtype=torch.int32) <= keep - above.sum(1, keepdim=True)))


def keep_top_by_row(scores: Tensor, keep: int) -> Tensor:
    """Return bool [R, C]: True for exactly `keep` of all: the highest of each row, with row counts that differ by 1.

    The rows that keep one more are those whose next score is highest; of equal scores the earlier rows.
    """
    base, extra = divmod(keep, len(scores))
    kept = keep_top_of_each(scores, base)
    if extra:
        following = keep_top_of_each(scores, base + 1) & ~kept
        kept[following] = keep_top(scores[following], extra)
    return kept


def keep_top_together(scores: Weights, keep: int) -> dict[str, Tensor]:
    """Return {name: bool}: True for exactly the `keep` highest of all tensors; of equal scores the earlier ones."""
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
    """Return the `keep`-th highest of all the float32 scores; for 0 it may return -0.

    It counts the upper and then the lower half of the floats' bits in a histogram, so that no tensor is copied.
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
    """Return uint32 numbers that have the order of the floats; the bits of negative floats are inverted for that."""
    bits = score.reshape(-1).numpy().view(np.uint32)
    if bits.max(initial=0) < SIGN:  # no negative score, the usual case: a third of the time
        return bits ^ SIGN
    return np.where(bits & SIGN, ~bits, bits ^ SIGN)


def _from_the_top(histogram: np.ndarray, rank: int) -> tuple[int, int]:
    """Return the bin of the `rank`-th highest value (from 1), and the rank of the value within that bin."""
    above = np.cumsum(histogram[::-1])
    index = int(np.searchsorted(above, rank))
    return len(histogram) - 1 - index, int(rank - (above[index - 1] if index else 0))


def _shape(tensor: Tensor) -> str:
    """Return the shape of a tensor as text, such as 12 x 16."""
    return " x ".join(str(size) for size in tensor.shape)

"""Mask: which weights are kept. It is an authority of its own, and never derived again from zeros in the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lxcompress.errors import PruneError
from lxcompress.records import Sparsity

Weights = Mapping[str, Tensor]
"""name -> tensor: a state dict, and nothing more"""
HALF = 1 << 16
"""The values of half of a float's bits."""
SIGN = np.uint32(1 << 31)


@dataclass(frozen=True)
class Mask:
    """name -> bool tensor, True = kept; tensors without a name here are kept whole."""

    kept: Mapping[str, Tensor]

    def apply(self, weights: Weights) -> dict[str, Tensor]:
        """`weights` with what is not kept set to zero; the input is left as it is. Raises PruneError if it misfits."""
        self.check(weights)
        return {
            name: tensor.masked_fill(~self.kept[name], 0) if name in self.kept else tensor
            for name, tensor in weights.items()
        }

    def check(self, weights: Weights) -> None:
        """Raises PruneError unless every tensor of the mask is among `weights`, with its shape."""
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
        """Whether every weight that is not kept is zero in `weights`."""
        return self.count_violations(weights) == 0

    def count_violations(self, weights: Weights) -> int:
        """How many weights that are not kept are not zero in `weights`."""
        return sum(int(weights[name].masked_fill(kept, 0).count_nonzero()) for name, kept in self.kept.items())

    def count(self, live: int, whole: int) -> Sparsity:
        """What the mask removes of the prunable weights, of `live` weights, and of the `whole` published model."""
        prunable = sum(kept.numel() for kept in self.kept.values())
        count = sum(int(kept.sum()) for kept in self.kept.values())
        removed = prunable - count
        return Sparsity(
            prunable=prunable,
            kept=count,
            achieved=removed / prunable,
            of_live=removed / live,
            of_all=removed / whole,
            live=live,
            all=whole,
        )


def keep_top(scores: Tensor, keep: int) -> Tensor:
    """bool, the shape of `scores`: True at exactly the `keep` highest; among equals, at the earlier.

    A partition and a fill of the ties, not a sort: linear in the number of weights.
    """
    return keep_top_of_each(scores.reshape(1, -1), keep).view(scores.shape)


def keep_top_of_each(scores: Tensor, keep: int) -> Tensor:
    """bool [R, C]: in each row of scores [R, C], True at exactly the `keep` highest; among equals, at the earlier."""
    if keep <= 0 or keep >= scores.shape[1]:
        return torch.full_like(scores, keep > 0, dtype=torch.bool)
    place = scores.shape[1] - keep
    # numpy's partition needs no places (torch's kthvalue does), and takes a tenth of its time where it has AVX-512.
    cut = torch.from_numpy(np.partition(scores.numpy(), place, axis=1)[:, place, None].copy())
    kept = scores >= cut
    total = np.count_nonzero(kept.numpy())
    assert total >= keep * len(kept), "scores must be numbers that can be ordered"
    if total > keep * len(kept):
        _thin(kept, scores, cut, keep)
    return kept


def _thin(kept: Tensor, scores: Tensor, cut: Tensor, keep: int) -> None:
    """Takes the later of the scores that equal a row's `cut` out of `kept` [R, C], in place: `keep` stay in each."""
    crowded = (kept.sum(1) > keep).nonzero()[:, 0]
    above = scores[crowded] > cut[crowded]
    ties = kept[crowded] & ~above
    kept[crowded] = above | (ties & (ties.cumsum(1, dtype=torch.int32) <= keep - above.sum(1, keepdim=True)))


def keep_top_by_row(scores: Tensor, keep: int) -> Tensor:
    """bool [R, C]: True at exactly `keep` of all, the highest of each row, as many in each as in any other or one more.

    The rows with one more are those whose next score is highest; among equals, the earlier.
    """
    base, extra = divmod(keep, len(scores))
    kept = keep_top_of_each(scores, base)
    if extra:
        following = keep_top_of_each(scores, base + 1) & ~kept
        kept[following] = keep_top(scores[following], extra)
    return kept


def keep_top_together(scores: Weights, keep: int) -> dict[str, Tensor]:
    """name -> bool: True at exactly the `keep` highest of all the tensors; among equals, at the earlier."""
    total = sum(score.numel() for score in scores.values())
    if keep <= 0 or keep >= total:
        return {name: torch.full_like(score, keep > 0, dtype=torch.bool) for name, score in scores.items()}
    cut = find_threshold(list(scores.values()), keep)
    kept = {name: score > cut for name, score in scores.items()}
    left = keep - sum(int(each.sum()) for each in kept.values())
    for name, score in scores.items():
        ties = (score.flatten() == cut).nonzero()[:left, 0]
        kept[name].view(-1)[ties] = True
        left -= len(ties)
    assert left == 0, "scores must be numbers that can be ordered"
    return kept


def find_threshold(scores: Sequence[Tensor], keep: int) -> float:
    """The `keep`-th highest of all the float32 scores; of two zeros of unlike sign, either.

    Two histograms find it, of the upper and of the lower half of a float's bits: nothing is copied or put together.
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
    """uint32: whole numbers in the order of the floats; the bits of a negative one count downwards."""
    bits = score.reshape(-1).numpy().view(np.uint32)
    if bits.max(initial=0) < SIGN:  # the usual case, in a third of the time
        return bits ^ SIGN
    return np.where(bits & SIGN, ~bits, bits ^ SIGN)


def _from_the_top(histogram: np.ndarray, rank: int) -> tuple[int, int]:
    """The bin of the `rank`-th highest (from 1), and its rank within that bin."""
    above = np.cumsum(histogram[::-1])
    place = int(np.searchsorted(above, rank))
    return len(histogram) - 1 - place, int(rank - (above[place - 1] if place else 0))


def _shape(tensor: Tensor) -> str:
    return " x ".join(str(size) for size in tensor.shape)

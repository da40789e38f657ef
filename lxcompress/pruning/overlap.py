"""Compare masks: how many weights a mask keeps in each matrix and part, and how many kept weights two masks share.

Two masks of the same sparsity share some weights by chance. So an overlap is given together with the overlap of random
masks that keep the same number of weights in each matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lxcompress.errors import PruneError

if TYPE_CHECKING:
    from lxcompress.pruning.mask import Mask

Matrices = Mapping[str, np.ndarray]
"""A mask without torch: {name of a weight matrix: bool array, True = kept}."""


@dataclass(frozen=True)
class KeptCount:
    """The number of kept weights, and of all weights, of a matrix or a part of the model."""

    kept: int
    weights: int

    @property
    def share(self) -> float:
        """Return the fraction of the weights that is kept, 0-1."""
        return self.kept / self.weights


@dataclass(frozen=True)
class Overlap:
    """The overlap of two masks, 0-1: weights that both keep, divided by weights that at least one keeps (Jaccard)."""

    shared: float
    by_chance: float
    """the overlap of random masks that keep as many weights of each matrix (the ratio of the expected numbers)"""


def kept_by_matrix(mask: Mask | Matrices) -> dict[str, KeptCount]:
    """Return {name of a weight matrix: KeptCount of its weights}."""
    return {name: KeptCount(int(kept.sum()), kept.size) for name, kept in _arrays(mask).items()}


def kept_by_part(mask: Mask | Matrices, modality: Callable[[str], str]) -> dict[str, KeptCount]:
    """Return {part of the model (language, vision, cross, head): KeptCount of the weights in its matrices}.

    `modality` maps the name of a matrix to its part.
    """
    parts: dict[str, KeptCount] = {}
    for name, count in kept_by_matrix(mask).items():
        before = parts.get(modality(name), KeptCount(0, 0))
        parts[modality(name)] = KeptCount(before.kept + count.kept, before.weights + count.weights)
    return parts


def overlap(one: Mask | Matrices, other: Mask | Matrices) -> Overlap:
    """Return the overlap of two masks. Raises PruneError if they are of different models."""
    one, other = _arrays(one), _arrays(other)
    _check_same(one, other)
    _check_same(other, one)
    both = either = 0
    expected_both = expected_either = 0.0
    for name, kept in one.items():
        first, second, n = int(kept.sum()), int(other[name].sum()), kept.size
        shared, expected = int((kept & other[name]).sum()), first * second / n
        both += shared
        either += first + second - shared
        expected_both += expected
        expected_either += first + second - expected
    if not either:
        raise PruneError("overlap: neither mask keeps a weight; compare masks that keep some")
    return Overlap(both / either, expected_both / expected_either)


def _arrays(mask: Mask | Matrices) -> Matrices:
    """Return a mask as {name of a weight matrix: bool array}."""
    kept = mask if isinstance(mask, Mapping) else mask.kept
    return {name: np.asarray(matrix) for name, matrix in kept.items()}


def _check_same(one: Matrices, other: Matrices) -> None:
    """Raise PruneError unless `other` has every matrix of `one`, with the same shape."""
    for name, kept in one.items():
        if name not in other:
            raise PruneError(f"overlap: one mask has no weight {name}; compare masks of one model")
        if kept.shape != other[name].shape:
            shapes = [" x ".join(map(str, matrix.shape)) for matrix in (kept, other[name])]
            raise PruneError(
                f"overlap: {name} is {shapes[0]} in one mask, {shapes[1]} in the other; compare masks of one model"
            )

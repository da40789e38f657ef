"""Masks beside each other: what each keeps of every matrix and part, and how much two have in common.

That two masks of one sparsity share weights is no news: by chance alone they share some. So an overlap stands beside
that of masks which keep as many of each matrix at random places.
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
"""A mask as bool arrays by the names of the weight matrices, True = kept: torch is not needed to count them."""


@dataclass(frozen=True)
class KeptCount:
    """How many of how many weights stay."""

    kept: int
    weights: int

    @property
    def share(self) -> float:
        """0-1."""
        return self.kept / self.weights


@dataclass(frozen=True)
class Overlap:
    """What two masks have in common: of all that either keeps, the share that both keep (Jaccard), 0-1."""

    shared: float
    by_chance: float
    """the same of two masks that keep as many of each matrix, at random places (ratio of the expected counts)"""


def kept_by_matrix(mask: Mask | Matrices) -> dict[str, KeptCount]:
    """name of a weight matrix -> what stays of it."""
    return {name: KeptCount(int(kept.sum()), kept.size) for name, kept in _arrays(mask).items()}


def kept_by_part(mask: Mask | Matrices, modality: Callable[[str], str]) -> dict[str, KeptCount]:
    """language, vision, cross or head -> what stays of its matrices."""
    parts: dict[str, KeptCount] = {}
    for name, each in kept_by_matrix(mask).items():
        before = parts.get(modality(name), KeptCount(0, 0))
        parts[modality(name)] = KeptCount(before.kept + each.kept, before.weights + each.weights)
    return parts


def overlap(one: Mask | Matrices, other: Mask | Matrices) -> Overlap:
    """What the two masks have in common. Raises PruneError if they are not of the same weights."""
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
    kept = mask if isinstance(mask, Mapping) else mask.kept
    return {name: np.asarray(each) for name, each in kept.items()}


def _check_same(one: Matrices, other: Matrices) -> None:
    """Raise PruneError unless every matrix of `one` is in `other`, with its shape."""
    for name, kept in one.items():
        if name not in other:
            raise PruneError(f"overlap: one mask has no weight {name}; compare masks of one model")
        if kept.shape != other[name].shape:
            shapes = [" x ".join(map(str, each.shape)) for each in (kept, other[name])]
            raise PruneError(f"overlap: {name} is {shapes[0]} in one mask and {shapes[1]} in the other")

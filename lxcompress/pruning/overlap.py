"""Masks beside each other: what each keeps of every matrix and part, and how much two have in common.

That two masks of one sparsity share weights is no news: by chance alone they share some. So an overlap stands beside
that of masks which keep as many of each matrix at random places.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lxcompress.errors import PruneError
from lxcompress.pruning.mask import Mask


@dataclass(frozen=True)
class Kept:
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


def kept_by_matrix(mask: Mask) -> dict[str, Kept]:
    """name of a weight matrix -> what stays of it."""
    return {name: Kept(int(kept.sum()), kept.numel()) for name, kept in mask.kept.items()}


def kept_by_part(mask: Mask, modality: Callable[[str], str]) -> dict[str, Kept]:
    """language, vision, cross or head -> what stays of its matrices."""
    parts: dict[str, Kept] = {}
    for name, each in kept_by_matrix(mask).items():
        before = parts.get(modality(name), Kept(0, 0))
        parts[modality(name)] = Kept(before.kept + each.kept, before.weights + each.weights)
    return parts


def overlap(one: Mask, other: Mask) -> Overlap:
    """What the two masks have in common. Raises PruneError if they are not of the same weights."""
    one.check(other.kept)
    other.check(one.kept)
    both = either = 0
    expected_both = expected_either = 0.0
    for name, kept in one.kept.items():
        first, second, n = int(kept.sum()), int(other.kept[name].sum()), kept.numel()
        shared, expected = int((kept & other.kept[name]).sum()), first * second / n
        both += shared
        either += first + second - shared
        expected_both += expected
        expected_either += first + second - expected
    if not either:
        raise PruneError("overlap: neither mask keeps a weight; compare masks that keep some")
    return Overlap(both / either, expected_both / expected_either)

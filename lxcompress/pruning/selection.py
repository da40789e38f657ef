"""Selection: how much of a model is pruned, in which units, and how the sparsity is shared among the matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxcompress.recipe import Method

MULTIPLE = 8
"""The default of `Selection.multiple`: CPU vectors of 8 floats and GPU tensor cores work best on multiples of 8."""


@dataclass(frozen=True)
class Selection:
    """The settings of one pruning step; docs/methods.md describes the values of each setting."""

    sparsity: float
    """fraction of the prunable weights to remove, 0-1; matrices in `keep_dense` are not counted"""
    granularity: str = "weight"
    """the unit that is removed, such as weight, block-1x4, 2:4 or head"""
    scope: str = "layer"
    """how the sparsity is shared among the matrices, such as layer or global"""
    relative_rates: Mapping[str, float] | None = None
    """part of the model (language, vision, cross, head) -> its rate relative to the others; only for scope modality"""
    least_kept: float = 0.0
    """the smallest fraction of its units (0-1) that a matrix keeps; only for scopes global and modality"""
    keep_dense: tuple[str, ...] = ()
    """names of weight matrices that are not pruned"""
    multiple: int = MULTIPLE
    """the widths of a smaller model are multiples of this number; it has no effect on masks"""

    @classmethod
    def from_method(cls, method: Method, sparsity: float, *, multiple: int = MULTIPLE) -> Selection:
        """Return the Selection with the settings of a recipe's method, at `sparsity`."""
        return cls(
            sparsity=sparsity,
            granularity=method.granularity,
            scope=method.scope,
            relative_rates=method.relative_rates.model_dump() if method.relative_rates else None,
            least_kept=method.least_kept,
            keep_dense=method.keep_dense,
            multiple=multiple,
        )

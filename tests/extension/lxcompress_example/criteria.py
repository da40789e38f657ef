"""A criterion: the size of a weight times the length of its matrix's column, which is all that an input is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lxcompress.catalog.criteria import CriterionSpec

if TYPE_CHECKING:  # lxcompress reads the spec before it imports torch
    from torch import Generator, Tensor

COLUMN_NORM = CriterionSpec(
    name="column-norm",
    score="lxcompress_example.criteria:score",
    needs=None,
    summary="smallest |w| times the norm of its column first",
)


def score(weight: Tensor, _statistic: Tensor, _generator: Generator) -> Tensor:
    """Return |w| times the L2 norm of the column of w."""
    return weight.abs() * weight.norm(dim=0)

"""Granularity of a mask: which weights are removed together as one unit.

- weight: each weight is a unit.
- block-RxC: a unit is the weights of R neighbouring outputs at C neighbouring inputs, such as block-4x1.
- N:M: of every M neighbours along the input, exactly N are kept (2:4: Mishra et al. 2021; others: Zhou et al. 2021).

The score of a block is the sum of the scores of its weights. Sparse kernels and int8 dot products read blocks of these
shapes at once (Gray et al. 2017).

Shapes: R rows (outputs), C columns (inputs) of a weight; U, V rows and columns of blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lxcompress.errors import PruneError
from lxcompress.recipe.methods import read_block


@dataclass(frozen=True)
class Block:
    """Neighbouring weights that are kept or removed together: `rows` outputs at `columns` inputs."""

    rows: int
    columns: int

    @property
    def size(self) -> int:
        """Return the number of weights of one block."""
        return self.rows * self.columns

    def score(self, scores: Tensor) -> Tensor:
        """Return [U, V]: the sum of `scores` [R, C] over each block. For blocks of one weight, returns `scores`."""
        if self.size == 1:
            return scores
        up, along = scores.shape[0] // self.rows, scores.shape[1] // self.columns
        parts = scores.view(up, self.rows, along, self.columns)
        total = torch.zeros(up, along)
        for row in range(self.rows):  # adding strided parts is several times as fast as a sum over four
            for column in range(self.columns):
                total += parts[:, row, :, column]
        return total

    def spread(self, kept: Tensor) -> Tensor:
        """Return bool [R, C]: for each weight, the value of its block in `kept` [U, V]."""
        if self.size == 1:
            return kept
        up, along = kept.shape
        wide = kept[:, None, :, None].expand(up, self.rows, along, self.columns)
        # Made contiguous, because reshape returns a view if there is only one block in a row.
        return wide.reshape(up * self.rows, along * self.columns).contiguous()


@dataclass(frozen=True)
class NOfM:
    """The N:M pattern: of every `of` neighbouring weights along the input, `keep` are kept."""

    keep: int
    of: int

    @property
    def sparsity(self) -> float:
        """Return the only sparsity (0-1) that the pattern can have."""
        return 1 - self.keep / self.of


def read_granularity(text: str) -> Block | NOfM:
    """Return the granularity of a mask that `text` names. Raises PruneError for any other text."""
    if text == "weight":
        return Block(1, 1)
    block = read_block(text)
    if block:
        return Block(*block)
    keep, colon, of = text.partition(":")
    if colon and keep.isdecimal() and of.isdecimal() and 0 < int(keep) < int(of):
        return NOfM(int(keep), int(of))
    raise PruneError(
        f"granularity {text}: is not a granularity of a mask; use weight, "
        "block-RxC such as block-4x4, or N:M with N below M, such as 2:4"
    )


def find_undivided(shapes: Mapping[str, torch.Size], granularity: str) -> list[str]:
    """Return the names of the matrices whose size is not a multiple of the granularity's unit, in order."""
    units = read_granularity(granularity)
    rows, columns = (1, units.of) if isinstance(units, NOfM) else (units.rows, units.columns)
    if rows == columns == 1:
        return []
    return [
        name for name, shape in shapes.items() if len(shape) != 2 or shape[0] % rows != 0 or shape[1] % columns != 0
    ]

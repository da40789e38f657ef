"""Granularity: what is removed as one. Blocks have a score, the sum of their weights'; N:M is a rule of each group.

- weight: each by itself.
- block-1x4, block-4x1: four neighbours of one output, or of four outputs at one input: the shapes that sparse kernels
  and int8 dot products read at once (Gray et al. 2017).
- N:M: of every M neighbours along the input, exactly N stay (2:4: Mishra et al. 2021; others: Zhou et al. 2021).

Shapes: R rows (outputs), C columns (inputs) of a weight; U, V of its blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lxcompress.errors import PruneError


@dataclass(frozen=True)
class Block:
    """Neighbouring weights that go or stay together: `rows` outputs at `columns` inputs."""

    rows: int
    columns: int

    @property
    def size(self) -> int:
        """The weights of one block."""
        return self.rows * self.columns

    def score(self, scores: Tensor) -> Tensor:
        """[U, V]: the sum over each block of scores [R, C]; of single weights, the scores as they are."""
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
        """bool [R, C]: each of the blocks [U, V] written out as its weights."""
        if self.size == 1:
            return kept
        up, along = kept.shape
        wide = kept[:, None, :, None].expand(up, self.rows, along, self.columns)
        return wide.reshape(up * self.rows, along * self.columns).contiguous()  # of one block a row, reshape is a view


@dataclass(frozen=True)
class Pattern:
    """N:M: `keep` of every `of` neighbours along the input stay."""

    keep: int
    of: int

    @property
    def sparsity(self) -> float:
        """The one sparsity (0-1) that it has."""
        return 1 - self.keep / self.of


BLOCKS: Mapping[str, Block] = {"weight": Block(1, 1), "block-1x4": Block(1, 4), "block-4x1": Block(4, 1)}
"""N:M is known besides."""


def read_granularity(text: str) -> Block | Pattern:
    """What `text` names. Raises PruneError."""
    if text in BLOCKS:
        return BLOCKS[text]
    keep, colon, of = text.partition(":")
    if colon and keep.isdecimal() and of.isdecimal() and 0 < int(keep) < int(of):
        return Pattern(int(keep), int(of))
    raise PruneError(
        f"granularity {text}: is no granularity of a mask; use one of {', '.join(BLOCKS)}, "
        "or N:M with N below M, such as 2:4"
    )


def find_undivided(shapes: Mapping[str, torch.Size], granularity: str) -> list[str]:
    """Return the names of the weights that the granularity does not divide evenly, in order: they are kept dense."""
    chosen = read_granularity(granularity)
    rows, columns = (1, chosen.of) if isinstance(chosen, Pattern) else (chosen.rows, chosen.columns)
    if rows == columns == 1:
        return []
    return [
        name for name, shape in shapes.items() if len(shape) != 2 or shape[0] % rows != 0 or shape[1] % columns != 0
    ]

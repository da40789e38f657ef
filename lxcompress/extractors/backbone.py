"""BackboneExtractor: any image network of a library, its last map pooled to a grid of regions.

Shapes: C channels, h and w rows and columns of the last map, G cells of the grid on a side, O = G x G regions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lxcompress.data.regions.identity import ExtractorRecord
from lxcompress.errors import DataError
from lxcompress.extractors.photo import Picture
from lxcompress.extractors.preparation import Preparation


@dataclass(frozen=True)
class BackboneExtractor:
    """A network whose last map is pooled to `grid` x `grid` cells, and how it reads a photograph."""

    name: str
    version: str
    preparation: Preparation
    grid: int
    run: Callable[[Tensor], Tensor]
    """returns the last map [1, C, h, w] for the input [1, 3, H, W]"""

    @property
    def record(self) -> ExtractorRecord:
        """Return the identity of this extractor."""
        settings = {"grid": self.grid, "preparation": self.preparation.settings}
        return ExtractorRecord(name=self.name, version=self.version, settings=settings)

    @property
    def objects(self) -> int:
        """Return the number of regions."""
        return self.grid**2

    def read(self, path: Path) -> Picture:
        """Return the part of a photograph that the network reads, uint8 [H, W, 3]."""
        return self.preparation.read(path)

    @torch.no_grad()
    def find_regions(self, picture: Picture) -> tuple[np.ndarray, np.ndarray]:
        """Return the features and the boxes of the cells, row by row."""
        maps = self.run(self.preparation.to_input(picture.pixels))
        cells = functional.adaptive_avg_pool2d(maps, self.grid)
        return cells[0].flatten(1).T.contiguous().numpy(), cut_grid(self.grid, picture.window)


def cut_grid(grid: int, window: tuple[float, float, float, float] = (0, 0, 1, 1)) -> np.ndarray:
    """Return the boxes of the cells of a grid over `window`, row by row: float32 [O, 4], x1 y1 x2 y2, 0-1."""
    edges = np.arange(grid + 1) / grid
    left, top, right, bottom = window
    columns, rows = left + (right - left) * edges, top + (bottom - top) * edges
    x1, y1 = np.meshgrid(columns[:-1], rows[:-1])
    x2, y2 = np.meshgrid(columns[1:], rows[1:])
    return np.stack([x1, y1, x2, y2], axis=-1).reshape(-1, 4).astype(np.float32)


def to_map(found: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return the output of a network as a map [1, C, h, w]: a map already, or tokens [1, T, C].

    The last tokens are those of the patches, row by row; tokens of other kinds, such as [CLS], come before. `shape` are
    the rows and columns of patches that the config gives. Raises ValueError if there are fewer tokens and no square.
    """
    if found.ndim == 4:
        return found
    if found.ndim != 3:
        raise ValueError(f"gives an output of the shape {list(found.shape)}, expected a map or tokens")
    tokens, (rows, columns) = found.shape[1], shape
    if tokens < rows * columns:  # a network that merges patches, such as Swin
        rows = columns = math.isqrt(tokens)
        if rows * columns != tokens:
            raise ValueError(f"gives {tokens} tokens, which is no square of patches")
    return found[:, tokens - rows * columns :].transpose(1, 2).unflatten(2, (rows, columns))


def make_backbone(
    name: str, version: str, preparation: Preparation, grid: int, run: Callable[[Tensor], Tensor]
) -> BackboneExtractor:
    """Return the extractor after one run on a black picture. Raises DataError if the network gives no map."""
    height, width = preparation.shape
    try:
        with torch.no_grad():
            maps = run(torch.zeros(1, 3, height, width))
    except (ValueError, RuntimeError, AttributeError, TypeError, KeyError) as problem:
        reason = str(problem).partition("\n")[0] or type(problem).__name__
        raise DataError(f"--extractor {name}: cannot read a picture of {width} x {height} pixels ({reason})") from None
    largest = min(maps.shape[2:])
    if not 1 <= grid <= largest:
        raise DataError(f"--grid {grid}: expected 1 to {largest}, the cells of the last map of {name}")
    return BackboneExtractor(name, version, preparation, grid, run)

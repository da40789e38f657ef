"""Use fewer regions of an image: the first ones of a detector, or a coarser grid.

Shapes: S images, O regions, F features, G x G cells of a grid.
"""

from __future__ import annotations

from dataclasses import replace
from math import isqrt

import torch
from torch import Tensor
from torch.nn import functional

from lxcompress.data.split import AnswerTask, Regions
from lxcompress.errors import DataError

POOLED_AT_ONCE = 1024
"""How many images are pooled at once, so that their features in float32 take little memory."""


def keep_regions(task: AnswerTask, count: int) -> AnswerTask:
    """Return the task with `count` regions for each image; splits that share regions still share them.

    Raises DataError if the images have no more regions, or if their grid cannot be pooled to so many cells.
    """
    kept: dict[int, Regions] = {}
    splits = {}
    for name in ("train", "valid", "test"):
        split = getattr(task, name)
        if split is not None:
            if id(split.regions) not in kept:
                kept[id(split.regions)] = keep_first(split.regions, count)
            splits[name] = replace(split, regions=kept[id(split.regions)])
    return replace(task, **splits)


def keep_first(regions: Regions, count: int) -> Regions:
    """Return `count` regions of each image: of a grid, so many cells, else the first ones.

    Detectors write their regions by decreasing score. The cells of a grid have no such order, so they are pooled.
    """
    given = regions.features.shape[1]
    if count > given:
        raise DataError(f"{count} regions are wanted, but the images have at most {given}; give a smaller number")
    side = grid_side(regions)
    if side is not None:
        return pool_grid(regions, side, count)
    return Regions(regions.features[:, :count], regions.boxes[:, :count], regions.objects.clamp(max=count))


def grid_side(regions: Regions) -> int | None:
    """Return G if the regions of every image are the cells of a grid of G x G, row by row; else None."""
    side = isqrt(regions.boxes.shape[1])
    if side < 2 or side * side != regions.boxes.shape[1] or not len(regions.boxes):
        return None
    cells = grid_boxes(side, side).to(regions.boxes.device)
    is_grid = bool((regions.objects == side * side).all()) and torch.allclose(regions.boxes[0], cells, atol=1e-6)
    return side if is_grid and bool((regions.boxes == regions.boxes[:1]).all()) else None


def pool_grid(regions: Regions, side: int, count: int) -> Regions:
    """Return the cells of a coarser grid of `count` cells, as square as possible: the means of the cells they cover.

    As in the extractor, neighbouring cells share a row or a column if the old side is no multiple of the new one.
    """
    rows, columns = _shape_grid(side, count)
    pooled = [
        _pool(features, side, rows, columns).to(features.dtype) for features in regions.features.split(POOLED_AT_ONCE)
    ]
    images = len(regions.features)
    boxes = grid_boxes(rows, columns).to(regions.boxes.device).expand(images, -1, -1)
    return Regions(torch.cat(pooled), boxes, torch.full_like(regions.objects, count))


def grid_boxes(rows: int, columns: int) -> Tensor:
    """Return the boxes of the cells of a grid, row by row: float32 [rows x columns, 4], x1 y1 x2 y2, 0-1."""
    across, down = torch.arange(columns + 1) / columns, torch.arange(rows + 1) / rows
    top, left = torch.meshgrid(down[:-1], across[:-1], indexing="ij")
    bottom, right = torch.meshgrid(down[1:], across[1:], indexing="ij")
    return torch.stack([left, top, right, bottom], dim=-1).reshape(-1, 4)


def _pool(features: Tensor, side: int, rows: int, columns: int) -> Tensor:
    """Return the features [S, O, F] of a grid of `side` x `side` cells, pooled to `rows` x `columns` cells."""
    images, _, size = features.shape
    maps = features.float().transpose(1, 2).reshape(images, size, side, side)
    return functional.adaptive_avg_pool2d(maps, (rows, columns)).flatten(2).transpose(1, 2).contiguous()


def _shape_grid(side: int, count: int) -> tuple[int, int]:
    """Return the rows and columns of the most square grid of `count` cells; it has no more rows than columns.

    Raises DataError if a side of it would have more than `side` cells.
    """
    rows = next(rows for rows in range(isqrt(count), 0, -1) if count % rows == 0)
    if count // rows > side:
        sides = range(1, side + 1)
        possible = ", ".join(map(str, sorted({one * two for one in sides for two in sides}, reverse=True)))
        raise DataError(f"a grid of {side} x {side} regions cannot be pooled to {count}; give one of {possible}")
    return rows, count // rows

"""Boxes of a detector: decode them, clip them, suppress doubles, and pool a map in them.

A box is x1 y1 x2 y2 in pixels.

Shapes: N boxes, C channels, H and W rows and columns of a map, P pooled cells on a side.

The library torchvision has such functions too. Its wheels on PyPI only load beside the torch of the same CUDA, so a
detector that needed them could not be installed beside the torch for processors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LARGEST_GROWTH = math.log(1000 / 16)
"""The largest logarithm of the growth of a box: what makes a box of 16 pixels one of 1,000 (Girshick 2015)."""


def decode_boxes(changes: Tensor, boxes: Tensor, weights: Sequence[float]) -> Tensor:
    """Return the boxes [N, 4] that `changes` [N, 4] make of `boxes` [N, 4] (Girshick et al. 2014, appendix C).

    The changes are those of the centre, relative to the size, and the logarithms of the growth; each divided by its
    weight.
    """
    size = boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, :2] + 0.5 * size
    shift = changes[:, :2] / changes.new_tensor(weights[:2])
    growth = (changes[:, 2:] / changes.new_tensor(weights[2:])).clamp(max=LARGEST_GROWTH)
    centre, half = shift * size + centre, 0.5 * (growth.exp() * size)
    return torch.cat([centre - half, centre + half], dim=1)


def clip_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return the boxes [N, 4], cut to a picture of `height` x `width` pixels."""
    limits = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), limits)


def suppress(boxes: Tensor, scores: Tensor, overlap: float, most: int) -> Tensor:
    """Return the indices of at most `most` boxes by falling score, without doubles (non-maximum suppression).

    A box is a double if its intersection with a better box, divided by their union, is more than `overlap`.
    """
    order = scores.argsort(descending=True, stable=True)
    rest = boxes[order]
    area = (rest[:, 2] - rest[:, 0]) * (rest[:, 3] - rest[:, 1])
    is_left = torch.ones(len(rest), dtype=torch.bool)
    kept: list[int] = []
    for index in range(len(rest)):
        if len(kept) == most:
            break
        if not is_left[index]:
            continue
        kept.append(index)
        corner = torch.maximum(rest[index, :2], rest[index + 1 :, :2])
        side = (torch.minimum(rest[index, 2:], rest[index + 1 :, 2:]) - corner).clamp(min=0)
        shared = side[:, 0] * side[:, 1]
        is_left[index + 1 :] &= ~(shared / (area[index] + area[index + 1 :] - shared) > overlap)
    return order[kept]


def pool_boxes(maps: Tensor, boxes: Tensor, scale: float, cells: int) -> Tensor:
    """Return the largest values of the map [C, H, W] in P x P cells of each box: [N, C, P, P] (RoIPool, Girshick 2015).

    `scale` is the number of cells of the map for a pixel. The edges of a box are rounded to whole cells of the map, and
    a pooled cell without any is 0. The cells are computed in float32, as Caffe and torchvision do.
    """
    channels, height, width = maps.shape
    channels_last = maps.permute(1, 2, 0).contiguous()  # a row of channels is read at once
    edges = torch.floor((boxes * scale).double() + 0.5).int()
    sizes = (edges[:, 2:] - edges[:, :2] + 1).clamp(min=1)
    columns = _cell_ranges(edges[:, 0], sizes[:, 0], width, cells)
    rows = _cell_ranges(edges[:, 1], sizes[:, 1], height, cells)
    pooled = maps.new_zeros(len(boxes), cells, cells, channels)
    for index in range(len(boxes)):
        for row, (top, bottom) in enumerate(rows[index]):
            if bottom <= top:
                continue
            line = channels_last[top:bottom].amax(0)
            for column, (left, right) in enumerate(columns[index]):
                if right > left:
                    pooled[index, row, column] = line[left:right].amax(0)
    return pooled.permute(0, 3, 1, 2)


def _cell_ranges(starts: Tensor, sizes: Tensor, limit: int, cells: int) -> list[list[list[int]]]:
    """Return where the pooled cells of each box begin and end on the map: [N][P][2]; the ends are not part of them."""
    numbers = torch.arange(cells + 1, dtype=torch.float32)
    edges = numbers * (sizes.float() / cells)[:, None]
    begins, ends = edges[:, :-1].floor().int(), edges[:, 1:].ceil().int()
    ranges = torch.stack([begins, ends], dim=2) + starts[:, None, None]
    found: list[list[list[int]]] = ranges.clamp(0, limit).tolist()
    return found

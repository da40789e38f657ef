"""Preparation: how the authors of a network prepare a photograph, read from the file beside the weights.

Shapes: H and W rows and columns of the picture that the network reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lxcompress.data.regions.rows import RowError
from lxcompress.extractors.photo import FILTERS, Picture, read_prepared, resize_to, to_pixels

NARROWEST = 20
"""The largest ratio of the sides of a photograph whose shape is kept; a longer one would make a huge picture."""
REFUSED = ("do_pad", "do_flip_channel_order", "do_thumbnail", "do_align_long_axis", "include_top", "rescale_offset")
"""Steps of some image processors that are not known here."""


@dataclass(frozen=True)
class Preparation:
    """The steps from a photograph in RGB to the input of a network, in this order."""

    size: tuple[int, int] | int
    """rows and columns of the resized photograph; or the shorter side, and the shape is kept"""
    filter: str
    """one of Pillow's filters: nearest, bilinear, bicubic, lanczos, box, hamming"""
    crop: tuple[int, int] | None
    """rows and columns of the middle that is read; None reads all of it"""
    rounding: Literal["down", "even"]
    """how half a pixel is rounded where the middle begins: down, or to an even number"""
    scale: float
    """what a pixel is multiplied by"""
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    """of each channel after that; (pixel * scale - mean) / deviation is the input"""

    @property
    def shape(self) -> tuple[int, int]:
        """Return H and W."""
        if self.crop is not None:
            return self.crop
        assert isinstance(self.size, tuple)
        return self.size

    @property
    def settings(self) -> dict[str, Any]:
        """Return the steps as they are written into a store."""
        return asdict(self)

    def read(self, path: Path) -> Picture:
        """Return a photograph as uint8 [H, W, 3]. Raises RowError and DataError."""
        windows: list[tuple[float, float, float, float]] = []

        def prepare(image: Any) -> np.ndarray:
            rows, columns = self.find_size(image.height, image.width)
            pixels = to_pixels(resize_to(image, columns, rows, self.filter))
            height, width = self.shape
            top, left = self._begin(rows - height), self._begin(columns - width)
            windows.append((left / columns, top / rows, (left + width) / columns, (top + height) / rows))
            return pixels[top : top + height, left : left + width]

        pixels = read_prepared(path, prepare)
        return Picture(pixels, windows[0])

    def find_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the rows and columns of the resized photograph. Raises RowError if it would be far too long."""
        if isinstance(self.size, tuple):
            return self.size
        shorter, longer = min(height, width), max(height, width)
        if longer > NARROWEST * shorter:
            raise RowError(f"one of its sides ({width:,} x {height:,} pixels) is over {NARROWEST} times the other")
        length = int(self.size * longer / shorter)
        return (self.size, length) if height <= width else (length, self.size)

    def to_input(self, pixels: np.ndarray) -> Tensor:
        """Return the input of the network, float32 [1, 3, H, W], for `pixels` uint8 [H, W, 3]."""
        mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.deviation))
        values = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float()
        return ((values * self.scale - mean) / deviation)[None]

    def _begin(self, rest: int) -> int:
        """Return where the middle begins, if `rest` pixels are left over."""
        return rest // 2 if self.rounding == "down" else round(rest / 2)


def read_processor(tree: Mapping[str, Any]) -> Preparation:
    """Return the steps that a preprocessor_config.json of transformers describes. Raises ValueError."""
    refused = [name for name in REFUSED if tree.get(name)]
    if refused or tree.get("crop_pct") is not None:
        raise ValueError(f"has the step {refused[0] if refused else 'crop_pct'}, which is not known here")
    if not tree.get("do_resize", True):
        raise ValueError("has no do_resize, so the size of the picture is not known")
    size = _read_size(tree.get("size"), "size")
    crop = _read_size(tree.get("crop_size"), "crop_size") if tree.get("do_center_crop") else None
    if isinstance(crop, int):
        crop = (crop, crop)
    if isinstance(size, int) and crop is None:
        raise ValueError("keeps the shape of a photograph (size.shortest_edge) without do_center_crop")
    least = (size, size) if isinstance(size, int) else size
    if crop is not None and (crop[0] > least[0] or crop[1] > least[1]):
        raise ValueError(f"has a crop_size {list(crop)} that is larger than the picture {list(least)}")
    does_normalise = tree.get("do_normalize", True)
    return Preparation(
        size=size,
        filter=_read_filter(tree.get("resample", 2)),
        crop=crop,
        rounding="down",
        scale=float(tree.get("rescale_factor", 1 / 255)) if tree.get("do_rescale", True) else 1.0,
        mean=_read_channels(tree.get("image_mean"), "image_mean") if does_normalise else (0.0,) * 3,
        deviation=_read_channels(tree.get("image_std"), "image_std") if does_normalise else (1.0,) * 3,
    )


def _read_size(found: Any, name: str) -> tuple[int, int] | int:
    """Return the rows and columns, or the shorter side. Raises ValueError."""
    if isinstance(found, Mapping):
        entries = {key: value for key, value in found.items() if value is not None}
        if set(entries) == {"shortest_edge"}:
            return _read_side(entries["shortest_edge"], name)
        if set(entries) == {"height", "width"}:
            return _read_side(entries["height"], name), _read_side(entries["width"], name)
    elif name == "crop_size" or isinstance(found, int):
        side = _read_side(found, name)
        return (side, side) if name == "crop_size" else side
    raise ValueError(f"has {name} {found!r}, expected height and width, or shortest_edge")


def _read_side(found: Any, name: str) -> int:
    """Return a number of pixels. Raises ValueError."""
    if type(found) is not int or not 1 <= found <= 4096:
        raise ValueError(f"has {name} {found!r}, expected 1 to 4096 pixels")
    return found


def _read_filter(found: Any) -> str:
    """Return the name of one of Pillow's filters by its number. Raises ValueError."""
    names = [name for name, number in FILTERS.items() if number == found]
    if not names:
        raise ValueError(f"has resample {found!r}, expected one of {', '.join(map(str, FILTERS.values()))}")
    return names[0]


def _read_channels(found: Any, name: str) -> tuple[float, ...]:
    """Return a number for each of the three channels. Raises ValueError."""
    is_good = isinstance(found, list | tuple) and len(found) == 3
    if not is_good or not all(isinstance(value, int | float) for value in found):
        raise ValueError(f"has {name} {found!r}, expected three numbers")
    return tuple(float(value) for value in found)

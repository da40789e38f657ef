"""RegionRow and BadRow: what a source of region features gives for one image, and the checks of the values in it.

Shapes: O regions, F features of a region.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol

import numpy as np

BOX_TOLERANCE = 1e-5
"""How far a box may reach outside its image, relative to the image's size (LXMERT's loader, Tan & Bansal 2019)."""
SIZE_LIMIT = 1_000_000
"""The most pixels of an image's side; a larger number is taken for damage."""
ID_LIMIT = 1000
"""The most characters of an image id."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
# Some programs write sizes and counts as floats, so 200.0 means 200.
_WHOLE = re.compile(r"\s*([0-9]{1,18})(?:\.0*)?\s*", re.ASCII)
ROW_LIMIT_BYTES = 1 << 24
"""The most bytes that a source may have for one image; 100 regions of 2048 features are 1.1 MB of base64."""


class Position(NamedTuple):
    """The position of an image in its source."""

    item: int
    """the number, from 1, of the line, of the file in a folder, or of the row of an array"""
    offset: int = 0
    """the byte at which the line begins, in the uncompressed file"""


FIRST = Position(1)


@dataclass(frozen=True)
class RegionRow:
    """The regions of one image, and the position from which they were read."""

    position: Position
    image: str
    features: np.ndarray
    """[O, F], any float"""
    boxes: np.ndarray
    """float32 [O, 4], x1 y1 x2 y2 over the image's width and height, 0-1"""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, and why; `image` is the id of its image, or empty if the id cannot be read."""

    position: Position
    image: str
    reason: str


class RowError(Exception):
    """The reason why a row cannot be used; a reader turns it into a BadRow."""


class RegionSource(Protocol):
    """A file, a file in a zip, or a folder with the regions of many images."""

    @property
    def name(self) -> str:
        """Return the name of the source in store.json."""

    @property
    def where(self) -> str:
        """Return the path of the source in messages."""

    @property
    def unit(self) -> str:
        """Return what the items of the source are called: line, file or row."""

    @property
    def size_bytes(self) -> int:
        """Return the size of the source on the disk."""

    def rows(self, start: Position) -> AbstractContextManager[Iterator[RegionRow | BadRow]]:
        """Open the source; yield an iterator over its rows from `start` on. Raises DataError if reading fails."""

    def share(self, position: Position) -> float:
        """Return which fraction (0-1) of the source lies before `position`."""

    def about_images(self) -> int:
        """Return the approximate number of images."""


Scale = Callable[[np.ndarray, tuple[int, int]], np.ndarray]
"""(boxes of an image, its width and height) -> boxes 0-1. Raises RowError."""


@dataclass(frozen=True)
class ReadOptions:
    """The options to read sources that differ from the files that the authors of the format publish."""

    boxes: Literal["pixels", "normalised"] = "pixels"
    """the unit of the boxes in the source, for formats whose published files have pixels"""
    strip_extension: bool = False
    """whether .jpg, .jpeg or .png is removed from the end of image ids"""

    @property
    def scale(self) -> Scale:
        """Return the function that turns the boxes of a source into boxes 0-1."""
        return scale_boxes if self.boxes == "pixels" else keep_boxes

    def __str__(self) -> str:
        given = ["--boxes normalised"] * (self.boxes == "normalised") + ["--strip-extension"] * self.strip_extension
        return " ".join(given)


@dataclass(frozen=True)
class StrippedSource:
    """A source like `source`, whose image ids are returned without the extension of an image file (.jpg)."""

    source: RegionSource

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def where(self) -> str:
        return self.source.where

    @property
    def unit(self) -> str:
        return self.source.unit

    @property
    def size_bytes(self) -> int:
        return self.source.size_bytes

    @contextmanager
    def rows(self, start: Position = FIRST) -> Iterator[Iterator[RegionRow | BadRow]]:
        with self.source.rows(start) as rows:
            yield (replace(row, image=strip_extension(row.image)) for row in rows)

    def share(self, position: Position) -> float:
        return self.source.share(position)

    def about_images(self) -> int:
        return self.source.about_images()


def strip_extension(image: str) -> str:
    """Return the id `image` without .jpg, .jpeg or .png at its end; an id that is only an extension is not changed."""
    stem, dot, ending = image.rpartition(".")
    return stem if stem and dot and f".{ending.lower()}" in IMAGE_SUFFIXES else image


def check_id(image: str) -> str:
    """Return the id `image`. Raises RowError if it cannot be a line of ids.txt."""
    if not image:
        raise RowError("its image id is empty")
    if len(image) > ID_LIMIT or not image.isprintable():
        raise RowError("its image id is not a line of text")
    return image


def check_count(text: object) -> int:
    """Return a number of regions as an int. Raises RowError if it is not a whole number above 0."""
    count = whole(text)
    if count is None or count <= 0:
        raise RowError(f"its number of regions is {shown(text)}, expected 1 or more")
    return count


def check_size(width: object, height: object) -> tuple[int, int]:
    """Return the width and the height of an image, in pixels, as ints. Raises RowError for impossible sizes."""
    sizes = whole(width), whole(height)
    if any(size is None or not 0 < size <= SIZE_LIMIT for size in sizes):
        raise RowError(f"its image is {shown(width)} x {shown(height)} pixels large, expected two positive numbers")
    return sizes[0] or 0, sizes[1] or 0


def scale_boxes(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Divide boxes in pixels by the `size` of their image (width, height); return float32 [O, 4]. Raises RowError."""
    # In float32, as in LXMERT's code. A value that float32 cannot hold becomes infinite, and check_boxes refuses it.
    with np.errstate(over="ignore", invalid="ignore"):
        return check_boxes(boxes.astype(np.float32) / np.asarray([*size, *size], dtype=np.float32))


def keep_boxes(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return boxes that are 0-1 already as float32 [O, 4]; `size` is ignored. Raises RowError."""
    with np.errstate(over="ignore"):
        return check_boxes(boxes.astype(np.float32))


def check_boxes(boxes: np.ndarray) -> np.ndarray:
    """Return boxes as float32, clipped to 0-1. Raises RowError if a box exceeds this by more than BOX_TOLERANCE."""
    low, high = boxes.min(), boxes.max()
    if not (low >= -BOX_TOLERANCE and high <= 1 + BOX_TOLERANCE):  # also true for NaN
        worst = low if not low >= -BOX_TOLERANCE else high
        raise RowError(f"a box has the coordinate {worst:.6g} (1 is the image's side), expected 0 to 1")
    if (boxes[:, 2:] - boxes[:, :2]).min() < -BOX_TOLERANCE:
        raise RowError("a box ends before it begins, expected x1 y1 x2 y2")
    return (boxes if low >= 0 and high <= 1 else boxes.clip(0, 1)).astype(np.float32, copy=False)


def as_numbers(array: np.ndarray) -> np.ndarray:
    """Return an array of real numbers as floats of 2, 4 or 8 bytes, in the byte order of this machine.

    Integers of 1 or 2 bytes become float32, which holds them exactly; larger integers become float64.
    """
    if array.dtype.kind in "iu" and array.dtype.itemsize > 2:
        return array.astype(np.float64)
    if array.dtype.kind in "iu":
        return array.astype(np.float32)
    wanted = np.dtype(f"f{min(array.dtype.itemsize, 8)}")
    with np.errstate(over="ignore"):  # a long double too large for float64 becomes infinite, which is refused later
        return array.astype(wanted, copy=False)


def turn_features(array: np.ndarray, count: int) -> np.ndarray:
    """Return the features [O, F] of `count` regions; `array` is [O, F] or [F, O]. Raises RowError for another shape."""
    is_turned = array.ndim == 2 and len(array) != count and array.shape[1] == count
    turned = array.T if is_turned else array
    if array.ndim != 2 or len(turned) != count:
        raise RowError(f"its features have the shape {list(array.shape)}, but it has {count:,} boxes")
    return turned


def whole(value: object) -> int | None:
    """Return the whole number in a text of digits, or in an array of one number; None for anything else."""
    if isinstance(value, bytes | str):
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        found = _WHOLE.fullmatch(text) if len(text) <= 30 else None
        return int(found[1]) if found else None
    number = np.asarray(value)
    if number.size != 1 or number.dtype.kind not in "iuf" or not np.isfinite(number).all():
        return None
    only = float(number.reshape(()))
    return int(only) if only.is_integer() else None


def shown(value: object) -> str:
    """Return `value` as quoted text, cut to 30 characters, for an error message."""
    text = value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
    return repr(text if len(text) <= 30 else text[:30] + "...")

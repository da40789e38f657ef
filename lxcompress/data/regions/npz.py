"""Read region features from a folder with one .npz file for each image. The file name is the id of the image.

Shapes: O regions, F features of a region.

Two layouts can be read:

- bottom-up-attention.pytorch and openvqa: `x` [O, F] or [F, O], `bbox` [O, 4] in pixels, and `image_w` with `image_h`,
  or `width` with `height`;
- UNITER (Chen et al. 2020): `features` [O, F], and `norm_bb` [O, 6]: boxes 0-1, then their width and height.

Other arrays are not read, and nothing is unpickled.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lxcompress.data.archives import DAMAGE
from lxcompress.data.regions.ahead import read_ahead
from lxcompress.data.regions.npy import read_npy_header
from lxcompress.data.regions.rows import (
    FIRST,
    ROW_LIMIT_BYTES,
    BadRow,
    Position,
    RegionRow,
    RowError,
    Scale,
    as_numbers,
    check_boxes,
    check_id,
    check_size,
    scale_boxes,
    strip_extension,
    turn_features,
)
from lxcompress.errors import DataError, unreadable
from lxcompress.machine import usable_cores

KNOWN = "the arrays x, bbox, image_w, image_h (or width, height), or the arrays features, norm_bb"


@dataclass(frozen=True)
class NpzSource:
    """A folder of .npz files. They are read in the order of their names, by `workers` threads."""

    folder: Path
    names: tuple[str, ...]
    workers: int
    scale: Scale = scale_boxes
    unit: str = "file"

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def where(self) -> str:
        return str(self.folder)

    @cached_property
    def size_bytes(self) -> int:
        return sum((self.folder / name).stat().st_size for name in self.names)

    @contextmanager
    def rows(self, start: Position = FIRST) -> Iterator[Iterator[RegionRow | BadRow]]:
        with ThreadPoolExecutor(self.workers, thread_name_prefix="npz") as pool:
            try:
                positions = map(Position, range(start.item, len(self.names) + 1))
                yield read_ahead(pool, self._row, positions, threads=self.workers)
            finally:
                pool.shutdown(cancel_futures=True)

    def share(self, position: Position) -> float:
        return (position.item - 1) / len(self.names)

    def about_images(self) -> int:
        return len(self.names)

    def _row(self, position: Position) -> RegionRow | BadRow:
        """Read one file; a thread does this."""
        path = self.folder / self.names[position.item - 1]
        image = image_id(path.name)
        try:
            with zipfile.ZipFile(path) as packed:
                features, boxes = _read(packed, self.scale)
            return RegionRow(position, check_id(image), features, boxes)
        except RowError as problem:
            return BadRow(position, image, str(problem))
        except DAMAGE as problem:
            found = unreadable(path, problem, DataError)
            if found is not None:
                raise found from None
            return BadRow(position, image, f"it is damaged or not an .npz file ({problem})")


def open_npz(folder: Path, *, workers: int | None = None, scale: Scale = scale_boxes) -> NpzSource:
    """Return the source of all .npz files in `folder`. Raises DataError if there are none.

    Without `workers` there is one thread for each usable CPU core.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_file())
    except OSError as problem:  # also raised for a link that leads to itself
        where = problem.filename or folder
        raise DataError(f"{where}: cannot be read ({problem.strerror or problem}); take it out of the folder") from None
    found = tuple(name for name in names if name.endswith(".npz"))
    if not found:
        more = " (its .npy files cannot be used, because they hold no boxes)" if _any(names, ".npy") else ""
        raise DataError(f"{folder}: has no .npz files{more}; give a folder of .npz files with {KNOWN}")
    return NpzSource(folder, found, workers or len(usable_cores()), scale)


def image_id(name: str) -> str:
    """Return the id of the image of a file: the file name without .npz, and without an extension (.jpg) before it."""
    return strip_extension(name.removesuffix(".npz"))


def _any(names: list[str], suffix: str) -> bool:
    """Return whether any of `names` ends in `suffix`."""
    return any(name.endswith(suffix) for name in names)


def _read(packed: zipfile.ZipFile, scale: Scale) -> tuple[np.ndarray, np.ndarray]:
    """Return the features [O, F] and the boxes (0-1) [O, 4] in a .npz file. Raises RowError."""
    names = {name.removesuffix(".npy") for name in packed.namelist() if name.endswith(".npy")}
    if {"features", "norm_bb"} <= names:
        boxes = _array(packed, "norm_bb", 2)
        if boxes.shape[1] != 6:
            raise RowError(f"norm_bb has the shape {list(boxes.shape)}, expected [regions, 6]")
        return turn_features(_array(packed, "features", 2), len(boxes)), check_boxes(boxes[:, :4])
    size = next((pair for pair in (("image_w", "image_h"), ("width", "height")) if {*pair} <= names), None)
    if size is None or not {"x", "bbox"} <= names:
        raise RowError(f"it has the arrays {', '.join(sorted(names)) or '(none)'}, expected {KNOWN}")
    boxes = _array(packed, "bbox", 2)
    if boxes.shape[1] != 4:
        raise RowError(f"bbox has the shape {list(boxes.shape)}, expected [regions, 4]")
    pixels = check_size(*(_array(packed, name, 0) for name in size))
    return turn_features(_array(packed, "x", 2), len(boxes)), scale(boxes, pixels)


def _array(packed: zipfile.ZipFile, name: str, dimensions: int) -> np.ndarray:
    """Return the array `name` of a .npz file, as floats.

    It is read without numpy's reader, which would allocate as much memory as a damaged header says.

    Raises RowError.
    """
    with packed.open(f"{name}.npy") as file:
        try:
            shape, is_fortran, dtype, size = read_npy_header(file)
        except ValueError as problem:
            raise RowError(f"array {name} cannot be read ({problem})") from None
        if len(shape) != dimensions or not 0 < size <= ROW_LIMIT_BYTES:
            raise RowError(f"array {name} has the shape {list(shape)}, expected {dimensions} dimensions")
        data = file.read(size)
    if len(data) != size:
        raise RowError(f"array {name} is cut short")
    array = np.frombuffer(bytearray(data), dtype=dtype).reshape(shape, order="F" if is_fortran else "C")
    return as_numbers(array)

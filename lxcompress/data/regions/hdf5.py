"""Read region features from HDF5 files, in the layouts that other projects publish; this needs the extra `hdf5` (h5py).

Shapes: N images, O regions, F features of a region, T regions of all images.

| layout | datasets | image ids |
|---|---|---|
| a group for each image (VL-T5, VOLTA) | ID/features [O, F], ID/boxes [O, 4] in pixels, ID/img_w, ID/img_h | groups |
| bottom-up attention (Hu), 36 regions | image_features [N, O, F], spatial_features [N, O, 6] (0-1) | see below |
| bilinear attention networks, 10-100 | image_features [T, F], spatial_features [T, 6], pos_boxes [N, 2] | see below |
| ViLBERT | features [N, O, F], boxes [N, O, 4] in pixels, image_w, image_h, num_boxes [N] | image_ids |
| vqa-counting (Zhang et al. 2018) | features [N, F, O], boxes [N, 4, O] in pixels, widths, heights [N] | ids |
| GQA's objects | features [N, O, F], bboxes [N, O, 4] in pixels | gqa_objects_info.json in its folder |

If the ids are not in X.hdf5 (dataset image_ids, image_id or ids), they are in its folder as X_ids.txt (one on each
line), X_ids.json (a list) or X_imgid2idx.json ({id: row}). The pickles that some projects publish are never read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

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
    check_count,
    check_id,
    check_size,
    scale_boxes,
    turn_features,
    whole,
)
from lxcompress.errors import DataError, unreadable
from lxcompress.text import parse_json, read_text, shorten

if TYPE_CHECKING:
    import h5py

HDF5 = b"\x89HDF\r\n\x1a\n"
IMAGE_LIMIT, REGION_LIMIT = 10_000_000, 1_000_000_000
CACHE_BYTES = 1 << 26
"""The size of HDF5's cache of chunks; it is large enough to read a chunk with several images only once."""
LIMIT_BYTES = 1 << 28
"""The most bytes of a chunk, and of all ids. HDF5 decompresses a whole chunk to read one of its rows."""
GQA_FIELDS = ("file", "idx", "width", "height", "objectsNum")
IDS = ("image_ids", "image_id", "ids")
SIZES = (("image_w", "image_h"), ("widths", "heights"))
EXPECTED = (
    "groups with features, boxes, img_w and img_h; or image_features and spatial_features; or features, boxes, "
    "image_w, image_h and image_ids; or GQA's features and bboxes"
)


@dataclass(frozen=True)
class Hdf5Source:
    """One HDF5 file of region features: the image `images[i]` is in row `rows_of[i]` of its arrays."""

    path: Path
    images: tuple[str, ...]
    rows_of: Sequence[int]
    read: Callable[[Any, str, int], tuple[np.ndarray, np.ndarray]]
    """(file, image, row) -> features [O, F] and boxes 0-1 [O, 4]; raises RowError"""
    unit: str = "row"

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def where(self) -> str:
        return str(self.path)

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size

    @contextmanager
    def rows(self, start: Position = FIRST) -> Iterator[Iterator[RegionRow | BadRow]]:
        with _open(self.path) as file:
            yield (self._row(file, item) for item in range(start.item, len(self.images) + 1))

    def share(self, position: Position) -> float:
        return (position.item - 1) / len(self.images)

    def about_images(self) -> int:
        return len(self.images)

    def _row(self, file: h5py.File, item: int) -> RegionRow | BadRow:
        """Return the row of the image number `item`, counted from 1."""
        position, image = Position(item), self.images[item - 1]
        try:
            features, boxes = self.read(file, image, self.rows_of[item - 1])
            return RegionRow(position, check_id(image), features, boxes)
        except RowError as problem:
            return BadRow(position, image, str(problem))
        except (
            Exception
        ) as problem:  # h5py documents no error types: damaged files raised ten of them, also IndexError and TypeError
            return BadRow(position, image, f"it cannot be read ({problem})")


def open_hdf5(path: Path, *, scale: Scale = scale_boxes) -> Hdf5Source:
    """Open the HDF5 file `path`; the names in it decide its layout. Raises DataError for an unknown layout."""
    with _open(path) as file:
        try:
            source = _source(path, file, scale)
        except DataError:
            raise
        except Exception as problem:  # as in `Hdf5Source._row`
            found = unreadable(path, problem, DataError)
            raise found or DataError(f"{path}: is damaged HDF5 ({problem}); download it again") from None
    if not source.images:
        raise DataError(f"{path}: holds no image; download it again")
    return source


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for the block. Raises DataError without h5py, and for a damaged file."""
    try:
        import h5py
    except ImportError:
        raise DataError(f"{path}: is HDF5, which needs h5py; install it with: pip install 'lxcompress[hdf5]'") from None
    try:
        file = h5py.File(path, "r", rdcc_nbytes=CACHE_BYTES)
    except OSError as problem:
        found = unreadable(path, problem, DataError)
        raise found or DataError(f"{path}: is damaged HDF5 ({problem}); download it again") from None
    with file:
        yield file


def _source(path: Path, file: h5py.File, scale: Scale) -> Hdf5Source:
    """Return the source of an open file, by the layout that its names show. Raises DataError."""
    names = set(file)
    if {"image_features", "spatial_features"} <= names and file["image_features"].ndim == 2:
        _count(path, file, ("image_features", "spatial_features"), most=REGION_LIMIT)
        count = _count(path, file, ("pos_boxes",))
        return Hdf5Source(path, _find_ids(path, file, count), range(count), _read_ragged)
    if {"image_features", "spatial_features"} <= names:
        count = _count(path, file, ("image_features", "spatial_features"))
        return Hdf5Source(path, _find_ids(path, file, count), range(count), _read_bottom_up)
    sizes = next((pair for pair in SIZES if {*pair} <= names), None)
    if {"features", "boxes"} <= names and sizes:
        count = _count(path, file, ("features", "boxes", *sizes, *({"num_boxes"} & names)))
        return Hdf5Source(path, _find_ids(path, file, count), range(count), partial(_read_arrays, scale))
    if {"features", "bboxes"} <= names:
        count = _count(path, file, ("features", "bboxes"))
        info = _gqa_info(path, count)
        images = tuple(sorted(info, key=lambda image: info[image]["idx"]))
        return Hdf5Source(path, images, [info[image]["idx"] for image in images], _GqaReader(info, scale))
    first = next(iter(file), None)
    if first is not None and {"features", "boxes", "img_w", "img_h"} <= set(getattr(file[first], "keys", tuple)()):
        images = tuple(file)
        return Hdf5Source(path, images, range(len(images)), partial(_read_group, scale))
    shown = ", ".join(f"{name} {list(getattr(file[name], 'shape', []))}" for name in list(file)[:8])
    raise DataError(f"{path}: its layout is not known ({shown or 'it is empty'}); expected {EXPECTED}")


def _count(path: Path, file: h5py.File, names: Sequence[str], *, most: int = IMAGE_LIMIT) -> int:
    """Return the number of rows of the datasets `names`. Raises DataError if they differ, or if it is too large."""
    counts = {name: len(file[name]) for name in names}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        raise DataError(
            f"{path}: has arrays of unequal length ({told} rows); it is damaged, download or write it again"
        )
    count = counts[names[0]]
    if count > IMAGE_LIMIT and "image_features" not in names:
        raise DataError(
            f"{path}: its header says that it holds {count:,} images, more than the {IMAGE_LIMIT:,} that are possible; "
            "it is damaged, download it again"
        )
    return count


def _read_group(scale: Scale, file: h5py.File, image: str, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Read an image that has a group of its own (VL-T5, VOLTA); see `Hdf5Source.read`."""
    group = file[image]
    boxes = _array(group["boxes"])
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise RowError(f"its boxes have the shape {list(boxes.shape)}, expected [regions, 4]")
    size = check_size(_array(group["img_w"]), _array(group["img_h"]))
    return turn_features(_array(group["features"]), len(boxes)), scale(boxes, size)


def _read_bottom_up(file: h5py.File, image: str, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Read an image of bottom-up attention's layout; see `Hdf5Source.read`."""
    features, boxes = _pair(_array(file["image_features"], row), _array(file["spatial_features"], row), 6)
    return features, check_boxes(boxes[:, :4])


def _read_ragged(file: h5py.File, image: str, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Read an image of the bilinear attention networks' layout; see `Hdf5Source.read`."""
    start, stop = (whole(number) for number in _few_numbers(file["pos_boxes"], row, 2))
    total = len(file["image_features"])
    if start is None or stop is None or not 0 <= start < stop <= total:
        raise RowError(f"its regions are rows {start} to {stop}, but the file has {total:,} rows")
    mine = slice(start, stop)
    features, boxes = _pair(_array(file["image_features"], mine), _array(file["spatial_features"], mine), 6)
    return features, check_boxes(boxes[:, :4])


def _read_arrays(scale: Scale, file: h5py.File, image: str, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Read an image of ViLBERT's or vqa-counting's layout; see `Hdf5Source.read`."""
    width, height = next(pair for pair in SIZES if {*pair} <= set(file))
    features, boxes = _pair(_array(file["features"], row), _array(file["boxes"], row), 4)
    count = check_count(_few_numbers(file["num_boxes"], row, 1)) if "num_boxes" in file else len(boxes)
    size = check_size(_few_numbers(file[width], row, 1), _few_numbers(file[height], row, 1))
    return _cut(features, boxes, count, scale, size)


@dataclass(frozen=True)
class _GqaReader:
    """A reader of the images in one file of GQA's object features.

    `info` has the entries of gqa_objects_info.json that are about this file.
    """

    info: dict[str, dict[str, int]]
    scale: Scale

    def __call__(self, file: h5py.File, image: str, row: int) -> tuple[np.ndarray, np.ndarray]:
        info = self.info[image]
        features, boxes = _pair(_array(file["features"], row), _array(file["bboxes"], row), 4)
        return _cut(
            features, boxes, check_count(info["objectsNum"]), self.scale, check_size(info["width"], info["height"])
        )


def _cut(
    features: np.ndarray, boxes: np.ndarray, count: int, scale: Scale, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the features and the boxes (0-1) of the first `count` regions; the rest is padding. Raises RowError."""
    if count > len(boxes):
        raise RowError(f"it should have {count:,} regions, but the file has only {len(boxes)}")
    return features[:count], scale(boxes[:count], size)


def _gqa_info(path: Path, count: int) -> dict[str, dict[str, int]]:
    """Return the entries of gqa_objects_info.json that are about the GQA file `path`: image -> entry.

    `count` is the number of rows of the file. Raises DataError.
    """
    info_path = path.with_name("gqa_objects_info.json")
    number = re.search(r"_([0-9]+)\.h", path.name)
    if not info_path.is_file() or number is None:
        raise DataError(
            f"{path}: looks like a file of GQA, which needs gqa_objects_info.json; copy that file into this folder"
        )
    info = _read_json(info_path)
    mine = {}
    for image, entry in info.items() if isinstance(info, dict) else ():
        fields = [entry.get(name) for name in GQA_FIELDS] if isinstance(entry, dict) else []
        if not fields or not all(type(field) is int for field in fields):
            raise DataError(
                f"{info_path}: has {shorten(entry)} for image {image}, expected whole numbers as "
                f"{', '.join(GQA_FIELDS)}; download it again"
            )
        if entry["file"] != int(number[1]):
            continue
        if not 0 <= entry["idx"] < count:
            raise DataError(
                f"{info_path}: has row {entry['idx']} for image {image}, but {path.name} has {count:,} rows; give "
                "two files of the same release"
            )
        mine[image] = entry
    if not mine:
        raise DataError(f"{info_path}: names no image of {path.name}; download both files again")
    return mine


def _find_ids(path: Path, file: h5py.File, count: int) -> tuple[str, ...]:
    """Return the ids of the `count` images in the order of their rows; they are in the file, or in a file next to it.

    Raises DataError.
    """
    inside = next((name for name in IDS if name in file), None)
    text, listed, indexed = (path.with_name(path.stem + end) for end in ("_ids.txt", "_ids.json", "_imgid2idx.json"))
    if inside is not None:
        where, ids = f"{path} ({inside})", _read_ids(path, file[inside])
    elif text.is_file():
        lines = _read_text(text).split("\n")
        where, ids = str(text), [line.strip() for line in lines if line.strip()]
    elif listed.is_file():
        found = _read_json(listed)
        if not isinstance(found, list) or not all(type(image) in (int, str) for image in found):
            raise DataError(f"{listed}: is {shorten(found)}, expected a list of image ids; write it again")
        where, ids = str(listed), [str(image) for image in found]
    elif indexed.is_file():
        where, found = str(indexed), _read_json(indexed)
        rows = list(found.values()) if isinstance(found, dict) else []
        if not all(type(row) is int for row in rows) or sorted(rows) != list(range(count)):
            raise DataError(
                f"{indexed}: does not map image ids to the {count:,} rows of {path.name}; give the one that belongs to "
                "it"
            )
        ids = sorted(found, key=lambda image: found[image])
    else:
        pickled = path.with_name(path.stem + "_imgid2idx.pkl")
        remedy = (
            f"write what {pickled.name} holds as JSON to {indexed.name} (pickles are never read here)"
            if pickled.is_file()
            else f"write the ids to {text.name} (one on each line, in order) or {indexed.name} ({{id: row}})"
        )
        raise DataError(f"{path}: has no image ids (no {', '.join(IDS)}); {remedy}")
    if len(ids) != count:
        raise DataError(
            f"{where}: has {len(ids):,} ids, but {path.name} has {count:,} images; give the ids of that file"
        )
    return tuple(ids)


def _read_ids(path: Path, array: h5py.Dataset) -> list[str]:
    """Return the ids in a dataset. Raises DataError if the dataset has more than one dimension, or is too large."""
    if array.ndim != 1 or len(array) > IMAGE_LIMIT or len(array) * array.dtype.itemsize > LIMIT_BYTES:
        raise DataError(
            f"{path}: its {array.name.rpartition('/')[2]} are {array.dtype} {list(array.shape)}, expected an id for "
            "each image; it is damaged, download it again"
        )
    _check_chunks(array)
    return [_id(value) for value in array[()]]


def _id(value: object) -> str:
    """Return an id as text. Bytes that are not UTF-8 become a text that `check_id` refuses, and ids stay different."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="surrogateescape")
    number = None if isinstance(value, str) else whole(value)
    return str(value if number is None else number)


def _read_text(path: Path) -> str:
    """Return the text of a file. Raises DataError."""
    try:
        return read_text(path)
    except (OSError, ValueError) as problem:
        raise DataError(f"{path}: cannot be read ({problem}); write it again") from None


def _read_json(path: Path) -> Any:
    """Return the JSON document in a file. Raises DataError."""
    try:
        return parse_json(read_text(path))
    except (OSError, ValueError, RecursionError) as problem:
        found = unreadable(path, problem, DataError)
        raise found or DataError(f"{path}: is damaged or not JSON ({problem}); write it again") from None


def _pair(features: np.ndarray, boxes: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features [O, F] and boxes [O, columns] of an image. Raises RowError.

    The given arrays may be transposed: both, or only the features.
    """
    if boxes.shape[1] == columns and len(features) == len(boxes):
        return features, boxes
    if len(boxes) == columns and features.shape[1] == boxes.shape[1]:
        return features.T, boxes.T
    if boxes.shape[1] != columns:
        raise RowError(f"its boxes have the shape {list(boxes.shape)}, expected [regions, {columns}]")
    return turn_features(features, len(boxes)), boxes


def _array(array: h5py.Dataset, row: int | slice | None = None) -> np.ndarray:
    """Return a dataset, or some of its rows, as floats. Raises RowError if it is too large, empty or not numbers."""
    shape = array.shape if row is None else array.shape[1:]
    many = row.stop - row.start if isinstance(row, slice) else 1
    name = array.name.rpartition("/")[2]
    if array.dtype.kind not in "iuf" or many * math.prod(shape) * array.dtype.itemsize > ROW_LIMIT_BYTES:
        raise RowError(
            f"its {name} are {array.dtype} {list(shape)}, expected numbers of at most {ROW_LIMIT_BYTES:,} bytes"
        )
    _check_chunks(array)
    found = np.asarray(array[()] if row is None else array[row])
    if isinstance(row, slice | int) and found.ndim != 2:
        raise RowError(f"its {name} have the shape {list(found.shape)}, expected two dimensions")
    if found.size == 0:
        raise RowError("it has no regions")
    return as_numbers(found)


def _few_numbers(array: h5py.Dataset, row: int, count: int) -> np.ndarray:
    """Return row `row` of a dataset that has `count` numbers in each row. Raises RowError if it has another shape."""
    if array.dtype.kind not in "iuf" or math.prod(array.shape[1:]) != count:
        raise RowError(
            f"its {array.name.rpartition('/')[2]} are {array.dtype} {list(array.shape)}, expected numbers, {count} a "
            "row"
        )
    _check_chunks(array)
    return np.asarray(array[row]).reshape(-1)


def _check_chunks(array: h5py.Dataset) -> None:
    """Raise RowError for a dataset whose chunks would fill the memory, or whose data are stored in another file."""
    name = array.name.rpartition("/")[2]
    if array.chunks is not None and math.prod(array.chunks) * array.dtype.itemsize > LIMIT_BYTES:
        raise RowError(
            f"its {name} are stored in chunks of {list(array.chunks)}, expected at most {LIMIT_BYTES:,} bytes each"
        )
    if array.external or array.is_virtual:
        raise RowError(f"its {name} are stored in another file, expected them in this one")

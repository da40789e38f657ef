"""RegionStore: the regions of many images in one folder. Its files are memory-mapped, so opening reads almost nothing.

Shapes: N images, O regions of an image (padded with zeros), F features of a region.

```
STORE/
  features.npy   float16 [N, O, F]
  boxes.npy      float32 [N, O, 4], x1 y1 x2 y2 over the image's width and height, 0-1
  objects.npy    int32 [N], how many of the O regions an image has
  ids.txt        N image ids, one on each line
  store.json     the sources and the checksums; written last
```
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lxcompress.data.regions.identity import ExtractorRecord, extractor_of_reading
from lxcompress.data.regions.npy import read_npy_header
from lxcompress.data.regions.rows import strip_extension
from lxcompress.errors import DataError, unreadable
from lxcompress.output import command_line
from lxcompress.records import Amount, Count, FeatureOrigin, FileName, FileRecord, Positive, Record, Sha256, read_record
from lxcompress.text import read_text
from lxcompress.unset import leave_out_unset

FEATURES, BOXES, OBJECTS, IDS = "features.npy", "boxes.npy", "objects.npy", "ids.txt"
RECORD = "store.json"
HEADER_BYTES = 128
"""The length of numpy's header, with its padding, in each .npy file of a store."""
PIECE_BYTES = 1 << 20
PIECE_ROWS = 4096
NARROW = 0.05
"""An image whose boxes all lie in this corner (0-1 of each side) is suspicious: no detector finds regions only there.
It is 2 pixels of 40, the narrowest image that a detector reads."""
MOST_NARROW = 0.05
"""The largest fraction of images with only such boxes that is still plausible."""
# The ids COCO_train2014_000000132417 and 132417 are the same image; n132417 (a GQA id) is another image.
_NUMBER = re.compile(r"(?:^|_)0*([0-9]{1,18})$")


class SourceFile(Record):
    """The record of a source of a store (a file or a folder); origin.py explains `stamp`."""

    name: str
    size_bytes: Count
    sha256: str = ""
    stamp: str = ""


class StoredFile(Record):
    """The record of a file of a store. `sha256` is that of an array's data without the header, or of all of ids.txt."""

    size_bytes: Count
    sha256: Sha256


class StoreRecord(FileRecord):
    """The contents of store.json.

    `images`, `objects` and `features` are N, O and F. `largest_feature` is the largest magnitude of a feature.
    `skipped` is the number of bad rows that were left out. `reading` has the options of `data prepare` that change how
    boxes and ids are read. `extractor` made the features; None if somebody else made them.
    """

    _write = leave_out_unset("extractor")

    images: Positive
    objects: Positive
    features: Positive
    sources: list[SourceFile]
    files: dict[FileName, StoredFile]
    largest_feature: Amount
    skipped: Count
    reading: str = ""
    extractor: ExtractorRecord | None = None

    @property
    def made_by(self) -> ExtractorRecord | None:
        """Return the extractor, which a store of an earlier version has only in `reading`; None if it is unknown."""
        return self.extractor or extractor_of_reading(self.reading)

    @property
    def origin(self) -> FeatureOrigin | None:
        """Return how the features were made from photographs; None if another program made them."""
        made_by = self.made_by
        if made_by is None:
            return None
        return FeatureOrigin(made_with=self.reading, regions=self.objects, version=made_by.version)


@dataclass(frozen=True, eq=False)
class RegionStore:
    """An open store. Its arrays are memory maps of the files; writing to an array does not change its file."""

    path: Path
    ids: tuple[str, ...]
    features: np.ndarray
    """float16 [N, O, F]"""
    boxes: np.ndarray
    """float32 [N, O, 4]"""
    objects: np.ndarray
    """int32 [N]"""

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, name: str) -> int:
        """Return the row of the image `name`. Raises KeyError if there is none.

        The image is looked up by its whole id; then by its id without .jpg, .jpeg or .png; then by the number at the
        end of its id, if only one image of the store has this number.
        """
        found = self._by_id.get(name)
        if found is None:
            name = strip_extension(name)
            found = self._by_id.get(name)
        if found is None:
            number = _NUMBER.search(name)
            found = self._by_number.get(int(number[1])) if number else None
        if found is None:
            raise KeyError(name)
        return found

    def rows(self, names: Iterable[str]) -> np.ndarray:
        """Return the rows of the images `names`, as int64. Raises KeyError for the first image that is missing."""
        return np.fromiter(map(self.row, names), dtype=np.int64)

    def find_longer(self, names: Iterable[str]) -> tuple[str, str] | None:
        """Return the first of `names` that differs from an id of the store only by a file extension, and this id.

        Return None if there is none.
        """
        by_stem = {strip_extension(image): image for image in self.ids}
        pairs = ((name, by_stem.get(strip_extension(name), name)) for name in names)
        return next(((name, image) for name, image in pairs if name != image), None)

    @cached_property
    def _by_id(self) -> dict[str, int]:
        """Return image id -> row."""
        return {name: row for row, name in enumerate(self.ids)}

    @cached_property
    def _by_number(self) -> dict[int, int | None]:
        """Return number at the end of an id -> row; the row is None if several ids end in this number."""
        found: dict[int, int | None] = {}
        for row, name in enumerate(self.ids):
            if number := _NUMBER.search(name):
                key = int(number[1])
                found[key] = None if key in found else row
        return found


def open_store(path: Path) -> RegionStore:
    """Open the store in the folder `path`. Raises DataError if there is none, or if its files contradict store.json."""
    record = read_store_record(path)
    ids = tuple(read_ids(path / IDS))
    check_id_count(path, ids, record)
    return RegionStore(path, ids, *(map_array(path / name, *wanted) for name, wanted in array_shapes(record).items()))


def array_shapes(record: StoreRecord) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
    """Return the shape and the number type of each array of a store: features, boxes and objects, in this order."""
    shape = (record.images, record.objects)
    return {
        FEATURES: ((*shape, record.features), np.float16),
        BOXES: ((*shape, 4), np.float32),
        OBJECTS: (shape[:1], np.int32),
    }


def check_id_count(path: Path, ids: Sequence[str], record: StoreRecord) -> None:
    """Raise DataError unless the store in the folder `path` has an id for each image."""
    if len(ids) != record.images:
        raise DataError(
            f"{path / IDS}: has {len(ids):,} ids, but store.json has {record.images:,} images; {store_remedy(path)}"
        )


def read_store_record(path: Path) -> StoreRecord:
    """Return the record store.json in the folder `path`. Raises DataError."""
    if not (path / RECORD).is_file():
        unfinished = part_of(path).is_dir()
        reason = "its conversion is not finished" if unfinished else f"it has no {RECORD}"
        verb = "finish it" if unfinished else "make one"
        raise DataError(
            f"{path}: is not a store of region features ({reason}); "
            f"{verb} with: {command_line('data', 'prepare', 'SOURCE', '--out', path)}"
        )
    return read_record(path / RECORD, StoreRecord, DataError)


def find_box_doubt(boxes: np.ndarray) -> str | None:
    """Return a warning if the boxes [N, O, 4] of a store may have been divided twice; else None.

    If the boxes of a source are 0-1 already, and were divided by the size of the image again, all of them are tiny.
    This may be true of one of several sources; so the images with only tiny boxes are counted.
    """
    narrow = 0
    for start in range(0, len(boxes), PIECE_ROWS):
        narrow += int((boxes[start : start + PIECE_ROWS].max((1, 2)) < NARROW).sum())
    if narrow <= MOST_NARROW * len(boxes):
        return None
    return (
        f"in {narrow:,} of {len(boxes):,} images all boxes lie within the first {100 * NARROW:g} % of the image's "
        "sides; "
        "perhaps boxes that were 0-1 already were divided by the image's size again; if so, convert the sources again "
        "with --boxes normalised"
    )


def part_of(path: Path) -> Path:
    """Return the folder in which the store `path` is written until it is complete."""
    return path.with_name(path.name + ".part")


def data_pieces(path: Path) -> Iterable[bytes]:
    """Yield, in pieces, the bytes of the file `path` that its checksum covers: without the header of an array."""
    with path.open("rb") as file:
        file.seek(HEADER_BYTES if path.suffix == ".npy" else 0)
        while piece := file.read(PIECE_BYTES):
            yield piece


def map_array(path: Path, shape: tuple[int, ...], kind: type[np.generic]) -> np.ndarray:
    """Return the array in `path` as a memory map. Raises DataError.

    The map is copy-on-write and not read-only, because torch warns about read-only arrays.
    """
    try:
        with path.open("rb") as file:
            header, start = read_npy_header(file), file.tell()
    except (OSError, ValueError) as problem:
        found = unreadable(path, problem, DataError)
        raise found or DataError(f"{path}: is damaged or missing ({problem}); {store_remedy(path.parent)}") from None
    if header.shape != shape or header.dtype != kind or header.is_fortran:
        order = " in Fortran's order" if header.is_fortran else ""
        raise DataError(
            f"{path}: holds {header.dtype} {list(header.shape)}{order}, but store.json has {np.dtype(kind)} "
            f"{list(shape)}; {store_remedy(path.parent)}"
        )
    size = path.stat().st_size
    if start != HEADER_BYTES or size != start + header.size_bytes:
        raise DataError(
            f"{path}: is damaged or missing (it has {size:,} bytes, expected {HEADER_BYTES + header.size_bytes:,}); "
            f"{store_remedy(path.parent)}"
        )
    return np.memmap(path, dtype=kind, mode="c", offset=start, shape=shape)


def read_ids(path: Path) -> list[str]:
    """Return the ids in ids.txt, without a check of their number. Raises DataError."""
    try:
        text = read_text(path)
    except (OSError, ValueError) as problem:
        found = unreadable(path, problem, DataError)
        raise found or DataError(f"{path}: is damaged or missing ({problem}); {store_remedy(path.parent)}") from None
    return text.removesuffix("\n").split("\n")


def store_remedy(path: Path) -> str:
    """Return the remedy, for an error message, for the damaged store in the folder `path`."""
    return f"delete {path} and make it again with: {command_line('data', 'prepare', 'SOURCE', '--out', path)}"

"""Verify a store of region features: its files, ids, counts, boxes, checksums and features.

Shapes: N images, O regions of an image, F features of a region.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lxcompress.data.problems import Problems, count_of, several
from lxcompress.data.regions.store import (
    BOXES,
    FEATURES,
    HEADER_BYTES,
    IDS,
    OBJECTS,
    PIECE_ROWS,
    RECORD,
    RegionStore,
    StoreRecord,
    array_shapes,
    check_id_count,
    data_pieces,
    find_box_doubt,
    map_array,
    read_ids,
    read_store_record,
    store_remedy,
)
from lxcompress.errors import DataError

PIECE_BYTES = 4 << 20
HALF_INFINITY = 0x7C00
"""The bits of infinity as float16, without the sign bit. A value with these bits or larger ones is infinite or NaN."""


@dataclass(frozen=True)
class StoreContents:
    """The parts of a store that could be read; `arrays` leaves out damaged arrays."""

    path: Path
    record: StoreRecord
    arrays: Mapping[str, np.ndarray]
    ids: tuple[str, ...] | None
    """the image ids; None unless there is one id for each image"""

    @property
    def names(self) -> Sequence[str]:
        """Return a name for each image: its id, or the number of its row if the ids are unknown."""
        return self.ids or [f"row {row}" for row in range(self.record.images)]

    @property
    def counts(self) -> np.ndarray:
        """Return the number of regions of each image, int [N]. If objects.npy is damaged, it is O for all images."""
        objects = self.arrays.get(OBJECTS)
        if objects is None:
            return np.full(self.record.images, self.record.objects)
        return np.clip(objects, 0, self.record.objects)

    @property
    def store(self) -> RegionStore | None:
        """Return a store for looking up images; its arrays may be empty. Return None if the ids are unknown."""
        if self.ids is None:
            return None
        nothing = np.empty(0)
        arrays = [self.arrays.get(name, nothing) for name in (FEATURES, BOXES, OBJECTS)]
        return RegionStore(self.path, self.ids, *arrays)

    def images_at(self, rows: Sequence[int] | np.ndarray) -> str:
        """Return the names of the images in `rows` as text: "image X", or "2 images (X, Y)"."""
        return several([self.names[row] for row in rows], "image")


def verify_store(path: Path, problems: Problems | None = None, *, is_fast: bool = False) -> StoreContents | None:
    """Verify the store in the folder `path`; return its contents, or None if no store can be read there.

    A fast check compares no checksums and reads no features.

    Raises DataError under the strict policy, which is the default.
    """
    problems = problems or Problems.strict()
    contents = _read_contents(path, problems)
    if contents is None:
        return None
    _check_bytes(contents, problems, is_fast=is_fast)
    repeated = [image for image, count in Counter(contents.ids or ()).items() if count > 1]
    if repeated:
        problems.add(DataError(f"{path / IDS}: has {several(repeated, 'id')} twice; {store_remedy(path)}"))
    _check_counts(contents, problems)
    _check_boxes(contents, problems)
    if contents.record.skipped:
        problems.warn(
            path,
            f"{count_of(contents.record.skipped, 'row')} of its sources were left out (bad_rows.json lists them); if "
            "questions are about these images, correct the sources and convert them again",
        )
    return contents


def _read_contents(path: Path, problems: Problems) -> StoreContents | None:
    """Return the parts of a store that can be read.

    Return None if no array and no list of ids agrees with the number of images in store.json.
    """
    record = problems.attempt(lambda: read_store_record(path))
    if record is None:
        return None
    arrays = {}
    wanted = array_shapes(record)
    for name, (shape, kind) in wanted.items():
        array = problems.attempt(lambda: map_array(path / name, shape, kind))  # noqa: B023 (called at once)
        if array is not None:
            arrays[name] = array
    ids = problems.attempt(lambda: read_ids(path / IDS))
    if ids is not None and len(arrays) == len(wanted):
        problems.attempt(lambda: check_id_count(path, ids, record))
    is_named = ids is not None and len(ids) == record.images
    if not (arrays or is_named):
        return None
    return StoreContents(path, record, arrays, tuple(ids) if ids is not None and is_named else None)


def _check_counts(contents: StoreContents, problems: Problems) -> None:
    """Report an error if images have an impossible number of regions."""
    objects, most = contents.arrays.get(OBJECTS), contents.record.objects
    wrong = np.flatnonzero((objects < 1) | (objects > most)) if objects is not None else ()
    if len(wrong):
        problems.add(
            DataError(
                f"{contents.path / OBJECTS}: has {contents.images_at(wrong)} with fewer than 1 or more than {most} "
                f"regions;  {store_remedy(contents.path)}"
            )
        )


def _check_boxes(contents: StoreContents, problems: Problems) -> None:
    """Report errors for boxes outside 0-1, and boxes that end before they begin; warn of boxes that are all tiny."""
    if BOXES not in contents.arrays:
        return
    outside: list[int] = []
    turned: list[int] = []
    counts = contents.counts
    for start in range(0, len(counts), PIECE_ROWS):
        boxes = contents.arrays[BOXES][start : start + PIECE_ROWS]
        present = np.arange(boxes.shape[1]) < counts[start : start + len(boxes), None]
        is_inside = ((boxes >= 0) & (boxes <= 1)).all(-1)  # also false for NaN
        is_turned = (boxes[..., 2:] < boxes[..., :2]).any(-1)
        outside.extend(start + np.flatnonzero((present & ~is_inside).any(1)))
        turned.extend(start + np.flatnonzero((present & is_inside & is_turned).any(1)))
    for rows, problem in ((outside, "outside 0-1"), (turned, "that ends before it begins (x1 y1 x2 y2)")):
        if rows:
            problems.add(
                DataError(
                    f"{contents.path / BOXES}: has {contents.images_at(rows)} with a box {problem}; "
                    f"{store_remedy(contents.path)}"
                )
            )
    doubt = None if outside else find_box_doubt(contents.arrays[BOXES])
    if doubt:
        problems.warn(contents.path / BOXES, doubt)


def _check_bytes(contents: StoreContents, problems: Problems, *, is_fast: bool) -> None:
    """Compare the sizes and checksums of the files, and check every feature; a fast check compares only the sizes."""
    path, record = contents.path, contents.record
    total, done = sum(file.size_bytes for file in record.files.values()), 0
    for name in (FEATURES, BOXES, OBJECTS, IDS):
        file, expected = path / name, record.files.get(name)
        if expected is None:
            problems.add(DataError(f"{path / RECORD}: has no checksum of {name}; {store_remedy(path)}"))
        elif not file.is_file() or (name != IDS and name not in contents.arrays):
            continue  # reported before
        elif file.stat().st_size != expected.size_bytes:
            size = file.stat().st_size
            problems.add(
                DataError(f"{file}: was changed after it was written (it has {size:,} bytes); {store_remedy(path)}")
            )
        elif not is_fast:
            digest = hashlib.sha256()
            for piece in _check_features(contents, problems) if name == FEATURES else data_pieces(file):
                digest.update(piece)
                done += len(piece)
                problems.progress(f"checking {name}", done, total)
            if digest.hexdigest() != expected.sha256:
                problems.add(
                    DataError(f"{file}: was changed after it was written (its checksum differs); {store_remedy(path)}")
                )


def _check_features(contents: StoreContents, problems: Problems) -> Iterator[memoryview]:
    """Yield the bytes of the features, for their checksum; report those that are not finite, and regions of zeros."""
    file, shape = contents.path / FEATURES, contents.arrays[FEATURES].shape
    counts, row_bytes = contents.counts, 2 * shape[1] * shape[2]
    bits = np.empty((max(1, PIECE_BYTES // row_bytes), *shape[1:]), dtype="<u2")
    infinite: list[int] = []
    blank: list[int] = []
    blank_regions = start = 0
    with file.open("rb") as stream:
        stream.seek(HEADER_BYTES)
        view = bits.data.cast("B")
        while got := stream.readinto(view):
            yield view[:got]
            piece = bits[: got // row_bytes]
            largest = np.bitwise_and(piece, 0x7FFF, out=piece).max(-1)
            present = np.arange(shape[1]) < counts[start : start + len(piece), None]
            infinite.extend(start + np.flatnonzero((present & (largest >= HALF_INFINITY)).any(1)))
            empty = present & (largest == 0)
            blank.extend(start + np.flatnonzero(empty.any(1)))
            blank_regions += int(empty.sum())
            start += len(piece)
    if infinite:
        problems.add(
            DataError(
                f"{file}: has {contents.images_at(infinite)} with a feature that is NaN or infinite; "
                f"{store_remedy(contents.path)}"
            )
        )
    if blank and OBJECTS in contents.arrays:  # without the counts, padding looks like regions of zeros
        problems.warn(
            file,
            f"{count_of(blank_regions, 'region')} of {contents.images_at(blank)} "
            f"{'has' if blank_regions == 1 else 'have'} only zeros as features; look at their source",
        )

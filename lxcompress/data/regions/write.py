"""Write a store: append rows to its files, and compute their checksums; an interruption at any time loses little.

Rows are collected in pieces. A thread appends the pieces to the files, and records in the journal how many bytes of
each file are valid.

Shapes: R rows (images) of a piece, O regions, F features of a region.

```
STORE.part/
  features.npy boxes.npy objects.npy ids.txt    as in the store; the .npy headers are written at the end
  bad.jsonl                                     the rows that were left out
  journal.json                                  how much of each file is valid, and which row was read last
```
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import torch

from lxcompress.data.regions.identity import ExtractorRecord, extractor_of_reading
from lxcompress.data.regions.rows import FIRST, ROW_LIMIT_BYTES, BadRow, Position, RegionRow
from lxcompress.data.regions.store import (
    BOXES,
    FEATURES,
    HEADER_BYTES,
    IDS,
    OBJECTS,
    RECORD,
    SourceFile,
    StoredFile,
    StoreRecord,
    data_pieces,
)
from lxcompress.errors import DataError
from lxcompress.records import Count, FileRecord, read_record
from lxcompress.rundir import write_record, write_text
from lxcompress.text import shorten
from lxcompress.unset import leave_out_unset

JOURNAL, BAD_LINES, BAD_ROWS, LOCK = "journal.json", "bad.jsonl", "bad_rows.json", ".lock"
PIECE_BYTES = 4 << 20
PIECES = 3
"""The number of pieces in memory: one is filled, one is written, one waits."""
CHECKPOINT_S = 5.0
"""The seconds between two updates of the journal."""
TORCH_GRAIN = 32768
"""How many numbers are converted in one call. For more numbers torch would use several threads, which takes longer."""
HALF_INFINITY = 0x7C00
"""The bits of infinity as float16, without the sign bit. A value with these bits or larger ones is infinite or NaN."""
MOST_ITEMS = 1 << 62
"""The most bytes or rows of a source; a position in a file is a 64-bit number."""


class Journal(FileRecord):
    """The record of an unfinished store: how much of its files is valid, and which row was read last.

    The last row is of the image `image`, at the position (`item`, `offset`) of `sources[source]`. The rows of the store
    from `first` on are from that source. `images` and `bad` count the rows that were stored and left out; `ids_bytes`
    and `bad_bytes` are the valid bytes of ids.txt and bad.jsonl. `largest_bits` are the bits of the largest magnitude
    of a feature, as float16. `extractor` makes the features, if they are made here.
    """

    _write = leave_out_unset("extractor")

    objects: Count
    features: Count
    sources: list[SourceFile]
    source: Count = 0
    item: Count = 0
    offset: Count = 0
    image: str = ""
    images: Count = 0
    ids_bytes: Count = 0
    first: Count = 0
    bad: Count = 0
    bad_bytes: Count = 0
    largest_bits: Count = 0
    reading: str = ""
    extractor: ExtractorRecord | None = None

    @property
    def made_by(self) -> ExtractorRecord | None:
        """Return the extractor of the features, as StoreRecord.made_by does."""
        return self.extractor or extractor_of_reading(self.reading)


@dataclass(frozen=True)
class LastRow:
    """The last row that was read: index of its source, position and image; see Journal for `first`."""

    source: int = 0
    position: Position = FIRST
    image: str = ""
    first: int = 0


@dataclass
class Piece:
    """A piece: rows that will be written together, and the bad rows that came between them."""

    features: np.ndarray
    """float16 [R, O, F]"""
    boxes: np.ndarray
    """float32 [R, O, 4]"""
    objects: np.ndarray
    """int32 [R]"""
    images: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    """JSON, one line for each bad row"""
    largest_bits: int = 0
    mark: LastRow = LastRow()

    @property
    def is_full(self) -> bool:
        """Return whether the piece has room for no more rows, or has many bad rows."""
        return len(self.images) == len(self.features) or len(self.bad) >= 1000

    def clear(self) -> None:
        """Remove all rows."""
        self.images.clear()
        self.bad.clear()
        self.largest_bits = 0

    def add(self, row: RegionRow) -> str | None:
        """Add `row`, rounded to float16; return None. If its features do not fit float16, return the reason instead."""
        index, count = len(self.images), len(row.boxes)
        target = self.features[index]
        to_half(row.features, target[:count])
        largest = int((target[:count].view(np.uint16) & 0x7FFF).max())
        if largest >= HALF_INFINITY:
            given = np.asarray(row.features, dtype=np.float64)
            if not np.isfinite(given).all():
                return "its features hold values that are NaN or infinite"
            return f"its features reach {np.abs(given).max():.6g}, more than float16 holds (65504)"
        target[count:] = 0
        self.boxes[index, :count], self.boxes[index, count:] = row.boxes, 0
        self.objects[index] = count
        self.largest_bits = max(self.largest_bits, largest)
        self.images.append(row.image)
        return None

    def leave_out(self, row: BadRow, source: SourceFile, unit: str) -> None:
        """Add `row` to the list of bad rows; `unit` is what an item of `source` is called."""
        entry = {"source": source.name, unit: row.position.item, "image": row.image, "reason": row.reason}
        self.bad.append(json.dumps(entry, ensure_ascii=True))


class StoreWriter:
    """A writer of pieces to the files in `part`. Its thread writes one piece while the caller fills the next."""

    def __init__(self, part: Path, journal: Journal) -> None:
        self.part, self.journal = part, journal
        rows = max(1, PIECE_BYTES // (2 * journal.objects * journal.features))
        shape = (rows, journal.objects)
        self._free: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()
        for _ in range(PIECES):
            self._free.put(
                Piece(
                    features=np.zeros((*shape, journal.features), "<f2"),
                    boxes=np.zeros((*shape, 4), "<f4"),
                    objects=np.zeros(rows, "<i4"),
                )
            )
        self._coming: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._problem: BaseException | None = None
        self._files: dict[str, IO[bytes]] = {}
        self._digests = {name: hashlib.sha256() for name in (FEATURES, BOXES, OBJECTS, IDS)}
        self._open()
        threading.Thread(target=self._run, name="write", daemon=True).start()

    def take(self) -> Piece:
        """Return an empty piece to fill. Raises DataError if an earlier piece could not be written."""
        piece = self._free.get()
        if piece is None:
            self._free.put(None)
            raise self._failure()
        piece.clear()
        return piece

    def put(self, piece: Piece) -> None:
        """Give `piece` to the thread, which writes it."""
        self._coming.put(piece)

    def close(self) -> None:
        """Wait until all pieces are on the disk and in the journal; `check` tells whether this succeeded.

        Ctrl-C does not end the wait: the thread must not write any more when the next conversion resumes the store.
        """
        self._coming.put(None)
        interrupt: KeyboardInterrupt | None = None
        is_over = False
        while not is_over:
            try:  # not Thread.join: after an interrupt it may return although the thread still runs
                is_over = self._ended.get()
            except KeyboardInterrupt as came:
                interrupt = came
        for file in self._files.values():
            with suppress(OSError):  # `check` reports the error, such as a full disk
                file.close()
        if interrupt is not None:
            raise interrupt

    def check(self) -> None:
        """Raise DataError if a piece could not be written."""
        if self._problem is not None:
            raise self._failure()

    def finish(self) -> StoreRecord:
        """Write the headers, the list of bad rows, and, last, store.json; return its record. Call `close` before."""
        journal, part = self.journal, self.part
        shape = (journal.images, journal.objects)
        shapes = {FEATURES: (*shape, journal.features), BOXES: (*shape, 4), OBJECTS: shape[:1]}
        for name, descr in ((FEATURES, "<f2"), (BOXES, "<f4"), (OBJECTS, "<i4")):
            with (part / name).open("rb+") as file:
                file.write(npy_header(shapes[name], descr))
                os.fsync(file.fileno())
        if journal.bad:
            lines = (part / BAD_LINES).read_text(encoding="ascii").splitlines()
            write_text(part / BAD_ROWS, json.dumps([json.loads(line) for line in lines], indent=1) + "\n")
        record = StoreRecord(
            images=journal.images,
            objects=journal.objects,
            features=journal.features,
            sources=journal.sources,
            files={
                name: StoredFile(size_bytes=(part / name).stat().st_size, sha256=digest.hexdigest())
                for name, digest in self._digests.items()
            },
            largest_feature=float(np.uint16(journal.largest_bits).view(np.float16)),
            skipped=journal.bad,
            reading=journal.reading,
            extractor=journal.extractor,
        )
        write_record(part / RECORD, record)
        return record

    def _open(self) -> None:
        """Open the files, cut off the bytes that the journal does not count, and add the rest to the checksums."""
        for name, size in _sizes(self.journal).items():
            path = self.part / name
            path.touch()
            os.truncate(path, size)
            if name in self._digests:
                for piece in data_pieces(path):
                    self._digests[name].update(piece)
            self._files[name] = path.open("ab")

    def _run(self) -> None:
        """Write the pieces that come, until None comes: the work of the thread."""
        last = time.monotonic()
        try:
            while (piece := self._coming.get()) is not None:
                self._append(piece)
                self._free.put(piece)
                if time.monotonic() - last >= CHECKPOINT_S:
                    self._keep()
                    last = time.monotonic()
            self._keep()
        except BaseException as problem:
            self._problem = problem
            self._free.put(None)
        self._ended.put(True)

    def _append(self, piece: Piece) -> None:
        """Append a piece to the files, and count it in the journal in memory."""
        count = len(piece.images)
        if not count and not piece.bad:  # the piece is empty, and its mark is out of date
            return
        ids = "".join(f"{image}\n" for image in piece.images).encode()
        bad = "".join(f"{line}\n" for line in piece.bad).encode()
        arrays = {FEATURES: piece.features, BOXES: piece.boxes, OBJECTS: piece.objects}
        data = {name: array[:count].reshape(-1).view(np.uint8).data for name, array in arrays.items()}
        for name, digest in self._digests.items():
            digest.update(data.get(name, ids))
            self._files[name].write(data.get(name, ids))
        self._files[BAD_LINES].write(bad)
        journal, mark = self.journal, piece.mark
        self.journal = journal.model_copy(
            update={
                "source": mark.source,
                "item": mark.position.item,
                "offset": mark.position.offset,
                "image": mark.image,
                "first": mark.first,
                "images": journal.images + count,
                "ids_bytes": journal.ids_bytes + len(ids),
                "bad": journal.bad + len(piece.bad),
                "bad_bytes": journal.bad_bytes + len(bad),
                "largest_bits": max(journal.largest_bits, piece.largest_bits),
            }
        )

    def _keep(self) -> None:
        """Bring the appended bytes to the disk; after that, write the journal that counts them."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        write_record(self.part / JOURNAL, self.journal)

    def _failure(self) -> BaseException:
        """Return the error of the thread; a DataError for an error of the disk."""
        problem = self._problem
        if isinstance(problem, OSError):
            reason = problem.strerror or str(problem)
            return DataError(
                f"{self.part}: cannot be written ({reason}); free some space, and run the same command, which resumes"
            )
        return problem or AssertionError("a writer without a problem failed")


def read_journal(part: Path) -> Journal | None:
    """Return the journal of the unfinished store in `part`; None if there is none.

    Raises DataError, also for a journal that the files in `part` contradict.
    """
    if not (part / JOURNAL).is_file():
        return None
    remedy = f"delete {part}, and begin again"
    journal = read_record(part / JOURNAL, Journal, DataError, remedy=remedy)
    wrong = _find_contradiction(part, journal)
    if wrong:
        raise DataError(f"{wrong}; {remedy}")
    return journal


def _find_contradiction(part: Path, journal: Journal) -> str | None:
    """Return a sentence about what is impossible in a journal, or contradicts the files in `part`; else None."""
    where = part / JOURNAL
    limits = {
        "objects": (1, ROW_LIMIT_BYTES // 4),
        "features": (1, ROW_LIMIT_BYTES // 4),
        "source": (0, len(journal.sources) - 1),
        "first": (0, journal.images),
        "item": (0, MOST_ITEMS),
        "offset": (0, MOST_ITEMS),
        "largest_bits": (0, HALF_INFINITY - 1),
    }
    for name, (least, most) in limits.items():
        value = getattr(journal, name)
        if not least <= value <= most:
            return f"{where}: {name} is {shorten(value)}, expected a number from {least} to {most}"
    if journal.images + journal.bad == 0:
        return None
    for name, size in _sizes(journal).items():
        path = part / name
        if not path.is_file() or path.stat().st_size < size:
            return f"{path}: is shorter than {JOURNAL} says"
    for name, size_bytes, count in (
        (IDS, journal.ids_bytes, journal.images),
        (BAD_LINES, journal.bad_bytes, journal.bad),
    ):
        lines = _read_lines(part / name, size_bytes)
        if lines is None or len(lines) != count:
            return f"{part / name}: does not have the {count:,} lines that {JOURNAL} says"
    return None


def _read_lines(path: Path, size_bytes: int) -> list[str] | None:
    """Return the lines in the first `size_bytes` of a file; None unless they are whole lines of text.

    The lines of bad.jsonl must also be JSON.
    """
    with path.open("rb") as file:
        data = file.read(size_bytes)
    if data and not data.endswith(b"\n"):
        return None
    try:
        lines = data.decode("utf-8").split("\n")[:-1]
        if path.name == BAD_LINES:
            for line in lines:
                json.loads(line)
    except (ValueError, RecursionError):
        return None
    return lines


def _sizes(journal: Journal) -> dict[str, int]:
    """Return the number of bytes of each file that a journal counts as valid: file name -> bytes."""
    row_bytes = {FEATURES: 2 * journal.objects * journal.features, BOXES: 16 * journal.objects, OBJECTS: 4}
    sizes = {name: HEADER_BYTES + journal.images * size for name, size in row_bytes.items()}
    return sizes | {IDS: journal.ids_bytes, BAD_LINES: journal.bad_bytes}


def npy_header(shape: tuple[int, ...], descr: str) -> bytes:
    """Return numpy's header of an array, in version 1.0 of the format, padded to HEADER_BYTES."""
    magic = b"\x93NUMPY\x01\x00"
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape!r}, }}"
    length = HEADER_BYTES - len(magic) - 2
    return magic + length.to_bytes(2, "little") + text.ljust(length - 1).encode("ascii") + b"\n"


def to_half(values: np.ndarray, target: np.ndarray) -> None:
    """Round `values` to float16, and store them in `target`; torch does this about 100 times as fast as numpy."""
    source = torch.from_numpy(np.ascontiguousarray(values)).view(-1)
    rounded = torch.from_numpy(target).view(-1)
    for given, kept in zip(source.split(TORCH_GRAIN), rounded.split(TORCH_GRAIN), strict=True):
        kept.copy_(given)

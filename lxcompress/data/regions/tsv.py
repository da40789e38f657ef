"""Region features as tab-separated text with base64 columns, as LXMERT and bottom-up attention publish them.

Shapes: O regions, F features of a region.
Two formats can be read: LXMERT's obj36 files (Tan & Bansal 2019; 10 columns), and the files of bottom-up attention
(Anderson et al. 2018; 6 columns). In both, numbers are float32, boxes are x1 y1 x2 y2 in pixels, and there is no
header. Files may be plain, gzip, or any `.tsv` in a zip.
"""

from __future__ import annotations

import codecs
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pybase64

from lxcompress.data.archives import DAMAGE, is_zip
from lxcompress.data.regions.lines import TextFile, TextLine
from lxcompress.data.regions.rows import (
    FIRST,
    ROW_LIMIT_BYTES,
    BadRow,
    Position,
    RegionRow,
    RowError,
    Scale,
    check_count,
    check_id,
    check_size,
    scale_boxes,
    shown,
)
from lxcompress.errors import DataError, unreadable
from lxcompress.text import find_other_encoding

LXMERT = (
    "img_id",
    "img_h",
    "img_w",
    "objects_id",
    "objects_conf",
    "attrs_id",
    "attrs_conf",
    "num_boxes",
    "boxes",
    "features",
)
BOTTOM_UP = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
COLUMNS = {len(columns): columns for columns in (LXMERT, BOTTOM_UP)}
# A file that was split has the names x.tsv.0, x.tsv.1. macOS adds files to zips whose names begin with "._".
_MEMBER = re.compile(r"(?:^|/)(?!\._)[^/]+\.tsv(?:\.[0-9]+)?$", re.IGNORECASE)
SAMPLE = 64
"""How many rows are measured to estimate the number of rows of a file. Rows have 10 to 100 regions, so that their
lengths differ tenfold."""
PEEKED_BYTES = 64
BYTES_OPENINGS, QUOTES = (b"b'", b'b"'), b"'\""
SHOWN_BYTES = 60
"""The most bytes of a bad row's first column that a message shows; the column may contain anything."""
EXPECTED = f"LXMERT's {len(LXMERT)} columns ({' '.join(LXMERT)}) or bottom-up attention's {len(BOTTOM_UP)}"


@dataclass(frozen=True)
class TsvSource:
    """One TSV file of region features; a row with another number of columns than `columns` is a bad row."""

    text: TextFile
    columns: tuple[str, ...]
    scale: Scale = scale_boxes
    unit: str = "line"

    @property
    def name(self) -> str:
        return f"{self.text.path.name}/{self.text.member}" if self.text.member else self.text.path.name

    @property
    def where(self) -> str:
        return self.text.where

    @cached_property
    def size_bytes(self) -> int:
        return self.text.size_bytes()

    @contextmanager
    def rows(self, start: Position = FIRST) -> Iterator[Iterator[RegionRow | BadRow]]:
        with self.text.lines(start) as lines:
            yield (row for line in lines if (row := self._row(line)) is not None)

    def share(self, position: Position) -> float:
        return min(1.0, position.offset / max(1, self._text_bytes))

    def about_images(self) -> int:
        with self.text.lines() as lines:
            lengths = [line.stop - line.start + 1 for line in islice(lines, SAMPLE) if self._row(line) is not None]
        return max(1, round(self._text_bytes * len(lengths) / max(1, sum(lengths))))

    @cached_property
    def _text_bytes(self) -> int:
        """Return the number of bytes of the uncompressed text, or an estimate of it."""
        return self.text.text_bytes()

    def _row(self, line: TextLine) -> RegionRow | BadRow | None:
        """Return the row of a line; None for a blank line, and for a first line that names the columns."""
        if line.stop < 0:
            return BadRow(
                line.position, "", f"it is longer than {ROW_LIMIT_BYTES:,} bytes, the most that a row may have"
            )
        buffer, start, stop = line.buffer, line.start, line.stop
        if buffer[stop - 1] == ord("\r"):  # Python's csv module ends lines with \r\n
            stop -= 1
        # All columns but the last, the features, are short. The last column follows the last tab, and is not copied.
        tab = buffer.rfind(b"\t", start, stop)
        fields = bytes(memoryview(buffer)[start : tab if tab >= 0 else stop]).split(b"\t")
        if line.position == FIRST:
            fields[0] = fields[0].removeprefix(codecs.BOM_UTF8)
        if stop == start or (line.position == FIRST and _bare(fields[0]) == self.columns[0].encode()):
            return None
        try:
            count = len(fields) + (tab >= 0)
            if count != len(self.columns):
                raise RowError(f"it has {_columns(count)}, expected {len(self.columns)}")
            fields = [_bare(column) for column in fields]
            field = dict(zip(self.columns, fields, strict=False))
            count = check_count(field["num_boxes"])
            is_lxmert = self.columns == LXMERT
            size = check_size(*(field["img_w"], field["img_h"]) if is_lxmert else (field["image_w"], field["image_h"]))
            boxes = _decode("boxes", field["boxes"], count)
            if boxes.shape[1] != 4:
                raise RowError(f"its boxes hold {boxes.shape[1]} numbers each, expected 4")
            first = tab + 1
            if buffer[stop - 1] in QUOTES and buffer[first : first + 2] in BYTES_OPENINGS:
                first, stop = first + 2, stop - 1
            with memoryview(buffer) as view, view[first:stop] as packed:
                features = _decode("features", packed, count)
            return RegionRow(line.position, check_id(_text(fields[0])), features, self.scale(boxes, size))
        except RowError as problem:
            image = _bare(fields[0])[:SHOWN_BYTES].decode("utf-8", errors="replace")
            return BadRow(line.position, image, str(problem))


def open_tsv(path: Path, *, scale: Scale = scale_boxes) -> list[TsvSource]:
    """Return the source in the TSV file `path`; for a zip, the sources of all TSV files in it, sorted by name.

    Raises DataError for a file of another format.
    """
    if not is_zip(path):
        return [_open(TextFile(path), scale)]
    try:
        with zipfile.ZipFile(path) as packed:
            members = sorted(name for name in packed.namelist() if _MEMBER.search(name))
    except DAMAGE as problem:
        found = unreadable(path, problem, DataError)
        raise found or DataError(f"{path}: is a damaged zip ({problem}); download it again") from None
    if not members:
        raise DataError(f"{path}: has no .tsv in it; give the zip of a TSV, or unpack it and give the folder")
    return [_open(TextFile(path, member), scale) for member in members]


def _open(text: TextFile, scale: Scale) -> TsvSource:
    """Return the source in a text file; the number of columns decides the format. Raises DataError."""
    with text.lines() as lines:
        first = next(lines, None)
        name = None if first is None else find_other_encoding(bytes(first.buffer[:PEEKED_BYTES]))
        if name:
            raise DataError(
                f"{text.where}: is {name} text, expected UTF-8; convert it with: iconv -f {name} -t UTF-8 {text.path}"
            )
        lines = lines if first is None else chain((first,), lines)
        # Two lines are read, because the first row may be damaged; of a file of another format no more is read.
        counts = [_count_columns(line) for line in islice(lines, 2)]
    if not counts:
        raise DataError(f"{text.where}: is empty, expected region features; download it again")
    known = next((count for count in counts if count in COLUMNS), None)
    if known is None:
        raise DataError(
            f"{text.where}: is not a known format of region features: its first line has {_columns(counts[0])}, "
            f"expected {EXPECTED}, an HDF5 file, or a folder of .npz files"
        )
    return TsvSource(text, COLUMNS[known], scale)


def _bare(column: bytes) -> bytes:
    """Return a column without b'' around it. A program for Python 2 writes this if it is run by Python 3."""
    is_wrapped = column[:2] in BYTES_OPENINGS and len(column) > 2 and column[-1] == column[1]
    return column[2:-1] if is_wrapped else column


def _columns(count: int) -> str:
    """Return a number of columns as text."""
    return "1 column" if count == 1 else f"{count} columns"


def _count_columns(line: TextLine) -> int:
    """Return the number of columns of a line; 1 for a line that is too long."""
    return 1 if line.stop < 0 else line.buffer.count(b"\t", line.start, line.stop) + 1


def _decode(name: str, packed: bytes | memoryview, count: int) -> np.ndarray:
    """Return the float32 numbers [count, ...] in the base64 text `packed`. Raises RowError, which names `name`."""
    try:
        # Strict, because a lenient decoder skips characters that are not base64, and later numbers would be wrong.
        data = pybase64.b64decode_as_bytearray(packed, validate=True)
    except ValueError:
        raise RowError(f"its {name} are not base64") from None
    if len(data) % (4 * count) or not data:
        raise RowError(f"its {name} are {len(data):,} bytes, not float32 numbers for {count:,} regions")
    return np.frombuffer(data, dtype="<f4").reshape(count, -1)


def _text(name: bytes) -> str:
    """Return an image id as text. Raises RowError if it is not UTF-8."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        raise RowError(f"its image id {shown(name)} is not UTF-8") from None

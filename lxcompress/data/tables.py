"""Read tables of examples: JSON lines, CSV or Parquet; the ending of the file's name says which.

CSV is read as text, so that a value such as 007 or 1e3 stays what the file has.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lxcompress.data.archives import DAMAGE
from lxcompress.data.files import read_records, read_text
from lxcompress.errors import DataError, unreadable

REMEDY = "give a table of examples as .jsonl, .csv or .parquet"
Row = Mapping[str, Any]
"""name of a column -> value"""


def read_table(path: Path) -> list[Row]:
    """Return the rows of a table. Raises DataError for a missing or damaged file, and for a table without rows."""
    rows = _find_reader(path)(path)
    if not rows:
        raise DataError(f"{path}: has no row; {REMEDY}")
    return rows


def _find_reader(path: Path) -> Callable[[Path], list[Row]]:
    """Return the function that reads a table with this name. Raises DataError for an unknown ending."""
    name = path.name.removesuffix(".gz")
    reader = next((reader for ending, reader in READERS.items() if name.endswith(ending)), None)
    if reader is None:
        raise DataError(f"{path}: has an unknown ending, expected one of {', '.join(READERS)}; {REMEDY}")
    return reader


def _read_json(path: Path) -> list[Row]:
    return [*read_records(path, remedy=REMEDY)]


def _read_csv(path: Path) -> list[Row]:
    reader = csv.reader(io.StringIO(read_text(path, remedy=REMEDY, kind="CSV"), newline=""), strict=True)
    try:
        header = next(reader, [])
        rows = [(reader.line_num, values) for values in reader if values]
    except csv.Error as problem:
        raise DataError(f"{path}: line {reader.line_num} is not CSV ({problem}); write the file again") from None
    repeated = next((name for index, name in enumerate(header) if name in header[:index]), None)
    if repeated is not None:
        raise DataError(f"{path}: has two columns {repeated!r}; give each column a name of its own")
    for line, values in rows:
        if len(values) != len(header):
            raise DataError(
                f"{path}: line {line} has {len(values)} values, expected {len(header)}, as many as the header; quote "
                "values that contain a comma"
            )
    return [dict(zip(header, values, strict=True)) for _, values in rows]


def _read_parquet(path: Path) -> list[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DataError(
            f"{path}: is Parquet, which needs pyarrow; install it with: pip install 'lxcompress[parquet]'"
        ) from None
    if not path.is_file():
        raise DataError(f"{path}: no such file; {REMEDY}")
    try:
        return [*parquet.read_table(path).to_pylist()]
    except (ArrowException, *DAMAGE) as problem:
        found = unreadable(path, problem, DataError)
        raise found or DataError(f"{path}: is damaged or not Parquet ({problem}); write the file again") from None


READERS: Mapping[str, Callable[[Path], list[Row]]] = {
    ".jsonl": _read_json,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
"""ending of a file's name -> its reader; a file whose name also ends in .gz is unpacked first"""

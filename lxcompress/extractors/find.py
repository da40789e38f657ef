"""Find photographs: files, folders and patterns; and their ids, from the names of the files or from a table."""

from __future__ import annotations

import csv
import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lxcompress.errors import DataError, unreadable
from lxcompress.text import read_text

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
"""The extensions of photographs in a folder, in lower case. A file that is named itself may have another."""
TABLE_COLUMNS = ("file", "id")
NUMBERS = Path("numbers")
"""Given as the table of ids: the id of a photograph is the number at the end of its name."""
_NUMBER = re.compile(r"0*([0-9]{1,18})$")


@dataclass(frozen=True)
class Photos:
    """The photographs to read, in this order, and their ids."""

    paths: tuple[Path, ...]
    ids: tuple[str, ...]
    ignored: int
    """how many files of the folders have another extension"""
    dead_links: tuple[Path, ...] = ()
    """the links of the folders and patterns whose file is missing"""


@dataclass(frozen=True)
class PhotoFiles:
    """Photographs without ids, and what was left out, as in Photos."""

    paths: tuple[Path, ...]
    ignored: int
    dead_links: tuple[Path, ...]


def find_photos(arguments: Sequence[Path], table: Path | None = None) -> Photos:
    """Return the photographs that `arguments` name: files, folders with their subfolders, and patterns with * or ?.

    The id of a photograph is its file name without the extension, or what `table` says; the table NUMBERS takes the
    number at the end of the name. Raises DataError if there are none, or if two of them have the same id.
    """
    files = list_photos(arguments)
    ids = _find_ids(files.paths, table)
    _check_ids(files.paths, ids, table)
    return Photos(files.paths, ids, files.ignored, files.dead_links)


def _find_ids(paths: Sequence[Path], table: Path | None) -> tuple[str, ...]:
    """Return the id of each photograph. Raises DataError."""
    if table is None:
        return _ids_from_names(paths)
    if table == NUMBERS:
        return tuple(_number(path) for path in paths)
    return _ids_from_table(paths, table)


def list_photos(arguments: Sequence[Path]) -> PhotoFiles:
    """Return the photographs that `arguments` name, and what was left out. Raises DataError if there are none."""
    paths: dict[Path, None] = {}
    dead_links: dict[Path, None] = {}
    ignored = 0
    for argument in arguments:
        found, others = _expand(argument)
        paths.update((path, None) for path in found if path.exists())
        dead_links.update((path, None) for path in found if not path.exists())
        ignored += others
    if not paths:
        more = f" ({ignored:,} files have another extension)" if ignored else ""
        more += f" ({len(dead_links):,} links have no file)" if dead_links else ""
        raise DataError(
            f"{' '.join(map(str, arguments))}: has no photograph{more}; give files, folders or patterns of "
            f"{', '.join(SUFFIXES)}"
        )
    return PhotoFiles(tuple(paths), ignored, tuple(dead_links))


def _expand(argument: Path) -> tuple[list[Path], int]:
    """Return the photographs that one argument names, sorted, and how many other files it has. Raises DataError.

    Links whose file is missing are among the photographs, unless the argument itself is one.
    """
    try:
        if argument.is_dir():
            files = sorted(path for path in argument.rglob("*") if path.is_file() or _is_dead_link(path))
            photos = [path for path in files if path.suffix.lower() in SUFFIXES]
            return photos, len(files) - len(photos)
        if argument.is_file():
            return [argument], 0
    except OSError as problem:
        raise unreadable(argument, problem, DataError) or DataError(f"{argument}: {problem}") from None
    matches = sorted(Path(match) for match in glob.glob(str(argument), recursive=True))
    files = [path for path in matches if path.is_file() or _is_dead_link(path)]
    if not files or files == [argument]:
        what = "matches no file" if glob.has_magic(str(argument)) else "no such file or folder"
        what = "is a link whose file is missing" if _is_dead_link(argument) else what
        raise DataError(f"{argument}: {what}; give photographs, folders of them, or a pattern")
    return files, 0


def _is_dead_link(path: Path) -> bool:
    """Return whether a path is a link to a file that is missing."""
    return path.is_symlink() and not path.exists()


def _ids_from_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the name of each file without the extension of a photograph."""
    return tuple(path.stem if path.suffix.lower() in SUFFIXES else path.name for path in paths)


def _number(path: Path) -> str:
    """Return the number at the end of a file's name, without zeros before it. Raises DataError if there is none."""
    found = _NUMBER.search(path.stem)
    if found is None:
        raise DataError(f"{path}: has no number at the end of its name, as --ids {NUMBERS} needs; give a table of ids")
    return found[1]


def _ids_from_table(paths: Sequence[Path], table: Path) -> tuple[str, ...]:
    """Return the id of each file from a table of two columns, file and id. Raises DataError.

    A file is named by its path, or by its name alone.
    """
    try:
        lines = read_text(table).splitlines()
    except (OSError, ValueError) as problem:
        raise unreadable(table, problem, DataError) or DataError(f"{table}: cannot be read ({problem})") from None
    delimiter = "\t" if lines and "\t" in lines[0] else ","
    rows = list(csv.reader(lines, delimiter=delimiter))
    if not rows or tuple(cell.strip() for cell in rows[0]) != TABLE_COLUMNS:
        first = lines[0][:60] if lines else "nothing"
        raise DataError(f"{table}: begins with {first!r}, expected the columns file,id (CSV or TSV)")
    ids = {}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(TABLE_COLUMNS) or not all(cell.strip() for cell in row):
            raise DataError(f"{table}: line {number} has {row!r}, expected a file and an id")
        ids[row[0].strip()] = row[1].strip()
    absent = [path for path in paths if str(path) not in ids and path.name not in ids]
    if absent:
        raise DataError(
            f"{table}: has no line for {absent[0]}{f' and {len(absent) - 1:,} more' if absent[1:] else ''}; add them, "
            "or give only the photographs that are in the table"
        )
    return tuple(ids[str(path)] if str(path) in ids else ids[path.name] for path in paths)


def _check_ids(paths: Sequence[Path], ids: Sequence[str], table: Path | None) -> None:
    """Raise DataError if two photographs have the same id."""
    first: dict[str, Path] = {}
    for path, name in zip(paths, ids, strict=True):
        if name in first:
            remedy = "give each its own id in the table" if table else "rename one, or give a table of ids with --ids"
            raise DataError(f"{path} and {first[name]}: have the same id {name!r}; {remedy}")
        first[name] = path

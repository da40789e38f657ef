"""Unpack zip archives from other people: check them first, and never write outside the given folder."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath

from lxcompress.data.archives import DAMAGE
from lxcompress.errors import DataError
from lxcompress.progress import Progress
from lxcompress.rundir import write_whole

PIECE_BYTES = 1 << 20
SYMLINK = 0o120000
"""The bits of a file type that mean a symbolic link; a zip has them in the upper half of `external_attr`."""


def check_zip(path: Path, wanted: Sequence[str], folder: Path, *, label: str) -> None:
    """Raise DataError unless `path` is a zip archive whose files that match `wanted` can be unpacked to `folder`.

    `wanted` are patterns for file names, as in a shell; without patterns, only the zip itself is checked. The error
    names `label`.
    """
    with _errors(label), zipfile.ZipFile(path) as packed:
        if wanted:
            _members(packed, wanted, folder, label)


def read_through(path: Path, *, label: str, progress: Progress) -> None:
    """Read every file of an archive, and compare its CRC-32. Raises DataError, which names `label`."""
    with _errors(label), zipfile.ZipFile(path) as packed:
        done, total = 0, sum(member.file_size for member in packed.infolist())
        for member in packed.infolist():
            with packed.open(member) as file:
                while piece := file.read(PIECE_BYTES):
                    done += len(piece)
                    progress("checking", done, total)


def unpack(path: Path, wanted: Sequence[str], folder: Path, *, label: str, progress: Progress) -> dict[str, int]:
    """Unpack the files that match `wanted` to `folder`; return path in the zip -> number of bytes.

    Files that exist already, with the same contents, are not written again. Each file is written atomically. Raises
    DataError, which names `label`.
    """
    with _errors(label), zipfile.ZipFile(path) as packed:
        members = _members(packed, wanted, folder, label)
        new = [
            member
            for member in members
            if not _has_size(folder / member.filename, member.file_size)
            or sum_content(folder / member.filename) != member.CRC
        ]
        coming, free = sum(member.file_size for member in new), shutil.disk_usage(folder).free
        if coming > free:
            raise DataError(
                f"{label}: unpacks to {coming:,} bytes more, and the disk of {folder} has {free:,} left; "
                "free some space, and run the same command"
            )
        done = 0
        for member in new:
            write_whole(folder / member.filename, partial(_copy, packed, member, partial(_add, progress, done, coming)))
            done += member.file_size
        return {member.filename: member.file_size for member in members}


def is_unpacked(members: dict[str, int], folder: Path) -> bool:
    """Return whether all files that `unpack` returned are still in `folder`, with the same sizes."""
    return bool(members) and all(_has_size(folder / name, size) for name, size in members.items())


def is_content(sums: dict[str, int], folder: Path) -> bool:
    """Return whether the files in `folder` have the CRC-32 in `sums` (path -> CRC-32)."""
    return all((folder / name).is_file() and sum_content(folder / name) == sum_ for name, sum_ in sums.items())


def sum_content(path: Path) -> int:
    """Return the CRC-32 of a file; a zip archive has the CRC-32 of each of its files, to compare with."""
    found = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            found = zlib.crc32(piece, found)
    return found


def _members(packed: zipfile.ZipFile, wanted: Sequence[str], folder: Path, label: str) -> list[zipfile.ZipInfo]:
    """Return the files of an archive that match `wanted`.

    Raises DataError if none matches, or if any file of the archive would be written outside the folder.
    """
    for member in packed.infolist():
        if not _stays_inside(member, folder.resolve()):
            raise DataError(
                f"{label}: holds {member.filename!r}, which would be unpacked outside {folder}; "
                "do not use this file, and tell its publisher"
            )
    found = [
        member
        for member in packed.infolist()
        if not member.is_dir()
        and "__MACOSX" not in PurePosixPath(member.filename).parts
        and any(fnmatchcase(PurePosixPath(member.filename).name, pattern) for pattern in wanted)
    ]
    if not found:
        raise DataError(
            f"{label}: holds no file called {' or '.join(wanted)}; its publisher may have changed it: open it and look"
        )
    return found


def _stays_inside(member: zipfile.ZipInfo, folder: Path) -> bool:
    """Return whether a file of an archive would be written inside `folder`, and is not a link."""
    path = PurePosixPath(member.filename)
    is_link = (member.external_attr >> 16) & 0o170000 == SYMLINK
    is_plain = bool(path.parts) and ".." not in path.parts
    # A backslash or a drive letter has a meaning only on Windows.
    is_portable = "\\" not in member.filename and ":" not in member.filename
    return is_plain and is_portable and not is_link and (folder / path).resolve().is_relative_to(folder)


def _copy(packed: zipfile.ZipFile, member: zipfile.ZipInfo, told: Callable[[int], None], part: Path) -> None:
    """Write a file of an archive to `part`; call `told` with the bytes that are written so far."""
    with packed.open(member) as source, part.open("wb") as file:
        while piece := source.read(PIECE_BYTES):
            file.write(piece)
            told(file.tell())


def _add(progress: Progress, done: int, total: int, more: int) -> None:
    """Report progress: `more` bytes of the current file, after `done` bytes of earlier files."""
    progress("unpacking", done + more, total)


def _has_size(path: Path, size_bytes: int) -> bool:
    """Return whether the file exists and has this size."""
    return path.is_file() and path.stat().st_size == size_bytes


@contextmanager
def _errors(label: str) -> Iterator[None]:
    """Turn the errors that a damaged archive causes inside the block into a DataError, which names `label`."""
    try:
        yield
    except DAMAGE as problem:
        if isinstance(problem, OSError) and problem.errno is not None:  # an error of the disk, not of the archive
            raise
        raise DataError(
            f"{label}: is not a whole zip ({problem}); delete it if it is there, and download it again"
        ) from None

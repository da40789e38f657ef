"""Zips that others made: checked before they are trusted, and never unpacked outside their folder."""

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
"""The file type of a symbolic link, in the upper half of a member's external attributes."""


def check_zip(path: Path, wanted: Sequence[str], folder: Path, *, label: str) -> None:
    """Sees that `path` is a zip, and that its members called `wanted` can be unpacked to `folder`.

    `wanted` are patterns for the last part of a member's name, as in a shell; none of them means nothing is unpacked.
    Raises DataError for `label`.
    """
    with _errors(label), zipfile.ZipFile(path) as packed:
        if wanted:
            _members(packed, wanted, folder, label)


def read_through(path: Path, *, label: str, progress: Progress) -> None:
    """Reads every member and compares it with its own CRC. Raises DataError for `label`."""
    with _errors(label), zipfile.ZipFile(path) as packed:
        done, total = 0, sum(member.file_size for member in packed.infolist())
        for member in packed.infolist():
            with packed.open(member) as file:
                while piece := file.read(PIECE_BYTES):
                    done += len(piece)
                    progress("checking", done, total)


def unpack(path: Path, wanted: Sequence[str], folder: Path, *, label: str, progress: Progress) -> dict[str, int]:
    """Unpacks the members called `wanted` that are not in `folder` yet, each whole or not at all; one whose content
    differs is unpacked again.

    Returns the bytes of each, new or not, by its path in the zip. Raises DataError for `label`.
    """
    with _errors(label), zipfile.ZipFile(path) as packed:
        members = _members(packed, wanted, folder, label)
        new = [
            member
            for member in members
            if not _is_there(folder / member.filename, member.file_size)
            or sum_content(folder / member.filename) != member.CRC
        ]
        coming, free = sum(member.file_size for member in new), shutil.disk_usage(folder).free
        if coming > free:
            raise DataError(
                f"{label}: unpacks to {coming:,} bytes more, and the disk of {folder} has {free:,} left; "
                "make room, and give the same command"
            )
        done = 0
        for member in new:
            write_whole(folder / member.filename, partial(_copy, packed, member, partial(_add, progress, done, coming)))
            done += member.file_size
        return {member.filename: member.file_size for member in members}


def is_unpacked(members: dict[str, int], folder: Path) -> bool:
    """Whether all of what `unpack` returned is still in `folder`, by its size."""
    return bool(members) and all(_is_there(folder / name, size) for name, size in members.items())


def is_content(sums: dict[str, int], folder: Path) -> bool:
    """Whether each of the files in `folder` has the content that `sums` says, by its CRC-32."""
    return all((folder / name).is_file() and sum_content(folder / name) == sum_ for name, sum_ in sums.items())


def sum_content(path: Path) -> int:
    """The CRC-32 of a file, which a zip has of its members."""
    found = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            found = zlib.crc32(piece, found)
    return found


def _members(packed: zipfile.ZipFile, wanted: Sequence[str], folder: Path, label: str) -> list[zipfile.ZipInfo]:
    """The members called `wanted`. Raises DataError if any member, called so or not, would leave the folder."""
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
            f"{label}: holds nothing called {' or '.join(wanted)}; its publisher may have changed it: look into it"
        )
    return found


def _stays_inside(member: zipfile.ZipInfo, folder: Path) -> bool:
    path = PurePosixPath(member.filename)
    is_link = (member.external_attr >> 16) & 0o170000 == SYMLINK
    is_plain = bool(path.parts) and ".." not in path.parts
    # A backslash or a drive means nothing here, but would on Windows.
    is_portable = "\\" not in member.filename and ":" not in member.filename
    return is_plain and is_portable and not is_link and (folder / path).resolve().is_relative_to(folder)


def _copy(packed: zipfile.ZipFile, member: zipfile.ZipInfo, told: Callable[[int], None], part: Path) -> None:
    with packed.open(member) as source, part.open("wb") as file:
        while piece := source.read(PIECE_BYTES):
            file.write(piece)
            told(file.tell())


def _add(progress: Progress, done: int, total: int, more: int) -> None:
    progress("unpacking", done + more, total)


def _is_there(path: Path, size_bytes: int) -> bool:
    return path.is_file() and path.stat().st_size == size_bytes


@contextmanager
def _errors(label: str) -> Iterator[None]:
    """What is wrong with a zip, in one sentence."""
    try:
        yield
    except DAMAGE as problem:
        if isinstance(problem, OSError) and problem.errno is not None:  # the disk's word, not the zip's contents
            raise
        raise DataError(
            f"{label}: is not a whole zip ({problem}); delete it if it is there, and download it again"
        ) from None

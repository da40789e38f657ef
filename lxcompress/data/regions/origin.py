"""Decide whether a source file has changed. If its times are unchanged, so is the file; else its content decides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from lxcompress.data.regions.store import SourceFile
from lxcompress.errors import DataError
from lxcompress.rundir import sha256

Origin = Path | tuple[Path, ...]
"""The files of a source: one file, all files of a folder, or the files of a list."""


def get_stamp(path: Origin) -> str:
    """Return a stamp (a text) of the file `path`, or of all files in the folder or list `path`.

    The stamp changes if a file is changed or copied.
    """
    lines = [f"{file.name} {_file_stamp(file)}" for file in _files(path)]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def digest_content(path: Origin) -> str:
    """Return the SHA-256 of the file `path`; for several files, the SHA-256 of their names and checksums."""
    if isinstance(path, Path) and not path.is_dir():
        return sha256(path)
    lines = [f"{file.name} {sha256(file)}" for file in _files(path)]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def is_same(kept: SourceFile, now: SourceFile, path: Origin, *, made: Path) -> bool:
    """Return whether the source at `path`, now described by `now`, is the one that the record `kept` describes.

    If their stamps differ, the content of the source decides. A record of an older version has neither stamp nor
    checksum; then the source is the same if it is not newer than the file `made`.
    """
    if (kept.name, kept.size_bytes) != (now.name, now.size_bytes):
        return False
    if not kept.sha256:
        return max(file.stat().st_mtime_ns for file in _files(path)) <= made.stat().st_mtime_ns
    return kept.stamp == now.stamp or kept.sha256 == digest_content(path)


def check_unchanged(files: Sequence[SourceFile], paths: Sequence[Origin]) -> None:
    """Raise DataError if a source changed while it was read."""
    for file, path in zip(files, paths, strict=True):
        if get_stamp(path) != file.stamp:
            raise DataError(
                f"{describe_origin(path)}: changed while it was read; run the same command again when the file is "
                "complete"
            )


def describe_origin(path: Origin) -> str:
    """Return the origin as text, for messages: a path, or how many files a list has."""
    return str(path) if isinstance(path, Path) else f"one of the {len(path):,} files ({path[0]} is the first)"


def _files(path: Origin) -> list[Path]:
    """Return the files in the folder `path`, sorted, or those of the list `path`; for a file, the file itself."""
    if isinstance(path, tuple):
        return list(path)
    return sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]


def _file_stamp(path: Path) -> str:
    """Return the size, the inode and the times of a file as text."""
    found = path.stat()
    return f"{found.st_size} {found.st_ino} {found.st_mtime_ns} {found.st_ctime_ns}"

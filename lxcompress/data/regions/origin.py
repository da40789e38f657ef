"""Origin: whether a source of a store still holds what it held, by its content; its times save reading it again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from lxcompress.data.regions.store import SourceFile
from lxcompress.errors import DataError
from lxcompress.rundir import sha256


def get_stamp(path: Path) -> str:
    """Return what changes with any change of the file `path`, or of a file in the folder `path`, and with a copy."""
    lines = [f"{each.name} {_file_stamp(each)}" for each in _files(path)]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def digest_content(path: Path) -> str:
    """Return the SHA-256 of the file `path`; for a folder, of the names and checksums of its files."""
    if not path.is_dir():
        return sha256(path)
    lines = [f"{each.name} {sha256(each)}" for each in _files(path)]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def is_same(kept: SourceFile, now: SourceFile, path: Path, *, made: Path) -> bool:
    """Return whether the source `now` at `path` is the one that was `kept`; its content decides where its times differ.

    A record of an older version kept neither: then it is the same unless it changed after the file `made`.
    """
    if (kept.name, kept.size_bytes) != (now.name, now.size_bytes):
        return False
    if not kept.sha256:
        return max(each.stat().st_mtime_ns for each in _files(path)) <= made.stat().st_mtime_ns
    return kept.stamp == now.stamp or kept.sha256 == digest_content(path)


def check_unchanged(files: Sequence[SourceFile], paths: Sequence[Path]) -> None:
    """Raise DataError if a source changed while it was read."""
    for file, path in zip(files, paths, strict=True):
        if get_stamp(path) != file.stamp:
            raise DataError(
                f"{path}: changed while it was read; give the same command once it does not change any more"
            )


def _files(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]


def _file_stamp(path: Path) -> str:
    found = path.stat()
    return f"{found.st_size} {found.st_ino} {found.st_mtime_ns} {found.st_ctime_ns}"

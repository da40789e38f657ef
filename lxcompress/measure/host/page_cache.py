"""The page cache: read files into it or drop them from it, to time warm and cold loads."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Sequence
from pathlib import Path

_PIECE = 1 << 20


def read_through(paths: Sequence[Path]) -> None:
    """Read the files once, so that the system holds them in memory."""
    for path in paths:
        with path.open("rb") as file:
            while file.read(_PIECE):
                continue


def drop(paths: Sequence[Path]) -> float | None:
    """Ask the system to drop the files from memory, and return the share of their pages, 0-1, that stayed.

    Return None where the system has no such request or does not say. It needs no privilege. Pages that another process
    has mapped stay.
    """
    if not hasattr(os, "posix_fadvise"):
        return None
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # a page that is not yet on the disk cannot be dropped
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    return resident_share(paths)


def resident_share(paths: Sequence[Path]) -> float | None:
    """Return the share of the files' pages, 0-1, that the system holds in memory; None where it does not say."""
    counted = [_count_pages(path) for path in paths if path.stat().st_size > 0]
    if any(pages is None for pages in counted):
        return None
    held = sum(file[0] for file in counted if file)
    pages = sum(file[1] for file in counted if file)
    return held / pages if pages else 0.0


def _count_pages(path: Path) -> tuple[int, int] | None:
    """Return the number of pages of the file that are in memory, and of all its pages."""
    mincore = _find_mincore()
    if mincore is None:
        return None
    size = path.stat().st_size
    pages = -(-size // mmap.PAGESIZE)
    flags = (ctypes.c_ubyte * pages)()
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY) as mapped:
        start = ctypes.c_char.from_buffer(mapped)
        failed = mincore(ctypes.addressof(start), size, flags)
        del start  # otherwise the mapping cannot be closed
    return None if failed else (sum(flag & 1 for flag in flags), pages)


def _find_mincore() -> ctypes._FuncPointer | None:
    """Return the system's mincore(2), or None where it has none."""
    try:
        mincore = ctypes.CDLL(None, use_errno=True).mincore
    except (AttributeError, OSError, TypeError):  # TypeError: Windows has no library without a name
        return None
    mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    mincore.restype = ctypes.c_int
    return mincore

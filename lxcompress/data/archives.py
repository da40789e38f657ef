"""Read zip and gzip files from other people: which errors mean that a file is damaged, and how large it may unpack."""

from __future__ import annotations

import gzip
import lzma
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO

from lxcompress.text import PIECE_BYTES

GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
EMPTY_ZIP = b"PK\x05\x06"
"""The first bytes of a zip archive without files."""
MOST_RATIO = 200
"""The largest compression ratio of real data files. JSON and base64 have ratios of 2 to 30. A hostile file may have
1,032 with deflate, and far more with LZMA."""
FREE_BYTES = 16 << 20
"""Any file may unpack to this many bytes, whatever its ratio: a small file of one repeated line is not hostile."""

DAMAGE = (
    OSError,  # gzip, bzip2, and errors of the system
    EOFError,
    ValueError,  # a name that is not UTF-8 (UnicodeDecodeError), an offset before the file
    RuntimeError,  # a password; or its subclass NotImplementedError: zipfile lacks the compression (deflate64)
    zlib.error,
    lzma.LZMAError,  # not a subclass of the other errors
    zipfile.BadZipFile,
    struct.error,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,  # sizes and offsets of 64 bits
    MemoryError,  # from a damaged size, or a huge LZMA dictionary
)
"""The errors that zipfile, gzip, bz2 and lzma raise for damaged or hostile files, found by changing files at random."""


def is_zip(path: Path) -> bool:
    """Return whether a file begins like a zip archive. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(ZIP)) in (ZIP, EMPTY_ZIP)


def most_unpacked(packed_bytes: int) -> int:
    """Return the most bytes that `packed_bytes` compressed bytes may unpack to."""
    return max(FREE_BYTES, MOST_RATIO * packed_bytes)


def check_ratio(unpacked_bytes: int, packed_bytes: int) -> None:
    """Raise ValueError if a compressed file unpacks to more bytes than `most_unpacked` allows."""
    if unpacked_bytes > most_unpacked(packed_bytes):
        raise ValueError(
            f"it unpacks to more than {MOST_RATIO} times its size, which no data file of a public data set does"
        )


def read_unpacked(stream: IO[bytes] | gzip.GzipFile, packed_bytes: int) -> bytes:
    """Return all bytes that `stream` unpacks from `packed_bytes` bytes.

    Raises ValueError before a zip bomb fills the memory, whatever size the zip states.
    """
    pieces, size = [], 0
    while piece := stream.read(PIECE_BYTES):
        size += len(piece)
        check_ratio(size, packed_bytes)
        pieces.append(piece)
    return b"".join(pieces)


def read_member(packed: zipfile.ZipFile, name: str) -> bytes:
    """Return the bytes of a file in a zip archive. Raises one of DAMAGE."""
    member = packed.getinfo(name)
    with packed.open(member) as stream:
        # The archive may state a wrong compressed size. The files lie before `start_dir`, so none is larger than that.
        return read_unpacked(stream, min(member.compress_size, packed.start_dir))

"""Zip and gzip files of others: what Python's readers raise for damage, and how much may come out of them."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO

from lxcompress.text import PIECE_BYTES

GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
EMPTY_ZIP = b"PK\x05\x06"
"""The first bytes of a zip without a member."""
MOST_RATIO = 200
"""Bytes out of a byte in: JSON and base64 give 2 to 30, deflate can give 1,032, bzip2 and LZMA many thousands."""
FREE_BYTES = 16 << 20
"""What any file may unpack to, whatever its ratio: small files of one repeated line are honest."""

DAMAGE = (
    OSError,  # gzip, bzip2; and what the system says
    EOFError,
    ValueError,  # a name that is not UTF-8 (UnicodeDecodeError), an offset before the file
    RuntimeError,  # a password; NotImplementedError, a subclass, is a compression that zipfile lacks (deflate64)
    zlib.error,
    lzma.LZMAError,  # a subclass of none of these
    zipfile.BadZipFile,
    struct.error,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,  # sizes and offsets of 64 bits
    MemoryError,  # what a damaged size or an LZMA dictionary asks for
)
"""What zipfile, gzip, bz2 and lzma raise for a damaged or hostile file, found by changing such files at random."""


def is_zip(path: Path) -> bool:
    """Return whether a file begins as a zip does. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(ZIP)) in (ZIP, EMPTY_ZIP)


def most_unpacked(packed_bytes: int) -> int:
    """Return how much may come out of so many compressed bytes."""
    return max(FREE_BYTES, MOST_RATIO * packed_bytes)


def check_ratio(unpacked_bytes: int, packed_bytes: int) -> None:
    """Raise ValueError if more came out of a compressed file than honest data give."""
    if unpacked_bytes > most_unpacked(packed_bytes):
        raise ValueError(f"it unpacks to more than {MOST_RATIO} times its size, as no data file does")


def read_unpacked(stream: IO[bytes], packed_bytes: int) -> bytes:
    """Return all that `stream` unpacks. Raises ValueError before a bomb fills the memory, whatever size it declares."""
    pieces, size = [], 0
    while piece := stream.read(PIECE_BYTES):
        size += len(piece)
        check_ratio(size, packed_bytes)
        pieces.append(piece)
    return b"".join(pieces)


def read_member(packed: zipfile.ZipFile, name: str) -> bytes:
    """Return the bytes of a member of a zip. Raises one of DAMAGE."""
    member = packed.getinfo(name)
    with packed.open(member) as stream:
        # The size in the directory may be a lie, but no member is larger than what stands before the directory.
        return read_unpacked(stream, min(member.compress_size, packed.start_dir))

"""Read the header of a .npy file without numpy. The reader of numpy parses it as Python, and trusts its sizes.

For a damaged header, numpy raises TokenError, TypeError or SyntaxError, or allocates as much memory as the header says.
"""

from __future__ import annotations

import re
from math import prod
from typing import IO, NamedTuple

import numpy as np

from lxcompress.text import shorten

MAGIC = b"\x93NUMPY"
MOST_HEADER_BYTES = 1 << 16
MOST_DIGITS = 18
# The header is matched after white space is removed. The pattern can match in one way only; otherwise a damaged header
# could take for ever.
_FIELDS = (
    r"['\"]descr['\"]:['\"](?P<descr>[^'\"]*)['\"]",
    r"['\"]fortran_order['\"]:(?P<fortran>True|False)",
    r"['\"]shape['\"]:\((?P<shape>[0-9L,]*)\)",  # Python 2's numpy wrote long integers as 3L
)
_HEADER = re.compile(rf"\{{(?:(?:{'|'.join(_FIELDS)}),?)+\}}")
# Only types of numbers are read: objects are stored as pickles, and other types are no features. f16 is a long double.
_NUMBERS = re.compile(r"[<>|=]?(?:f[248]|f16|[iu][1248])")


class NpyHeader(NamedTuple):
    """The header of a .npy file; the data follow the header directly."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype
    size_bytes: int
    """the number of bytes of the data"""


def read_npy_header(file: IO[bytes]) -> NpyHeader:
    """Read the header of an array of numbers, and leave `file` at the first byte of the data. Raises ValueError."""
    start = file.read(8)
    if start[:6] != MAGIC or len(start) < 8:
        raise ValueError("it does not begin like a .npy file")
    if start[6] not in (1, 2, 3):
        raise ValueError(f"its version of the .npy format is {start[6]}, expected 1 to 3")
    length = int.from_bytes(file.read(2 if start[6] == 1 else 4), "little")
    if not 0 < length <= MOST_HEADER_BYTES:
        raise ValueError(f"its .npy header has {length:,} bytes, expected 1 to {MOST_HEADER_BYTES:,}")
    text = file.read(length)
    if len(text) < length:
        raise ValueError("its .npy header is cut short")
    found = _HEADER.fullmatch("".join(text.decode("latin-1").split()))
    if found is None or None in found.groups():
        raise ValueError(f"its .npy header is damaged, or is not one of numbers: {shorten(text.decode('latin-1'))}")
    if not _NUMBERS.fullmatch(found["descr"]):
        raise ValueError(f"it holds {shorten(found['descr'])}, expected numbers, such as <f4")
    sides = re.findall("[0-9]+", found["shape"])
    if any(len(side) > MOST_DIGITS for side in sides):
        raise ValueError(f"its .npy header has the shape ({shorten(found['shape'])}), expected smaller sizes")
    shape = tuple(map(int, sides))
    dtype = np.dtype(found["descr"])
    return NpyHeader(shape, found["fortran"] == "True", dtype, prod(shape) * dtype.itemsize)

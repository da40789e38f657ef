"""The binary records of a model file and their constants, as in source/file.h."""

from __future__ import annotations

import numpy as np

MAGIC, VERSION = b"lxengine", 1
ALIGN = 64
"""Every array of a weight starts at a multiple of this many bytes."""
NONE = -1
GROUP, MOST_PANEL, MOST_TILE = 4, 256, 256

CONSTANT, ROWS, SUM = 0, 1, 2
"""Kinds of sizes."""
MOST_COLUMNS = 1 << 18
INT64, FLOAT32 = 0, 1
"""Types of inputs."""
VECTOR, TABLE, DENSE, SPARSE, QUANTISED, BLOCKS, SHARED_SPARSE, SHARED_BLOCKS = range(8)
"""Layouts of weights."""
IN_BLOCKS = frozenset({QUANTISED, BLOCKS, SHARED_BLOCKS})
"""The layouts whose unit is four neighbouring int8; their products read quantised inputs."""
LEAVE_OUT_ZEROS = frozenset({SPARSE, BLOCKS, SHARED_SPARSE, SHARED_BLOCKS})
"""The layouts without the units of zeros."""
F32, BF16, I8 = range(3)
"""Types of weights."""
EMBED, LOAD, JOIN, LINEAR, NORM, ATTEND, SCORES, PLANES, PATCHES, FILTER, POOL = range(11)
"""Operations."""
ACTIVATIONS = {None: 0, "gelu": 1, "tanh": 2, "relu": 3, "relu6": 4}
ALL_COLUMNS = 1
"""The mode of SCORES whose answer has every column, column after column."""
BY_INPUT, BY_POSITION, BY_CONSTANT = range(3)
"""The source of the row index that EMBED looks up."""

HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("version", "<u4"),
        ("records_crc", "<u4"),
        ("file_bytes", "<u8"),
        ("records_bytes", "<u8"),
        ("data_start", "<u8"),
        ("data_crc", "<u4"),
        ("sizes", "<u4"),
        ("inputs", "<u4"),
        ("tensors", "<u4"),
        ("weights", "<u4"),
        ("ops", "<u4"),
        ("scores", "<u4"),
        ("reserved", "<u4", 14),
        ("header_crc", "<u4"),
    ]
)
SIZE = np.dtype([("kind", "<u4"), ("a", "<i4"), ("b", "<i4"), ("add", "<i4"), ("most", "<u4"), ("reserved", "<u4", 3)])
INPUT = np.dtype(
    [("name", "S32"), ("type", "<u4"), ("rank", "<u4"), ("width", "<u4"), ("size", "<i4"), ("reserved", "<u4", 4)]
)
TENSOR = np.dtype([("channels", "<u4"), ("size", "<i4"), ("reserved", "<u4", 2)])
WEIGHT = np.dtype(
    [
        ("layout", "<u4"),
        ("type", "<u4"),
        ("rows", "<u4"),
        ("columns", "<u4"),
        ("panel", "<u4"),
        ("tile", "<u4"),
        ("entries", "<u8"),
        ("values", "<u8"),
        ("indices", "<u8"),
        ("groups", "<u8"),
        ("starts", "<u8"),
        ("scales", "<u8"),
        ("sums", "<u8"),
        ("shared", "<u4"),
        ("reserved", "<u4", 3),
    ]
)
GROUPS = np.dtype([("rows", "u1", GROUP), ("count", "<u2"), ("reserved", "<u2")])
SLICE = np.dtype([("tensor", "<i4"), ("row", "<u4"), ("rows", "<u4"), ("start", "<i4"), ("columns", "<i4")])
OP = np.dtype(
    [
        ("code", "<u4"),
        ("out", "<i4"),
        ("input", "<i4"),
        ("weight", "<i4"),
        ("bias", "<i4"),
        ("activation", "<u4"),
        ("count", "<u4"),
        ("mode", "<u4"),
        ("adds", "<u4"),
        ("scalar", "<f4"),
        ("in", SLICE, 3),
        ("width", "<u4"),
        ("out_width", "<u4"),
        ("padding", "<u4"),
    ]
)
RECORD_KINDS = {"sizes": SIZE, "inputs": INPUT, "tensors": TENSOR, "weights": WEIGHT, "ops": OP}
"""The tables of records in a file, in order."""
for _kind, _bytes in ((HEADER, 128), (SIZE, 32), (INPUT, 64), (TENSOR, 16), (WEIGHT, 96), (GROUPS, 8), (OP, 112)):
    assert _kind.itemsize == _bytes, _kind


def rounded(value: int, to: int) -> int:
    """Round `value` up to a multiple of `to`."""
    return -(-value // to) * to

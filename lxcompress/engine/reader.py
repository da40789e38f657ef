"""Read the weights of a model file that Program wrote, to count what an export stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from lxcompress.engine import pack
from lxcompress.engine.pack import PackedWeight
from lxcompress.engine.records import (
    GROUP,
    GROUPS,
    HEADER,
    I8,
    IN_BLOCKS,
    LEAVE_OUT_ZEROS,
    LINEAR,
    MAGIC,
    PATCHES,
    RECORD_KINDS,
    TABLE,
    VECTOR,
    VERSION,
    rounded,
)
from lxcompress.errors import ExportError


def read_weights(path: Path) -> list[PackedWeight]:
    """Return the weights of a file that Program wrote, in the order of their first use; arrays stay in the mapped file.

    It is for counting what an export wrote: it checks only the length of the file and the checksum of its records.
    Raises ExportError.
    """
    head, tables = _read_records(path)
    data = np.memmap(path, np.uint8, "r", offset=int(head["data_start"]))
    return [_read_weight(record, data) for record in tables["weights"]]


def read_matrices(path: Path) -> list[PackedWeight]:
    """Return the matrices that a file multiplies, in the order of their first use, without those of convolutions.

    A convolution is a product with an operation PATCHES. Raises ExportError, as `read_weights` does.
    """
    weights = read_weights(path)
    _, tables = _read_records(path)
    writers: dict[int, int] = {}
    indices: dict[int, None] = {}
    for op in tables["ops"]:
        if op["code"] == LINEAR and writers[int(op["in"][0]["tensor"])] != PATCHES:
            indices[int(op["weight"])] = None
        writers[int(op["out"])] = int(op["code"])
    return [weights[index] for index in indices]


def _read_records(path: Path) -> tuple[np.void, dict[str, np.ndarray]]:
    """Return the header and the records of a file. Raises ExportError."""
    with path.open("rb") as file:
        head = np.frombuffer(file.read(HEADER.itemsize).ljust(HEADER.itemsize, b"\0"), HEADER)[0]
        records = file.read(int(head["records_bytes"]))
    is_whole = path.stat().st_size == head["file_bytes"] and crc32(records) == head["records_crc"]
    if not is_whole or head["magic"] != MAGIC or head["version"] != VERSION:
        raise ExportError(f"{path}: is not an engine file of version {VERSION}, or is damaged; export it again")
    tables, offset = {}, 0
    for name, kind in RECORD_KINDS.items():
        tables[name] = np.frombuffer(records, kind, int(head[name]), offset)
        offset += tables[name].nbytes
    return head, tables


def _read_weight(record: np.void, data: np.ndarray) -> PackedWeight:
    header: dict[str, Any] = {
        name: int(record[name]) for name in ("layout", "type", "rows", "columns", "panel", "tile", "entries", "shared")
    }
    layout, kind = header["layout"], pack.KINDS[header["type"]]
    units = -(-header["columns"] // 4) if layout in IN_BLOCKS else header["columns"]
    many = rounded(header["rows"], GROUP)
    if layout in (VECTOR, TABLE):
        shapes: dict[str, tuple[Any, tuple[int, ...]]] = {"values": (kind, (header["rows"], header["columns"]))}
    else:
        shapes = {"values": (kind, (header["entries"], 16 if layout in IN_BLOCKS else GROUP))}
    if layout in LEAVE_OUT_ZEROS:
        shapes["indices"] = (np.uint8, (header["entries"], GROUP // max(1, header["shared"])))
        shapes["groups"] = (GROUPS, (many // GROUP * -(-units // header["tile"]),))
        shapes["starts"] = ("<u8", (-(-many // header["panel"]) + 1,))
    if header["type"] == I8:
        shapes["scales"] = ("<f4", (many,))
    if layout in IN_BLOCKS:
        shapes["sums"] = ("<i4", (many,))
    arrays: dict[str, Any] = {name: _view_array(data, int(record[name]), *shape) for name, shape in shapes.items()}
    return PackedWeight(**header, **arrays)


def _view_array(data: np.ndarray, offset: int, kind: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return the array at an offset of the data, without a copy."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    return np.asarray(data[offset : offset + size]).view(kind).reshape(shape)

"""Build the program of a model, one operation at a time, and write it as a model file for the engine.

A value has channels and columns, one column for each token. The number of columns is a Size, which is known only when a
question arrives. The file holds the operations in the order of the calls. Values that do not fit together are a mistake
of the exporter, and raise AssertionError.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np

from lxcompress.engine import pack
from lxcompress.engine.pack import PackedWeight
from lxcompress.engine.records import (
    ACTIVATIONS,
    ALIGN,
    ALL_COLUMNS,
    ATTEND,
    BY_CONSTANT,
    BY_INPUT,
    BY_POSITION,
    CONSTANT,
    DENSE,
    EMBED,
    FILTER,
    FLOAT32,
    HEADER,
    INPUT,
    INT64,
    JOIN,
    LINEAR,
    LOAD,
    MAGIC,
    MOST_COLUMNS,
    NONE,
    NORM,
    OP,
    PATCHES,
    PLANES,
    POOL,
    RECORD_KINDS,
    ROWS,
    SCORES,
    SIZE,
    SUM,
    TABLE,
    TENSOR,
    VERSION,
    WEIGHT,
    rounded,
)
from lxcompress.errors import ExportError
from lxcompress.rundir import write_whole

POSITION: Literal["position"] = "position"
"""Embeds the position that a token had before masked tokens were dropped."""
ARRAYS = ("values", "indices", "groups", "starts", "scales", "sums")
"""The arrays of a PackedWeight, in the order of the file."""


@dataclass(frozen=True)
class Size:
    """The number of columns of a value; `most` is the largest one allowed."""

    index: int
    kind: int
    most: int


@dataclass(frozen=True)
class Input:
    """An input of the model: int64 [B, rows], or float32 [B, rows, width]."""

    index: int
    size: Size
    width: int
    is_float: bool


@dataclass(frozen=True)
class Value:
    """The result of an operation, or some of its channels and columns."""

    number: int
    row: int
    rows: int
    start: Size | None
    columns: Size
    is_whole: bool = True

    def take(
        self, *, rows: tuple[int, int] | None = None, start: Size | None = None, columns: Size | None = None
    ) -> Value:
        """Return the channels `rows` (first, count), and `columns` columns from `start`; all of them by default."""
        first, many = rows or (0, self.rows)
        assert 0 <= first < first + many <= self.rows, f"channels {rows} of {self.rows}"
        assert start is None or (self.start is None and columns is not None), (
            "columns can be taken once, with their number"
        )
        return replace(
            self,
            row=self.row + first,
            rows=many,
            start=start or self.start,
            columns=columns or self.columns,
            is_whole=False,
        )


@dataclass(frozen=True)
class Window:
    """The square kernel of a convolution over a square picture of `width` pixels a side.

    `padding` is the number of zeros left of and above the picture; as many as are needed follow on the other sides.
    """

    kernel: int
    stride: int
    width: int
    out_width: int
    padding: int

    @property
    def fields(self) -> dict[str, int]:
        """The fields of the record of an operation."""
        return {
            "count": self.kernel,
            "mode": self.stride,
            "width": self.width,
            "out_width": self.out_width,
            "padding": self.padding,
        }

    def check(self, x: Value) -> None:
        """Raise AssertionError unless the value is a picture of this width."""
        assert x.start is None, "a picture is whole"
        assert x.columns.kind == CONSTANT, "a picture has a fixed size"
        assert x.columns.most == self.width**2, f"{x.columns.most} pixels, expected {self.width} x {self.width}"


@dataclass
class _Op:
    """An operation on values; `fields` are those of its record."""

    code: int
    out: int | None
    reads: tuple[Value | None, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)


class Program:
    """A model under construction: each call adds an operation, and `write` writes the file."""

    def __init__(self) -> None:
        self._sizes: list[dict[str, int]] = []
        self._inputs: list[dict[str, Any]] = []
        self._values: list[tuple[int, int]] = []  # channels and size index of each
        self._weights: list[PackedWeight] = []
        self._indices: dict[int | bytes, int] = {}  # of a weight by its id, of a vector by its bytes
        self._ops: list[_Op] = []

    def rows(self, name: str, most: int) -> Size:
        """Add the input int64 [B, rows] that masks tokens (0 is dropped), and return the number of tokens it keeps."""
        size = Size(len(self._sizes), ROWS, most)
        self._sizes.append({"kind": ROWS, "a": NONE, "b": len(self._inputs), "add": 0, "most": most})
        self._add_input(name, size, INT64, 1)
        return size

    def ints(self, name: str, size: Size) -> Input:
        """Add an input int64 [B, rows], with a number for each token."""
        return self._add_input(name, size, INT64, 1)

    def floats(self, name: str, size: Size, width: int) -> Input:
        """Add an input float32 [B, rows, width]."""
        return self._add_input(name, size, FLOAT32, width)

    def constant(self, columns: int) -> Size:
        """Return a fixed number of columns."""
        return self._add_size(CONSTANT, NONE, NONE, columns, columns)

    def sum(self, a: Size, b: Size | None = None, add: int = 0) -> Size:
        """Return `a` + `b` + `add` columns."""
        most = a.most + (b.most if b else 0) + add
        return self._add_size(SUM, a.index, b.index if b else NONE, add, most)

    def embed(
        self, table: PackedWeight, by: Input | Literal["position"] | int, size: Size, onto: Value | None = None
    ) -> Value:
        """Return a row of the table for each column, by an input's numbers, by position, or one row for all.

        In a value of constant size, the position is the column. With `onto`, add the rows to that value in place.
        """
        assert table.layout == TABLE, "only a table can be embedded"
        assert onto is None or (onto.is_whole and (onto.rows, onto.columns) == (table.columns, size)), onto
        is_constant = isinstance(by, int)
        is_by_column = by == POSITION and size.kind == CONSTANT
        assert is_constant or is_by_column or size.kind == ROWS, "only the tokens of a mask can be embedded"
        assert not is_by_column or size.most <= table.rows, f"{size.most} columns, a table of {table.rows} rows"
        assert not isinstance(by, Input) or (by.size == size and not by.is_float), (
            "the input needs a number for each token"
        )
        assert not isinstance(by, int) or 0 <= by < table.rows, f"row {by} of {table.rows}"
        value = onto or self._add_value(table.columns, size)
        fields = {
            "weight": self._add_weight(table),
            "mode": BY_INPUT if isinstance(by, Input) else BY_CONSTANT if is_constant else BY_POSITION,
            "adds": int(onto is not None),
        }
        if isinstance(by, Input):
            fields["input"] = by.index
        if isinstance(by, int):
            fields["count"] = by
        self._ops.append(_Op(EMBED, value.number, (), fields))
        return value

    def load(self, given: Input) -> Value:
        """Return an input [B, rows, width] as a value with `width` channels."""
        assert given.is_float, "an int64 input can only be embedded"
        return self._do(LOAD, given.width, given.size, (), input=given.index)

    def join(self, first: Value, second: Value) -> Value:
        """Return the columns of `first`, then those of `second`."""
        assert first.rows == second.rows, f"{first.rows} channels and {second.rows}"
        return self._do(JOIN, first.rows, self.sum(first.columns, second.columns), (first, second))

    def linear(
        self,
        x: Value,
        weight: PackedWeight,
        bias: np.ndarray | None = None,
        residual: Value | None = None,
        activation: str | None = None,
    ) -> Value:
        """Return activation(weight x + bias + residual); the activation is gelu, tanh, relu or None."""
        assert weight.layout >= DENSE, "a vector or table cannot be multiplied"
        assert weight.columns == x.rows, f"{weight.columns} columns and {x.rows} channels"
        assert bias is None or bias.shape == (weight.rows,), "one bias for each row"
        assert residual is None or (residual.rows, residual.columns) == (weight.rows, x.columns), residual
        return self._do(
            LINEAR,
            weight.rows,
            x.columns,
            (x, residual),
            weight=self._add_weight(weight),
            bias=NONE if bias is None else self._add_vector(bias),
            activation=ACTIVATIONS[activation],
        )

    def norm(
        self,
        x: Value,
        gain: np.ndarray,
        bias: np.ndarray,
        epsilon: float,
        add: Value | None = None,
        activation: str | None = None,
    ) -> Value:
        """Return activation(gain (layer norm of x over the channels) + bias + add)."""
        assert gain.shape == bias.shape == (x.rows,), f"a gain and a bias for each of {x.rows} channels"
        assert add is None or (add.rows, add.columns) == (x.rows, x.columns), add
        return self._do(
            NORM,
            x.rows,
            x.columns,
            (x, add),
            weight=self._add_vector(gain),
            bias=self._add_vector(bias),
            scalar=epsilon,
            activation=ACTIVATIONS[activation],
        )

    def attend(self, query: Value, key: Value, value: Value, *, heads: int, scale: float) -> Value:
        """Return multi-head attention, softmax(scale q.k) v; keys and values have the same columns."""
        assert query.rows == key.rows == value.rows, "queries, keys and values need the same channels"
        assert query.rows % heads == 0, f"{query.rows} channels, {heads} heads"
        assert key.columns == value.columns, "one value for each key"
        return self._do(ATTEND, query.rows, query.columns, (query, key, value), count=heads, scalar=scale)

    def planes(self, given: Input, pixels: int | None = None) -> Value:
        """Return an input [B, rows, width] as a picture: a value with a column for each pixel.

        Each row is a channel; with `pixels`, a row is cut into channels of that many pixels.
        """
        assert given.is_float, "an int64 input can only be embedded"
        pixels = pixels or given.width
        assert given.width % pixels == 0, f"rows of {given.width} values, pictures of {pixels} pixels"
        channels = given.size.most * (given.width // pixels)
        return self._do(PLANES, channels, self.constant(pixels), (), input=given.index)

    def patches(self, x: Value, window: Window) -> Value:
        """Return the pixels under a kernel as channels, so that a product with them is a convolution."""
        window.check(x)
        return self._do(PATCHES, x.rows * window.kernel**2, self.constant(window.out_width**2), (x,), **window.fields)

    def filter(
        self,
        x: Value,
        weights: np.ndarray,
        window: Window,
        bias: np.ndarray | None = None,
        activation: str | None = None,
    ) -> Value:
        """Return activation(a depthwise convolution of x + bias); `weights` are [channels, kernel, kernel]."""
        window.check(x)
        assert weights.shape == (x.rows, window.kernel, window.kernel), weights.shape
        assert bias is None or bias.shape == (x.rows,), "one bias for each channel"
        return self._do(
            FILTER,
            x.rows,
            self.constant(window.out_width**2),
            (x,),
            weight=self._add_vector(weights.reshape(-1)),
            bias=NONE if bias is None else self._add_vector(bias),
            activation=ACTIVATIONS[activation],
            **window.fields,
        )

    def pool(self, x: Value, width: int, grid: int) -> Value:
        """Return the means over the cells of a grid, as torch's adaptive_avg_pool2d of a picture of `width` pixels."""
        assert x.columns.most == width * width, "a picture is square"
        return self._do(POOL, x.rows, self.constant(grid * grid), (x,), width=width, out_width=grid)

    def scores(self, x: Value, *, all_columns: bool = False) -> None:
        """End the program: its answer, the scores, is the first column of `x`, or all columns one after another."""
        assert all(op.code != SCORES for op in self._ops), "a program has its scores once"
        assert not all_columns or x.columns.kind == CONSTANT, "the number of scores is fixed"
        self._ops.append(_Op(SCORES, None, (x,), {"mode": ALL_COLUMNS if all_columns else 0}))

    def write(self, path: Path) -> None:
        """Write the model file in one step. The same calls give the same bytes. Raises LxError."""
        try:
            write_whole(path, self._write)
        except OSError as error:
            raise ExportError(
                f"{path}: cannot be written ({error}); check the free space and the permissions"
            ) from None

    def _add_input(self, name: str, size: Size, kind: int, width: int) -> Input:
        text = name.encode()
        assert 0 < len(text) < INPUT["name"].itemsize, name
        assert all(known["name"] != text for known in self._inputs), name
        assert size.kind == ROWS, "an input has the rows of a mask"
        assert width > 0, width
        rank = 3 if kind == FLOAT32 else 2
        self._inputs.append({"name": text, "type": kind, "rank": rank, "width": width, "size": size.index})
        return Input(len(self._inputs) - 1, size, width, kind == FLOAT32)

    def _add_size(self, kind: int, a: int, b: int, add: int, most: int) -> Size:
        """Add a size, or return the equal one, so that values of equal size can be compared."""
        assert 0 < most <= MOST_COLUMNS, f"{most} columns"
        assert abs(add) <= MOST_COLUMNS, add
        record = {"kind": kind, "a": a, "b": b, "add": add, "most": most}
        if record not in self._sizes:
            self._sizes.append(record)
        return Size(self._sizes.index(record), kind, most)

    def _add_value(self, channels: int, size: Size) -> Value:
        self._values.append((channels, size.index))
        return Value(len(self._values) - 1, 0, channels, None, size)

    def _add_weight(self, packed: PackedWeight) -> int:
        """Add a weight and return its index; the same object is written once."""
        if id(packed) not in self._indices:
            self._indices[id(packed)] = len(self._weights)
            self._weights.append(packed)
        return self._indices[id(packed)]

    def _add_vector(self, values: np.ndarray) -> int:
        packed = pack.vector(values)
        key = packed.values.tobytes()
        if key not in self._indices:
            self._indices[key] = self._add_weight(packed)
        return self._indices[key]

    def _do(self, code: int, channels: int, size: Size, reads: tuple[Value | None, ...], **fields: float) -> Value:
        value = self._add_value(channels, size)
        self._ops.append(_Op(code, value.number, reads, fields))
        return value

    def _place_values(self) -> tuple[list[tuple[int, int]], list[int]]:
        """Return the tensors (channels, size), and the tensor of each value.

        Values that are needed at different times share a tensor: it is free after its value was last read. An operation
        must not overwrite what it reads, so its reads end after it.
        """
        ends = [0] * len(self._values)
        for number, op in enumerate(self._ops):
            for value in _touched(op):
                ends[value] = number
        tensors: list[tuple[int, int]] = []
        owner: list[int] = []  # the value in each tensor
        homes = [NONE] * len(self._values)
        for number, op in enumerate(self._ops):
            if op.out is None or homes[op.out] != NONE:
                continue
            kind = self._values[op.out]
            free = [index for index, held in enumerate(tensors) if held == kind and ends[owner[index]] < number]
            home = free[0] if free else len(tensors)
            if not free:
                tensors.append(kind)
                owner.append(op.out)
            owner[home], homes[op.out] = op.out, home
        return tensors, homes

    def _op_records(self, homes: list[int]) -> np.ndarray:
        records = np.zeros(len(self._ops), OP)
        for name in ("out", "input", "weight", "bias"):
            records[name] = NONE
        records["in"]["tensor"] = NONE
        for record, op in zip(records, self._ops, strict=True):
            record["code"] = op.code
            if op.out is not None:
                record["out"] = homes[op.out]
            for name, given in op.fields.items():
                record[name] = given
            for index, value in enumerate(op.reads):
                if value is not None:
                    start = NONE if value.start is None else value.start.index
                    record["in"][index] = (homes[value.number], value.row, value.rows, start, value.columns.index)
        return records

    def _weight_records(self) -> tuple[np.ndarray, int]:
        """Return the records of the weights, with the offset of each array in the data, and the length of the data."""
        records = np.zeros(len(self._weights), WEIGHT)
        offset = 0
        for record, packed in zip(records, self._weights, strict=True):
            for name in ("layout", "type", "rows", "columns", "panel", "tile", "entries", "shared"):
                record[name] = getattr(packed, name)
            for name in ARRAYS:
                array = getattr(packed, name)
                if array is not None:
                    record[name] = offset
                    offset += rounded(array.nbytes, ALIGN)
        return records, offset

    def _write(self, path: Path) -> None:
        assert [op.code for op in self._ops[-1:]] == [SCORES], "a program ends with its scores"
        tensors, homes = self._place_values()
        weights, data_bytes = self._weight_records()
        tables = (
            _fill(SIZE, self._sizes),
            _fill(INPUT, self._inputs),
            _fill(TENSOR, [{"channels": channels, "size": size} for channels, size in tensors]),
            weights,
            self._op_records(homes),
        )
        records = b"".join(table.tobytes() for table in tables)
        head = np.zeros((), HEADER)
        head["magic"], head["version"], head["records_crc"] = MAGIC, VERSION, crc32(records)
        head["records_bytes"] = len(records)
        head["data_start"] = start = rounded(HEADER.itemsize + len(records), ALIGN)
        head["file_bytes"] = start + data_bytes
        for name, table in zip(RECORD_KINDS, tables, strict=True):
            head[name] = len(table)
        last = self._ops[-1].reads[0]
        assert last is not None
        is_whole = self._ops[-1].fields.get("mode") == ALL_COLUMNS
        head["scores"] = last.rows * (last.columns.most if is_whole else 1)
        with path.open("wb") as file:
            file.write(bytes(HEADER.itemsize) + records)
            file.write(bytes(start - file.tell()))
            crc = 0
            for piece in self._each_piece():
                crc = crc32(piece, crc)
                file.write(piece)
            head["data_crc"] = crc
            head["header_crc"] = crc32(head.tobytes()[:-4])
            file.seek(0)
            file.write(head.tobytes())

    def _each_piece(self) -> Iterator[memoryview | bytes]:
        """Yield the data of the file, in order."""
        for packed in self._weights:
            for name in ARRAYS:
                array = getattr(packed, name)
                if array is not None:
                    yield np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
                    yield bytes(-array.nbytes % ALIGN)


def _fill(kind: np.dtype, rows: list[dict[str, Any]]) -> np.ndarray:
    records = np.zeros(len(rows), kind)
    for record, row in zip(records, rows, strict=True):
        for name, given in row.items():
            record[name] = given
    return records


def _touched(op: _Op) -> Iterator[int]:
    """Yield the values that an operation writes or reads."""
    if op.out is not None:
        yield op.out
    yield from (value.number for value in op.reads if value is not None)

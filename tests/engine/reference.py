"""What the engine must answer: a slow interpreter of model files, written from source/file.h alone, loop by loop.

It takes nothing from the package but the records' dtypes and numbers, so that neither how weights are packed nor how
files are written can be wrong in both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from zlib import crc32

import numpy as np

from lxcompress.engine import records as r

_erf = np.vectorize(math.erf, otypes=[float])


class Reference:
    """A model file, all weights unpacked; `kind` is what activations are computed in."""

    def __init__(self, path: Path, kind: type[np.floating] = np.float64) -> None:
        self.bytes, self.kind = path.read_bytes(), kind
        self.head = np.frombuffer(self.bytes, r.HEADER, 1)[0]
        self._check_sums()
        at = r.HEADER.itemsize
        self.tables = {}
        for name, record in zip(
            ("sizes", "inputs", "tensors", "weights", "ops"), (r.SIZE, r.INPUT, r.TENSOR, r.WEIGHT, r.OP), strict=True
        ):
            self.tables[name] = np.frombuffer(self.bytes, record, int(self.head[name]), at)
            at += int(self.head[name]) * record.itemsize
        assert at == r.HEADER.itemsize + self.head["records_bytes"]
        self.weights = [self._unpack(record) for record in self.tables["weights"]]

    def run(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        """Scores [B, A] in the reference's kind."""
        batch = len(next(iter(feeds.values())))
        return np.stack([self._answer({name: given[n] for name, given in feeds.items()}) for n in range(batch)])

    def _check_sums(self) -> None:
        start, records = int(self.head["data_start"]), int(self.head["records_bytes"])
        assert self.head["magic"] == b"lxengine"
        assert self.head["version"] == 1
        assert self.head["file_bytes"] == len(self.bytes)
        assert self.head["header_crc"] == crc32(self.bytes[:124])
        assert self.head["records_crc"] == crc32(self.bytes[128 : 128 + records])
        assert self.head["data_crc"] == crc32(self.bytes[start:])
        assert start % 64 == 0
        assert start >= 128 + records

    def _array(self, record: np.void, name: str, kind: str | np.dtype, count: int) -> np.ndarray:
        offset = int(record[name])
        assert offset % 64 == 0, name
        return np.frombuffer(self.bytes, kind, count, int(self.head["data_start"]) + offset)

    def _numbers(self, record: np.void, count: int) -> np.ndarray:
        """Stored values as numbers, before scales."""
        if record["type"] == r.BF16:
            halves = self._array(record, "values", "<u2", count)
            return (halves.astype("<u4") << 16).view("<f4")
        return self._array(record, "values", "<f4" if record["type"] == r.F32 else "i1", count)

    def _unpack(self, record: np.void) -> dict[str, np.ndarray]:
        """`matrix`: the weight, [rows, columns]; and `whole`, `scales` of int8."""
        rows, columns = int(record["rows"]), int(record["columns"])
        if record["layout"] in (r.VECTOR, r.TABLE):
            stored = self._numbers(record, rows * columns).reshape(rows, columns)
        else:
            stored = self._unpack_product(record)[:rows, :columns]
        found = {"matrix": stored.astype(self.kind)}
        if record["type"] == r.I8:
            many = -(-rows // 4) * 4
            scales = self._array(record, "scales", "<f4", many)
            found |= {"whole": stored.astype(np.int64), "scales": scales[:rows]}
            found["matrix"] = found["matrix"] * scales[:rows, None]
            assert not scales[rows:].any()
            if record["layout"] in r.IN_BLOCKS:
                sums = self._array(record, "sums", "<i4", many)
                assert (sums[:rows] == found["whole"].sum(1)).all()
                assert not sums[rows:].any()
        return found

    def _unpack_product(self, record: np.void) -> np.ndarray:
        wide = 4 if record["layout"] in r.IN_BLOCKS else 1
        is_sparse = record["layout"] in r.LEAVE_OUT_ZEROS
        rows, units = -(-int(record["rows"]) // 4) * 4, -(-int(record["columns"]) // wide)
        panel, tile, entries = int(record["panel"]), int(record["tile"]), int(record["entries"])
        numbers = self._numbers(record, entries * 4 * wide).reshape(entries, 4, wide)
        panels, tiles = range(0, rows, panel), range(0, units, tile)
        if is_sparse:
            shared = max(1, int(record["shared"]))
            indices = self._array(record, "indices", "u1", entries * 4 // shared).reshape(entries, 4 // shared)
            groups = iter(self._array(record, "groups", r.GROUPS, rows // 4 * len(tiles)))
            starts = self._array(record, "starts", "<u8", len(panels) + 1)
            assert starts[-1] == entries
        matrix = np.zeros((rows, units, wide), numbers.dtype)
        entry = 0
        for number, first in enumerate(panels):
            if is_sparse:
                assert starts[number] == entry
            for left in tiles:
                seen: list[int] = []
                for group in range(first, min(first + panel, rows), 4):
                    if is_sparse:
                        about = next(groups)
                        mine, count = [first + int(row) for row in about["rows"]], int(about["count"])
                    else:
                        mine, count = [group, group + 1, group + 2, group + 3], min(tile, units - left)
                    seen += mine
                    for step in range(count):
                        for place, row in enumerate(mine):
                            unit = left + (int(indices[entry, place // shared]) if is_sparse else step)
                            matrix[row, unit] += numbers[entry, place]
                        entry += 1
                assert sorted(seen) == list(range(first, min(first + panel, rows)))
        assert entry == entries
        return matrix.reshape(rows, units * wide)

    def _answer(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        names = [record["name"].decode() for record in self.tables["inputs"]]
        given = [feeds[name] for name in names]
        kept: dict[int, np.ndarray] = {}
        sizes: list[int] = []
        for index, size in enumerate(self.tables["sizes"]):
            columns = int(size["add"])
            if size["kind"] == r.ROWS:
                kept[index] = np.flatnonzero(given[size["b"]])
                columns = len(kept[index])
                assert columns
            elif size["kind"] == r.SUM:
                columns += sizes[size["a"]] + (0 if size["b"] == r.NONE else sizes[size["b"]])
            assert 0 <= columns <= size["most"]
            sizes.append(columns)
        values: dict[int, np.ndarray] = {}
        scores = None
        for op in self.tables["ops"]:
            taken = [None if one["tensor"] == r.NONE else self._take(values, sizes, one) for one in op["in"]]
            if op["code"] == r.SCORES:
                scores = taken[0][:, 0]
                continue
            tensor = self.tables["tensors"][op["out"]]
            result = self._compute(op, taken, given, kept.get(int(tensor["size"])), sizes[tensor["size"]])
            assert result.shape == (tensor["channels"], sizes[tensor["size"]])
            values[int(op["out"])] = result + values[int(op["out"])] if op["adds"] else result
        assert scores is not None
        assert len(scores) == self.head["scores"]
        return scores

    def _take(self, values: dict[int, np.ndarray], sizes: list[int], one: np.void) -> np.ndarray:
        start = 0 if one["start"] == r.NONE else sizes[one["start"]]
        row, rows, columns = int(one["row"]), int(one["rows"]), sizes[one["columns"]]
        taken = values[int(one["tensor"])][row : row + rows, start : start + columns]
        assert taken.shape == (rows, columns)
        return taken

    def _compute(
        self, op: np.void, taken: list, given: list[np.ndarray], kept: np.ndarray | None, columns: int
    ) -> np.ndarray:
        first, second, third = taken
        if op["code"] == r.EMBED:
            row = {r.BY_INPUT: lambda: given[op["input"]][kept], r.BY_POSITION: lambda: kept}.get(
                int(op["mode"]), lambda: np.full(columns, op["count"])
            )()
            return self.weights[op["weight"]]["matrix"][row].T
        if op["code"] == r.LOAD:
            return given[op["input"]][kept].T.astype(self.kind)
        if op["code"] == r.JOIN:
            return np.concatenate([first, second], axis=1)
        if op["code"] == r.LINEAR:
            return self._linear(op, first, second)
        if op["code"] == r.NORM:
            gain, bias = (self.weights[op[name]]["matrix"] for name in ("weight", "bias"))
            off = first - first.mean(0)
            scaled = off / np.sqrt((off**2).mean(0) + self.kind(op["scalar"])) * gain + bias
            return scaled if second is None else scaled + second
        assert op["code"] == r.ATTEND
        return self._attend(first, second, third, int(op["count"]), self.kind(op["scalar"]))

    def _linear(self, op: np.void, x: np.ndarray, residual: np.ndarray | None) -> np.ndarray:
        weight, layout = self.weights[op["weight"]], self.tables["weights"][op["weight"]]["layout"]
        if layout in r.IN_BLOCKS:
            whole, step, zero = quantise(x)
            y = (weight["whole"] @ (whole - zero)) * (step * weight["scales"][:, None]).astype(self.kind)
        else:
            y = weight["matrix"] @ x
        if op["bias"] != r.NONE:
            y = y + self.weights[op["bias"]]["matrix"]
        if residual is not None:
            y = y + residual
        is_short = layout in r.IN_BLOCKS
        activation = {0: lambda y: y, 1: short_gelu if is_short else gelu, 2: np.tanh, 3: lambda y: np.maximum(y, 0)}[
            int(op["activation"])
        ]
        return activation(y).astype(self.kind)

    def _attend(self, query: np.ndarray, key: np.ndarray, value: np.ndarray, heads: int, scale: float) -> np.ndarray:
        parts = []
        for q, k, v in zip(*(np.split(one, heads) for one in (query, key, value)), strict=True):
            scores = scale * (q.T @ k)
            share = np.exp(scores - scores.max(1, keepdims=True))
            parts.append(v @ (share / share.sum(1, keepdims=True)).T)
        return np.concatenate(parts)


def gelu(x: np.ndarray) -> np.ndarray:
    return x / 2 * (1 + _erf(x / math.sqrt(2)))


SHORT_GELU = (
    0.3988088667,
    -0.06617516279,
    0.009711201303,
    -0.001077278284,
    8.826252451e-05,
    -5.132146271e-06,
    1.98103578e-07,
    -4.509976392e-09,
    4.552638128e-11,
)
"""The coefficients of P, from the constant up (bench/fit_erf.py)."""


def short_gelu(x: np.ndarray) -> np.ndarray:
    """GELU after a product of quantised inputs: x (1/2 + x P(x^2)), x limited to 4.25 within the brackets."""
    inside = np.clip(x, -4.25, 4.25)
    return x * (0.5 + inside * np.polynomial.Polynomial(SHORT_GELU)(inside**2))


def quantise(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bytes [channels, columns], and a step and a zero a column: byte = round(x / step) + zero, 0 to 255."""
    x = x.astype(np.float32)
    low, high = np.minimum(x.min(0), 0), np.maximum(x.max(0), 0)
    step = np.maximum((high - low) / np.float32(255), np.float32(1e-30))
    inverse = (np.float32(1) / step).astype(np.float64)  # products are not rounded before the sum, as with FMA
    zero = np.rint(np.clip((-low * inverse).astype(np.float32), 0, 255))
    steps = (x * inverse + zero).astype(np.float32)
    return np.rint(np.clip(steps, 0, 255)).astype(np.int64), step, zero.astype(np.int64)

"""Pack weights in the order in which the engine's kernels read them (docs/engine.md; source/file.h).

The weight of a product is divided into panels of rows, a panel into tiles of units, and a tile into groups of four
rows; all arrays follow this order. A unit is a column, or four neighbouring int8 (the layouts IN_BLOCKS), which
this module handles as one int32 cell.

Shapes: R rows, r rows rounded up to 4, C columns, U units, E entries (4 cells each, from four rows), S
neighbouring rows that share an index (1, 2 or 4).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lxcompress import bitmask
from lxcompress.engine.records import (
    BF16,
    BLOCKS,
    DENSE,
    F32,
    GROUP,
    GROUPS,
    I8,
    IN_BLOCKS,
    MOST_PANEL,
    MOST_TILE,
    QUANTISED,
    SHARED_BLOCKS,
    SHARED_SPARSE,
    SPARSE,
    TABLE,
    VECTOR,
    rounded,
)
from lxcompress.errors import ExportError

PRECISIONS = {"fp32": F32, "bf16": BF16, "int8": I8}
KINDS = {F32: np.dtype("<f4"), BF16: np.dtype("<u2"), I8: np.dtype("i1")}
"""The stored type of a value; bf16 is the upper half of the bits of a float32."""
BF16_LIMIT = 3.3961775e38
"""The smallest number that bf16 rounds to infinity."""
_BLOCK = np.dtype("<i4")
"""Four int8 as one cell, which is only moved and compared with 0."""


@dataclass(frozen=True)
class PackedWeight:
    """A weight [rows, columns] as the file stores it; arrays that its layout does not have are None."""

    layout: int
    type: int
    rows: int
    columns: int
    panel: int
    tile: int
    entries: int
    values: np.ndarray
    """[R, C] for a vector or table, [E, 16] for layouts IN_BLOCKS, else [E, 4]"""
    shared: int = 0
    """S for a layout of shared rows, else 0"""
    indices: np.ndarray | None = None
    """uint8 [E, 4 / S], the unit within its tile"""
    groups: np.ndarray | None = None
    """GROUPS [tiles * r / 4]"""
    starts: np.ndarray | None = None
    """uint64 [panels + 1], the first entry of each panel, and the number of entries"""
    scales: np.ndarray | None = None
    """float32 [r], the scale of each row"""
    sums: np.ndarray | None = None
    """int32 [r], the sum of the int8 of each row"""


def vector(values: np.ndarray) -> PackedWeight:
    """Pack a bias or gain, float32 [R]."""
    values = np.ascontiguousarray(values, np.float32).reshape(-1, 1)
    _check_numbers(values, F32)
    return PackedWeight(VECTOR, F32, len(values), 1, 0, 0, 0, values)


def table(weight: np.ndarray, type: str) -> PackedWeight:
    """Pack an embedding table [R, C], whose rows are looked up."""
    values, scales = _store(weight, PRECISIONS[type])
    rows, columns = values.shape
    return PackedWeight(TABLE, PRECISIONS[type], rows, columns, 0, 0, 0, values, scales=scales)


def dense(weight: np.ndarray, type: str, *, panel: int = 128, tile: int = 128) -> PackedWeight:
    """Pack every weight; int8 is multiplied with float32 activations."""
    values, scales = _store(weight, PRECISIONS[type])
    cells = _pack_dense(values, panel, tile)
    rows, columns = weight.shape
    return PackedWeight(DENSE, PRECISIONS[type], rows, columns, panel, tile, len(cells), cells, scales=scales)


def sparse(weight: np.ndarray, type: str, *, panel: int = 128, tile: int = 256, shared: int = 1) -> PackedWeight:
    """Pack the weights that are not zero in the stored type: int8 leaves out those that it rounds to zero.

    Of `shared` rows (1; or 2 or 4 in fp32 and bf16), a column is left out if all of them are zero there.
    """
    assert shared == 1 or type != "int8", "int8 shares rows in blocks only"
    values, scales = _store(weight, PRECISIONS[type])
    rows, columns = weight.shape
    cells, indices, groups, starts = _pack_sparse(values, panel, tile, shared)
    return PackedWeight(
        SPARSE if shared == 1 else SHARED_SPARSE,
        PRECISIONS[type],
        rows,
        columns,
        panel,
        tile,
        len(cells),
        cells,
        0 if shared == 1 else shared,
        indices,
        groups,
        starts,
        scales=scales,
    )


def quantised(weight: np.ndarray, *, panel: int = 128) -> PackedWeight:
    """Pack every weight as int8, to be multiplied with quantised activations."""
    blocks_, scales, sums = _store_blocks(weight)
    cells = _pack_dense(blocks_, panel, MOST_TILE)
    values = cells.view(np.int8)
    rows, columns = weight.shape
    return PackedWeight(QUANTISED, I8, rows, columns, panel, MOST_TILE, len(cells), values, scales=scales, sums=sums)


def blocks(weight: np.ndarray, *, panel: int = 128, tile: int = 256, shared: int = 1) -> PackedWeight:
    """Pack the blocks of a weight that are not all zero as int8, to be multiplied with quantised activations.

    A block is `shared` (1, 2 or 4) neighbouring rows at 4 neighbouring columns. A panel has `panel` rows, and a tile
    `tile` blocks side by side.
    """
    blocks_, scales, sums = _store_blocks(weight)
    rows, columns = weight.shape
    cells, indices, groups, starts = _pack_sparse(blocks_, panel, tile, shared)
    values = cells.view(np.int8)
    return PackedWeight(
        BLOCKS if shared == 1 else SHARED_BLOCKS,
        I8,
        rows,
        columns,
        panel,
        tile,
        len(cells),
        values,
        0 if shared == 1 else shared,
        indices,
        groups,
        starts,
        scales=scales,
        sums=sums,
    )


def unpack(packed: PackedWeight) -> np.ndarray:
    """Return the weight as float32 [rows, columns]."""
    values = packed.values.reshape(packed.rows, -1) if packed.layout <= TABLE else _unpack_product(packed)
    values = values[: packed.rows, : packed.columns]
    if packed.type == BF16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    if packed.scales is None:
        return values.astype(np.float32)
    return values * packed.scales[: packed.rows, None]


def _check_numbers(weight: np.ndarray, type: int) -> None:
    """Raise ExportError unless the type can represent all values of the weight."""
    largest = max(float(weight.max(initial=0)), -float(weight.min(initial=0)))  # NaN stays NaN
    if not largest < (BF16_LIMIT if type == BF16 else np.inf) or np.isnan(weight.min(initial=0)):
        rows, columns = weight.shape
        raise ExportError(
            f"a weight matrix of {rows} x {columns} has NaN or values that are too large ({largest:g}); "
            "train the model again"
        )


def _store(weight: np.ndarray, type: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the values [R, C] in a type, and the scales [r] of int8."""
    weight = np.ascontiguousarray(weight, np.float32)
    assert weight.ndim == 2, weight.shape
    assert weight.size, weight.shape
    _check_numbers(weight, type)
    if type == F32:
        return weight, None
    if type == BF16:
        return _round_to_bf16(weight), None
    packed = bitmask.pack(weight, precision="int8")
    assert packed.scales is not None
    return packed.values, np.pad(packed.scales, (0, -len(weight) % GROUP))


def _round_to_bf16(weight: np.ndarray) -> np.ndarray:
    """Return the nearest bf16 as uint16, ties to even, without negative zeros."""
    bits = weight.view(np.uint32)
    half = (bits >> 16) & 1
    half += 0x7FFF
    half += bits
    half >>= 16
    halves = half.astype(np.uint16)
    halves[halves == 0x8000] = 0
    return halves


def _store_blocks(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return cells of four int8, int32 [R, U]; the scales [r]; and the sum of each row [r]."""
    values, scales = _store(weight, I8)
    assert scales is not None
    values = np.pad(values, ((0, 0), (0, -values.shape[1] % 4)))
    sums = np.pad(values.sum(1, dtype=np.int32), (0, -len(values) % GROUP))
    return values.view(_BLOCK), scales, sums


def _check_cut(panel: int, tile: int) -> None:
    assert panel in range(GROUP, MOST_PANEL + 1, GROUP), panel
    assert 0 < tile <= MOST_TILE, tile


def _each_panel(cells: np.ndarray, panel: int) -> Iterator[np.ndarray]:
    """Yield the panels [panel, U] in order; the last is shorter, and padded with rows of zeros to a multiple of 4."""
    for first in range(0, len(cells), panel):
        rows = cells[first : first + panel]
        yield rows if len(rows) % GROUP == 0 else np.pad(rows, ((0, -len(rows) % GROUP), (0, 0)))


def _each_tile(rows: int, units: int, panel: int, tile: int) -> Iterator[tuple[slice, slice]]:
    """Yield the rows and units of each tile of each panel, in the file's order; `rows` is a multiple of 4."""
    for first in range(0, rows, panel):
        for unit in range(0, units, tile):
            yield slice(first, min(first + panel, rows)), slice(unit, min(unit + tile, units))


def _pack_dense(cells: np.ndarray, panel: int, tile: int) -> np.ndarray:
    """Return all cells [R, U] as entries [E, 4], in the order of the file."""
    _check_cut(panel, tile)
    rows, units = cells.shape
    packed = np.empty((rounded(rows, GROUP) // GROUP * units, GROUP), cells.dtype)
    at = 0
    for block in _each_panel(cells, panel):
        for unit in range(0, units, tile):
            part = block[:, unit : unit + tile].reshape(len(block) // GROUP, GROUP, -1).transpose(0, 2, 1)
            end = at + part.size // GROUP
            packed[at:end].reshape(part.shape)[:] = part
            at = end
    return packed


def _pack_sparse(
    cells: np.ndarray, panel: int, tile: int, shared: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the entries [E, 4] of the cells [R, U] that are not left out, with their indices, groups and starts."""
    _check_cut(panel, tile)
    assert shared in (1, 2, GROUP), shared
    parts, starts = [], [0]
    for block in _each_panel(cells, panel):
        tiles = [_pack_tile(block[:, unit : unit + tile], shared) for unit in range(0, cells.shape[1], tile)]
        parts += tiles
        starts.append(starts[-1] + sum(len(values) for values, _, _ in tiles))
    values, indices, groups = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return values, indices, groups, np.array(starts, "<u8")


def _pack_tile(block: np.ndarray, shared: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the values [e, 4], indices [e, 4 / S] and groups of one tile [rows, units]; the densest rows come first.

    `rows` is a multiple of 4. Rows that share an index are sorted together, and a set of them is called a band here.
    """
    bands = block.reshape(-1, shared, block.shape[1])
    a_group = GROUP // shared
    kept = (bands != 0).any(1)
    order = np.argsort(-np.count_nonzero(kept, axis=1), kind="stable")
    kept = kept[order]
    counts = np.count_nonzero(kept, axis=1)
    groups = np.zeros(len(block) // GROUP, GROUPS)
    groups["rows"] = (order[:, None] * shared + np.arange(shared)).reshape(-1, GROUP)
    groups["count"] = most = counts[::a_group]  # sorted, so the first band of each group is the largest
    begins = np.repeat(np.cumsum(most) - most, a_group)  # the first entry of each band
    rows, units = np.nonzero(kept)
    skip = begins - (np.cumsum(counts) - counts)
    positions = (np.arange(len(rows)) + skip[rows]) * a_group + rows % a_group
    values = np.zeros((most.sum(), a_group, shared), block.dtype)
    indices = np.zeros((most.sum(), a_group), np.uint8)
    values.reshape(-1, shared)[positions] = bands[order].transpose(0, 2, 1)[kept]
    indices.reshape(-1)[positions] = units
    return values.reshape(-1, GROUP), indices, groups


def _unpack_product(packed: PackedWeight) -> np.ndarray:
    """Return the stored values [r, C rounded up to units] of the weight of a product, in their type."""
    in_blocks = packed.layout in IN_BLOCKS
    units = -(-packed.columns // 4) if in_blocks else packed.columns
    entries = packed.values.view(_BLOCK) if in_blocks else packed.values
    entries = entries.reshape(-1, GROUP)
    cells = np.zeros((rounded(packed.rows, GROUP), units), entries.dtype)
    tiles = _each_tile(len(cells), units, packed.panel, packed.tile)
    (_unpack_dense if packed.indices is None else _unpack_sparse)(packed, entries, cells, tiles)
    return cells.view(np.int8) if in_blocks else cells


def _unpack_dense(
    _packed: PackedWeight, entries: np.ndarray, cells: np.ndarray, tiles: Iterator[tuple[slice, slice]]
) -> None:
    at = 0
    for tile in tiles:
        block = cells[tile]
        end = at + block.size // GROUP
        part = entries[at:end].reshape(len(block) // GROUP, -1, GROUP)
        block[:] = part.transpose(0, 2, 1).reshape(block.shape)
        at = end


def _unpack_sparse(
    packed: PackedWeight, entries: np.ndarray, cells: np.ndarray, tiles: Iterator[tuple[slice, slice]]
) -> None:
    assert packed.groups is not None
    assert packed.indices is not None
    at, first = 0, 0
    for tile in tiles:
        block = cells[tile]
        groups = packed.groups[first : first + len(block) // GROUP]
        rows = np.repeat(groups["rows"], groups["count"], axis=0)
        # Groups are padded with zeros at unit 0, which must not overwrite a value that the row has there.
        values, units = entries[at : at + len(rows)], packed.indices[at : at + len(rows)]
        units = np.repeat(units, GROUP // units.shape[1], axis=1)
        real = values != 0
        block[rows[real], units[real]] = values[real]
        at, first = at + len(rows), first + len(groups)

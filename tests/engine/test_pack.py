"""Laws of packed weights: what goes in comes out, nothing more is kept than must be, and everything has its place."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import torch

from lxcompress import bitmask
from lxcompress.engine import pack
from lxcompress.engine.pack import PackedWeight, unpack
from lxcompress.engine.records import BLOCKS, SHARED_BLOCKS, SHARED_SPARSE
from lxcompress.engine.records import SPARSE as SPARSE_LAYOUT
from lxcompress.errors import ExportError
from tests.complain import complain

SHAPES = ((1, 1), (3, 5), (4, 4), (5, 256), (7, 257), (128, 3), (131, 30), (256, 513), (301, 70))
FILLS = {"nothing": 0.0, "tenth": 0.1, "half": 0.5, "all": 1.0}
LAYOUTS: dict[str, Callable[[np.ndarray], PackedWeight]] = {
    "dense fp32": lambda weight: pack.dense(weight, "fp32"),
    "dense bf16": lambda weight: pack.dense(weight, "bf16"),
    "dense int8": lambda weight: pack.dense(weight, "int8"),
    "sparse fp32": lambda weight: pack.sparse(weight, "fp32"),
    "sparse bf16": lambda weight: pack.sparse(weight, "bf16"),
    "sparse int8": lambda weight: pack.sparse(weight, "int8"),
    "quantised": pack.quantised,
    "blocks": pack.blocks,
    "shared 2 fp32": lambda weight: pack.sparse(weight, "fp32", shared=2),
    "shared 4 fp32": lambda weight: pack.sparse(weight, "fp32", shared=4),
    "shared 2 bf16": lambda weight: pack.sparse(weight, "bf16", shared=2),
    "shared 4 bf16": lambda weight: pack.sparse(weight, "bf16", shared=4),
    "shared 2 blocks": lambda weight: pack.blocks(weight, shared=2),
    "shared 4 blocks": lambda weight: pack.blocks(weight, shared=4),
    "table fp32": lambda weight: pack.table(weight, "fp32"),
    "table bf16": lambda weight: pack.table(weight, "bf16"),
    "table int8": lambda weight: pack.table(weight, "int8"),
}
SPARSE = {name: packer for name, packer in LAYOUTS.items() if name.startswith(("sparse", "blocks"))}


def draw(shape: tuple[int, int], fill: float, seed: int = 0) -> np.ndarray:
    """A weight of values of all sizes, of which some rows are empty, and some zeros negative."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=shape) * 10.0 ** rng.integers(-6, 4, shape)
    weight[rng.random(shape) >= fill] = -0.0
    weight[rng.random(len(weight)) < 0.2 * (fill < 1)] = 0
    return weight.astype(np.float32)


def of_type(weight: np.ndarray, name: str) -> np.ndarray:
    """What a weight is once it was stored in the type that the layout's name ends with, by other means."""
    if name.endswith("fp32"):
        return weight
    if name.endswith("bf16"):
        return torch.from_numpy(weight).bfloat16().float().numpy()
    return bitmask.unpack(bitmask.pack(weight, precision="int8"))


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("name", LAYOUTS)
def test_what_was_packed_is_unpacked(name: str, fill: str) -> None:
    for seed, shape in enumerate(SHAPES):
        weight = draw(shape, FILLS[fill], seed)
        again = unpack(LAYOUTS[name](weight))
        assert again.dtype == np.float32
        assert np.array_equal(again, of_type(weight, name)), shape


@pytest.mark.parametrize(("panel", "tile"), [(4, 1), (4, 3), (8, 70), (64, 256), (128, 64), (252, 255), (256, 256)])
def test_any_panel_and_tile_gives_the_same_weight(panel: int, tile: int) -> None:
    weight = draw((70, 270), 0.3)
    for type in pack.PRECISIONS:
        assert np.array_equal(unpack(pack.sparse(weight, type, panel=panel, tile=tile)), of_type(weight, type))
        assert np.array_equal(unpack(pack.dense(weight, type, panel=panel, tile=tile)), of_type(weight, type))
    whole = of_type(weight, "int8")
    assert np.array_equal(unpack(pack.blocks(weight, panel=panel, tile=tile)), whole)
    assert np.array_equal(unpack(pack.quantised(weight, panel=panel)), whole)


@pytest.mark.parametrize(("panel", "tile"), [(0, 8), (6, 8), (260, 8), (8, 0), (8, 257)])
def test_no_other_panel_or_tile_is_packed(panel: int, tile: int) -> None:
    for packer in (pack.dense, pack.sparse):
        with pytest.raises(AssertionError, match=str(tile if panel == 8 else panel)):
            packer(draw((12, 30), 1), "fp32", panel=panel, tile=tile)


@pytest.mark.parametrize("shared", [1, 2, 4])
def test_the_layout_says_whether_rows_share_an_index(shared: int) -> None:
    weight = draw((8, 30), 0.5)
    packed = pack.sparse(weight, "fp32", shared=shared), pack.blocks(weight, shared=shared)
    layouts = (SPARSE_LAYOUT, BLOCKS) if shared == 1 else (SHARED_SPARSE, SHARED_BLOCKS)
    assert tuple(each.layout for each in packed) == layouts
    assert {each.shared for each in packed} == {0 if shared == 1 else shared}


def test_vectors_and_tables_are_not_cut() -> None:
    weight = draw((3, 5), 1)
    uncut = {"vector": (pack.vector(weight[0]), 5, 1), "table": (pack.table(weight, "fp32"), 3, 5)}
    for name, (packed, rows, columns) in uncut.items():
        assert packed.values.shape == (packed.rows, packed.columns) == (rows, columns), name
        assert (packed.panel, packed.tile, packed.entries) == (0, 0, 0), name
    assert np.array_equal(unpack(uncut["vector"][0])[:, 0], weight[0])


def test_bf16_and_int8_are_within_half_a_step() -> None:
    weight = draw((130, 300), 0.5)
    off = np.abs(unpack(pack.sparse(weight, "bf16")) - weight)
    assert (off <= np.abs(weight) / 256).all()
    for packed in (pack.blocks(weight), pack.sparse(weight, "int8"), pack.dense(weight, "int8")):
        step = np.abs(weight).max(1, keepdims=True) / 127
        assert (np.abs(unpack(packed) - weight) <= step * 0.5001).all()


def test_bf16_is_rounded_as_torch_rounds() -> None:
    rng = np.random.default_rng(5)
    bits = rng.integers(0, 1 << 32, (64, 1000), dtype=np.uint32) & 0xFEFFFFFF  # finite, and not near the end
    bits[0, :6] = (0x3F808000, 0x3F818000, 0x3F807FFF, 0x3F808001, 0x80000001, 0x00008000)  # ties, tiny values
    weight = bits.view(np.float32)
    assert np.array_equal(unpack(pack.table(weight, "bf16")), of_type(weight, "bf16"))


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("name", SPARSE)
def test_a_group_has_as_many_entries_as_its_fullest_row(name: str, fill: str) -> None:
    """Counted row by row, from the weight as it was stored."""
    for seed, shape in enumerate(SHAPES):
        weight = draw(shape, FILLS[fill], seed)
        packed = SPARSE[name](weight)
        stored = of_type(weight, name if name != "blocks" else "int8")
        wide = 4 if name == "blocks" else 1
        rows, units = -(-shape[0] // 4) * 4, -(-shape[1] // wide)
        padded = np.zeros((rows, units * wide), np.float32)
        padded[: shape[0], : shape[1]] = stored
        kept = padded.reshape(rows, units, wide).any(2)
        expected, starts = [], [0]
        for first in range(0, rows, packed.panel):
            mine = [
                sorted(kept[first : first + packed.panel, left : left + packed.tile].sum(1), reverse=True)[::4]
                for left in range(0, units, packed.tile)
            ]
            expected += [count for counts in mine for count in counts]
            starts.append(sum(expected))
        assert packed.groups["count"].tolist() == expected
        assert packed.starts.tolist() == starts
        assert packed.entries == len(packed.values) == len(packed.indices) == sum(expected)


@pytest.mark.parametrize("name", SPARSE)
def test_each_row_of_a_panel_is_in_one_group_of_each_tile(name: str) -> None:
    packed = SPARSE[name](draw((131, 2100), 0.3))
    units = -(-packed.columns // (4 if name == "blocks" else 1))
    tiles = -(-units // packed.tile)
    first = packed.groups[: 128 // 4 * tiles].reshape(tiles, -1)
    last = packed.groups[128 // 4 * tiles :].reshape(tiles, -1)
    for groups, many in ((first, 128), (last, 4)):
        for tile in groups:
            assert sorted(tile["rows"].reshape(-1)) == list(range(many))
            assert (np.diff(tile["count"].astype(int)) <= 0).all()


@pytest.mark.parametrize("name", SPARSE)
def test_units_of_a_row_rise_and_lie_within_the_weight(name: str) -> None:
    packed = SPARSE[name](draw((12, 300), 0.4))
    units = -(-300 // (4 if name == "blocks" else 1))
    tiles = [min(packed.tile, units - left) for left in range(0, units, packed.tile) for _ in range(3)]
    entry = 0
    for group, most in zip(packed.groups, tiles, strict=True):
        mine = slice(entry, entry + group["count"])
        kept = packed.values[mine].reshape(group["count"], 4, -1).any(2)
        indices = packed.indices[mine]
        for row in range(4):
            many = kept[:, row].sum()
            assert kept[:many, row].all()
            assert (np.diff(indices[:many, row].astype(int)) > 0).all()
            assert not indices[many:, row].any()
        assert (indices < most).all()
        entry += group["count"]


def test_dense_layouts_have_an_entry_for_each_unit_of_each_four_rows() -> None:
    for rows, columns in SHAPES:
        weight = draw((rows, columns), 1)
        fours = -(-rows // 4)
        assert pack.dense(weight, "fp32").values.shape == (fours * columns, 4)
        assert pack.quantised(weight).values.shape == (fours * -(-columns // 4), 16)


def test_an_entry_lies_where_the_format_says() -> None:
    """Panel, tile, group of four, unit, row: spelled out for the place of some weights."""
    weight = draw((10, 300), 1)
    packed = pack.dense(weight, "fp32", panel=8)
    for row, column in ((0, 0), (3, 5), (4, 5), (7, 255), (0, 256), (5, 299), (8, 0), (9, 299)):
        panel, tile = row // 8, column // packed.tile
        rows, units = (8, 4)[panel], min(packed.tile, 300 - tile * packed.tile)
        before = panel * 2 * 300 + tile * packed.tile * rows // 4 + row % 8 // 4 * units
        assert packed.values[before + column % packed.tile, row % 4] == weight[row, column]
    steps = bitmask.pack(weight, precision="int8").values
    blocks = pack.quantised(weight, panel=8).values.reshape(-1, 4, 4)
    for row, block in ((0, 0), (3, 5), (6, 74), (9, 74)):
        before = row // 4 * 75  # all blocks are in one tile
        assert np.array_equal(blocks[before + block, row % 4], steps[row, 4 * block : 4 * block + 4])


def test_sums_and_scales_have_a_place_for_each_row_and_zeros_behind() -> None:
    weight = draw((7, 30), 1)
    steps = bitmask.pack(weight, precision="int8")
    for packed in (pack.quantised(weight), pack.blocks(weight)):
        assert packed.sums.tolist() == [*steps.values.sum(1, dtype=int), 0]
        assert packed.scales.tolist() == [*steps.scales, 0]


def test_what_int8_rounds_to_zero_takes_no_room() -> None:
    weight = np.full((4, 8), 1e-4, np.float32)
    weight[:, 0] = 1
    assert pack.sparse(weight, "int8").entries == 1
    assert pack.blocks(weight).entries == 1
    assert pack.sparse(weight, "fp32").entries == 8


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(bad: float) -> None:
    weight = np.ones((6, 9), np.float32)
    weight[2, 3] = bad
    for packer in LAYOUTS.values():
        complain(lambda packer=packer: packer(weight), "6 x 9", kind=ExportError)
    complain(lambda: pack.vector(weight[2]), kind=ExportError)


def test_what_bf16_cannot_hold_is_refused() -> None:
    below, at = np.float32(3.3961774e38), np.float32(3.3961776e38)
    assert np.isfinite(unpack(pack.table(np.array([[below]]), "bf16"))).all()
    assert np.isinf(of_type(np.array([[at]]), "bf16")).all()
    complain(lambda: pack.table(np.array([[at]]), "bf16"), kind=ExportError)
    assert unpack(pack.table(np.array([[at]]), "fp32")) == at


def test_weights_in_another_order_of_memory_or_type_are_the_same() -> None:
    weight = draw((30, 50), 0.5)
    for packer in LAYOUTS.values():
        expected = unpack(packer(weight))
        assert np.array_equal(unpack(packer(np.asfortranarray(weight))), expected)
        assert np.array_equal(unpack(packer(weight.astype(np.float64))), expected)


def test_packing_takes_a_few_times_the_matrix() -> None:
    weight = draw((768, 768), 0.5)
    for name, packer in LAYOUTS.items():
        tracemalloc.start()
        packer(weight)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 5 * weight.nbytes, name

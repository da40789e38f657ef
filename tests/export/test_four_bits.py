"""Laws of int4: weights are those of their codes, removed ones stay zeros, every large matrix has 4 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from lxcompress.exporters import ort
from lxcompress.exporters.advice import file_bytes, sizes_of
from lxcompress.exporters.artifact import export, open_source
from lxcompress.exporters.formats import ExportOptions
from lxcompress.exporters.four_bits import BLOCK, PACKED, PACKED_TABLE, ZERO, pack, to_int4, unpack
from lxcompress.exporters.fuse import fuse
from lxcompress.exporters.onnx import count_zeros, save
from lxcompress.exporters.ort import convert
from lxcompress.exporters.twins import MissingTwin, plan_twins
from lxcompress.measure.weight_bytes import onnx_weights
from lxcompress.runtimes import open_session
from tests.conftest import TOY_CELL
from tests.export.graphs import NAMES, SIZES, Traced, questions, scores, traced

WIDEST = 0.03
"""Of the spread of scores: what rounding activations to 8 bits in blocks of 32 may change."""


@pytest.fixture(scope="module", params=NAMES)
def given(request: pytest.FixtureRequest) -> Traced:
    return traced(request.param)


@pytest.fixture(scope="module")
def file(given: Traced, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model in 4 bits, made of the fused file as an export does."""
    model = fuse(onnx.load(given.path), attention=True)
    to_int4(model)
    return save(model, tmp_path_factory.mktemp("int4"))


def decode(matrix: np.ndarray) -> np.ndarray:
    """The values of a matrix that was packed."""
    codes, scales = pack(matrix)
    return unpack(codes)[:, : matrix.shape[1]] * np.repeat(scales, BLOCK, axis=1)[:, : matrix.shape[1]]


@pytest.mark.parametrize("shape", [(3, 64), (5, 34), (2, 7)])
def test_a_block_has_16_values_and_the_nearest_is_taken(shape: tuple[int, int]) -> None:
    """Compared with a slow search of every scale's nearest codes. The largest weight of a block is exact."""
    matrix = np.random.default_rng(4).standard_normal(shape).astype(np.float32)
    matrix[0, -1] = 0
    codes, scales = pack(matrix)
    assert codes.shape == (shape[0], -(-shape[1] // BLOCK), BLOCK // 2)
    found = decode(matrix)
    assert found[0, -1] == 0
    for row in range(shape[0]):
        for start in range(0, shape[1], BLOCK):
            block, scale = matrix[row, start : start + BLOCK], scales[row, start // BLOCK]
            values = (np.arange(16) - ZERO) * scale
            nearest = values[np.abs(block[:, None] - values).argmin(axis=1)]
            np.testing.assert_allclose(found[row, start : start + BLOCK], nearest, atol=1e-6)
            largest = np.abs(block).argmax()
            assert nearest[largest] == pytest.approx(block[largest])
    assert not decode(np.zeros((2, 40), np.float32)).any()


@pytest.mark.parametrize(("rows", "columns"), [(16, 64), (5, 40), (7, 30)])
def test_onnx_runtime_reads_the_codes_as_they_are_meant(rows: int, columns: int, tmp_path: Path) -> None:
    """A product and a table of one node each, whose columns may not fill their blocks."""
    draw = np.random.default_rng(rows)
    matrix, states = draw.standard_normal((rows, columns)).astype(np.float32), np.eye(columns, dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["picked"]),
            helper.make_node("MatMul", ["states", "matrix"], ["scores"]),
        ],
        "small",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [rows])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [columns, rows]),
            helper.make_tensor_value_info("picked", TensorProto.FLOAT, [rows, columns]),
        ],
        [
            numpy_helper.from_array(matrix, "table"),
            numpy_helper.from_array(np.ascontiguousarray(matrix.T), "matrix"),
            numpy_helper.from_array(states, "states"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    to_int4(model)
    assert [node.op_type for node in model.graph.node] == [PACKED_TABLE, PACKED]
    session = open_session(save(model, tmp_path), threads=1).session
    product, picked = session.run(["scores", "picked"], {"input_ids": np.arange(rows)})
    np.testing.assert_allclose(picked, decode(matrix), atol=1e-6)
    np.testing.assert_allclose(product.T, decode(matrix), rtol=0.02, atol=1e-6)  # a 1 has the code 127 of 127


def test_the_file_answers_as_the_model_of_its_codes(given: Traced, file: Path) -> None:
    before = {name: weight.clone() for name, weight in given.model.weights.items()}
    rounded = {
        name: torch.from_numpy(decode(weight.numpy())) if weight.dim() == 2 and weight.shape[1] > 4 else weight
        for name, weight in before.items()
    }
    given.model.load(rounded)
    try:
        expected = {size: scores(given.model, questions(given, *size)) for size in SIZES}
    finally:
        given.model.load(before)
    session, spread = open_session(file, threads=1), expected[SIZES[-1]].std()
    for size in SIZES:
        found = session.answer(questions(given, *size).numpy())
        assert np.sqrt(np.mean((found - expected[size]) ** 2)) < WIDEST * spread


def test_every_product_and_embedding_has_4_bits(given: Traced, file: Path) -> None:
    graph = onnx.load(file).graph
    left = [tensor for tensor in graph.initializer if len(tensor.dims) == 2 and tensor.data_type == TensorProto.FLOAT]
    large = [tensor.name for tensor in left if not tensor.name.endswith("_scales")]
    assert all(min(next(tensor.dims for tensor in left if tensor.name == name)) <= 4 for name in large)
    kinds = [node.op_type for node in graph.node]
    assert kinds.count(PACKED_TABLE) >= 3
    assert "Attention" not in kinds
    assert kinds.count(PACKED) + 2 * kinds.count("MultiHeadAttention") >= given.matrices - 1


def test_removed_weights_are_zeros_in_the_file(given: Traced, file: Path) -> None:
    zeros, elements = count_zeros(file.parent)
    assert elements == given.prunable
    assert given.removed <= zeros < given.removed + 0.15 * given.prunable  # small weights are rounded to zero too


def test_the_mobile_file_has_the_same_codes(given: Traced, file: Path, tmp_path: Path) -> None:
    convert(file, tmp_path, keep_half=False)
    assert ort.count_zeros(tmp_path) == count_zeros(file.parent)
    feeds = questions(given, 3, 4, 7).numpy()
    found, expected = (open_session(path, threads=1).answer(feeds) for path in (tmp_path, file))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_sizes_stay_free_and_the_bench_counts_the_bytes(given: Traced, file: Path) -> None:
    plain, graph = onnx.load(given.path).graph, onnx.load(file).graph
    assert list(plain.input) == list(graph.input)
    assert list(plain.output) == list(graph.output)
    weights = onnx_weights(file, "onnxruntime")
    assert sum(weight.size_bytes for weight in weights) == sum(
        numpy_helper.to_array(tensor).nbytes for tensor in graph.initializer
    )
    assert sum(weight.rows > 0 for weight in weights) >= 6  # codes and scales of three tables


def test_advice_knows_the_size_of_the_file() -> None:
    given = traced("visual_bert")
    model = fuse(onnx.load(given.path), attention=True)
    to_int4(model)
    stored = sum(numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer)
    sizes = sizes_of("small", given.model.config, given.model.family)
    assert stored == pytest.approx(file_bytes(sizes, 0.5, format="onnx", precision="int4"), rel=0.03)


def test_an_export_says_what_it_rounds_and_counts_changed_answers(tiny_run, tiny_onnx, tmp_path) -> None:
    """Made of the fp32 file, so that no model is traced."""
    source = open_source(tiny_run / "tickets" / TOY_CELL)
    artifact = export(source, tmp_path / "int4", ExportOptions("onnx", "int4", fp32=tiny_onnx))
    assert artifact.precision == "int4"
    assert artifact.parity.tolerance is None
    assert artifact.prunable_zeros >= 0.5
    assert any("4 bits and a scale for each 32 weights" in note for note in artifact.notes)
    assert any("blocks of 32 do not fit or would not be smaller" in note for note in artifact.notes)  # the boxes'


def test_dense_int4_is_a_twin_on_request(tiny_run) -> None:
    ticket = tiny_run / "tickets" / TOY_CELL
    wanted = plan_twins(ticket, int4=True)[0]
    assert [(twin.twin, twin.precision) for twin in wanted][2] == ("dense int4", "int4")
    assert "dense int4" not in [twin.twin for twin in plan_twins(ticket)[0]]
    assert MissingTwin("dense int4", "format bitmask has no int4") in plan_twins(ticket, format="bitmask", int4=True)[1]

"""Laws of fewer bits: every product of weights gets them, removed weights stay zeros, sizes stay free."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import GraphProto, TensorProto, numpy_helper

from lxcompress.errors import ExportError
from lxcompress.exporters.fuse import fuse
from lxcompress.exporters.onnx import count_zeros, save
from lxcompress.exporters.products import find_reads, shapes_of, steps_of
from lxcompress.exporters.quantise import to_half, to_int8, to_int8_static
from lxcompress.runtimes import open_session
from tests.export.graphs import NAMES, SIZES, Traced, questions, scores, traced

WIDEST = {"fp16": 0.01, "int8": 0.08, "int8-static": 0.1}
"""Of the spread of scores: what a score may differ by, at most. These models are random, and so not forgiving."""


@pytest.fixture(scope="module", params=NAMES)
def given(request: pytest.FixtureRequest) -> Traced:
    return traced(request.param)


@pytest.fixture(scope="module", params=WIDEST)
def precision(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def file(given: Traced, precision: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with fewer bits, made of the fused file as an export does."""
    return narrow(given, precision, tmp_path_factory.mktemp("narrow"))


def narrow(given: Traced, precision: str, folder: Path) -> Path:
    fused = fuse(onnx.load(given.path), attention=precision != "int8-static")
    if precision == "fp16":
        return save(to_half(fused), folder)
    path, out = save(fused, folder / "fused"), folder / "model.onnx"
    if precision == "int8":
        to_int8(path, out)
    else:
        to_int8_static(path, out, (questions(given, 8, tokens, 5).numpy() for tokens in (3, 8, 16)))
    return out


def kinds(graph: GraphProto) -> dict[str, int]:
    """The type of every stored tensor."""
    return {tensor.name: tensor.data_type for tensor in graph.initializer}


@pytest.mark.parametrize(("count", "tokens", "objects"), SIZES)
def test_scores_stay_close_at_every_size(given, precision, file, count, tokens, objects) -> None:
    inputs = questions(given, count, tokens, objects)
    expected = scores(given.model, inputs)
    found = open_session(file, threads=1).answer(inputs.numpy())
    assert found.dtype == np.float32
    spread = scores(given.model, questions(given, 16, 9, 5)).std()
    assert np.sqrt(np.mean((found - expected) ** 2)) < WIDEST[precision] * spread


def test_every_product_of_weights_has_them(given, precision, file) -> None:
    graph = onnx.load(file).graph
    stored = kinds(graph)
    read = {each.name: stored[each.name] for each in find_reads(steps_of(graph), shapes_of(graph))}
    packed = sum(node.op_type in ("Attention", "QAttention") for node in graph.node)
    assert len(read) + 2 * packed == given.matrices
    assert set(read.values()) == {TensorProto.FLOAT16 if precision == "fp16" else TensorProto.INT8}


def test_as_many_products_as_before_read_weights(given, file) -> None:
    plain, graph = onnx.load(given.path).graph, onnx.load(file).graph
    before, after = (len(find_reads(steps_of(each), shapes_of(each))) for each in (plain, graph))
    packed = sum(node.op_type in ("Attention", "QAttention") for node in graph.node)
    assert after + 2 * packed == before


def test_no_matrix_is_left_in_full(file) -> None:
    graph = onnx.load(file).graph
    assert not [each.name for each in graph.initializer if len(each.dims) == 2 and each.data_type == TensorProto.FLOAT]


def test_removed_weights_are_zeros_in_the_file(given, precision, file) -> None:
    zeros, elements = count_zeros(file.parent)
    assert elements == given.prunable
    assert zeros >= given.removed
    if precision != "fp16":  # small weights are rounded to zero too: how many depends on the matrix, but they are few
        assert zeros < given.removed + 0.1 * given.prunable


def test_zeros_are_those_of_the_stored_numbers(given, file) -> None:
    """Counted another way: the stored matrices as they are, those of the output layer and embeddings apart."""
    graph = onnx.load(file).graph
    widened = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    picked = {widened.get(node.input[0], node.input[0]) for node in graph.node if node.op_type == "Gather"}
    arrays = [
        numpy_helper.to_array(each)
        for each in graph.initializer
        if len(each.dims) == 2 and min(each.dims) > 2 and each.name not in picked
    ]
    prunable = [each for each in arrays if 7 not in each.shape]  # its answers: no other layer has that width
    counted = sum(int((each == 0).sum()) for each in prunable), sum(each.size for each in prunable)
    assert count_zeros(file.parent) == counted


def test_the_file_is_valid_and_its_sizes_are_free(given, file) -> None:
    onnx.checker.check_model(str(file))
    plain, graph = onnx.load(given.path).graph, onnx.load(file).graph
    for before, after in zip((*plain.input, *plain.output), (*graph.input, *graph.output), strict=True):
        assert before.name == after.name
        assert before.type == after.type


def test_what_a_tool_cannot_read_is_one_sentence(tmp_path) -> None:
    (tmp_path / "noise.onnx").write_bytes(b"noise")
    with pytest.raises(ExportError, match=r"--precision int8: ONNX Runtime's tool failed \("):
        to_int8(tmp_path / "noise.onnx", tmp_path / "model.onnx")
    with pytest.raises(ExportError, match=r"--precision int8-static: ONNX Runtime's tool failed \("):
        to_int8_static(tmp_path / "noise.onnx", tmp_path / "model.onnx", [])

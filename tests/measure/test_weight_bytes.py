"""An answer reads each weight once, as its runtime holds it, and of a table one row per token."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, load, numpy_helper, save

from lxcompress.measure.weight_bytes import bytes_per_answer, held_weights
from lxcompress.records import Artifact, read_record
from tests.measure.artifacts import FEATURES, build_artifact

WIDTH, VOCABULARY = 16, 500
REST = 4 * (WIDTH * 3 + (FEATURES + 4) * 3) + 2 * 8
"""Bytes of the toy's matrices, in fp32, and of its two axes, in int64."""


def read(folder: Path, tokens: int, *, runtime: str = "onnxruntime") -> int | None:
    record = read_record(folder / "artifact.json", Artifact)
    return bytes_per_answer(held_weights(folder, record, runtime), tokens)


@pytest.mark.parametrize("tokens", [1, 7, 300])
def test_onnx_reads_its_matrices_and_a_row_for_each_token(tmp_path: Path, tokens: int) -> None:
    folder = build_artifact(tmp_path / "a", width=WIDTH, vocabulary=VOCABULARY)
    assert read(folder, tokens) == REST + 4 * WIDTH * tokens


def test_a_runtime_of_16_bits_reads_half(tmp_path: Path) -> None:
    folder = build_artifact(tmp_path / "a", width=WIDTH, vocabulary=VOCABULARY)
    assert read(folder, 7, runtime="openvino-bf16") == (REST - 16) // 2 + 16 + 2 * WIDTH * 7


def test_no_more_rows_are_read_than_there_are(tmp_path: Path) -> None:
    folder = build_artifact(tmp_path / "a", width=WIDTH, vocabulary=VOCABULARY)
    assert read(folder, 10 * VOCABULARY) == REST + 4 * WIDTH * VOCABULARY


def test_a_table_in_fewer_bits_is_a_table_behind_its_unpacking(tmp_path: Path) -> None:
    folder = build_artifact(tmp_path / "a", width=WIDTH, vocabulary=VOCABULARY)
    model = load(folder / "model.onnx")
    (table,) = (each for each in model.graph.initializer if each.name == "table")
    small = numpy_helper.from_array(numpy_helper.to_array(table).astype(np.int8), "table8")
    scale = numpy_helper.from_array(np.float32(0.1), "scale")
    model.graph.initializer.remove(table)
    model.graph.initializer.extend([small, scale])
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", ["table8", "scale"], ["table"]))
    save(model, folder / "model.onnx")
    assert read(folder, 7) == REST + WIDTH * 7 + 4


def test_sparse_weights_are_counted_as_the_runtime_makes_them(tmp_path: Path) -> None:
    folder = build_artifact(tmp_path / "a", width=WIDTH, vocabulary=VOCABULARY)
    model = load(folder / "model.onnx")
    (dense,) = (each for each in model.graph.initializer if each.name == "a")
    values = numpy_helper.from_array(np.ones(2, dtype=np.float32), "a")
    model.graph.initializer.remove(dense)
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([0, 5])), [WIDTH, 3])
    )
    save(model, folder / "model.onnx")
    assert read(folder, 7) == REST + 4 * WIDTH * 7


def test_openvino_reads_its_constants_in_the_bits_it_computes_in(tmp_path: Path) -> None:
    layers = [
        ("0", "Const", '<data element_type="i8" shape="100,8" offset="0" size="800"/>'),
        ("1", "Convert", ""),
        ("2", "Parameter", ""),
        ("3", "Gather", ""),
        ("4", "Const", '<data element_type="f32" shape="8,8" offset="800" size="256"/>'),
        ("5", "MatMul", ""),
        ("6", "Const", '<data element_type="i64" shape="" offset="0" size="8"/>'),
    ]
    edges = [("0", "1", 0), ("1", "3", 0), ("2", "3", 1), ("6", "3", 2), ("3", "5", 0), ("4", "5", 1)]
    (tmp_path / "model.xml").write_text(
        "<net><layers>"
        + "".join(f'<layer id="{number}" type="{kind}">{data}</layer>' for number, kind, data in layers)
        + "</layers><edges>"
        + "".join(f'<edge from-layer="{a}" from-port="0" to-layer="{b}" to-port="{port}"/>' for a, b, port in edges)
        + "</edges></net>",
        encoding="utf-8",
    )
    record = read_record(build_artifact(tmp_path / "a") / "artifact.json", Artifact)
    record = record.model_copy(update={"format": "openvino", "files": {"model.xml": "", "model.bin": ""}})
    assert bytes_per_answer(held_weights(tmp_path, record, "openvino"), 5) == 5 * 8 + 64 * 4 + 8
    assert bytes_per_answer(held_weights(tmp_path, record, "openvino-bf16"), 5) == 5 * 8 + 64 * 2 + 8


def test_torch_holds_all_in_32_bits_whatever_the_file(tmp_path: Path) -> None:
    config = {"hidden_size": 8, "vocab_size": 100, "max_position_embeddings": 20, "type_vocab_size": 2}
    folder = build_artifact(
        tmp_path / "a", format="bitmask", precision="int8", parameters=5000, files={"config.json": "0" * 64}
    )
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tables = 8 * (100 + 20 + 2)
    assert read(folder, 7, runtime="torch") == 4 * (5000 - tables + 8 * (7 + 7 + 2))


def test_what_does_not_show_its_weights_has_no_figure(tmp_path: Path) -> None:
    folder = build_artifact(tmp_path / "a", format="executorch")
    assert read(folder, 7, runtime="executorch") is None
    broken = build_artifact(tmp_path / "b")
    (broken / "model.onnx").write_bytes(b"not a graph")
    assert read(broken, 7) is None


def test_kinds_of_numbers_have_their_bytes(tmp_path: Path) -> None:
    folder = build_artifact(tmp_path / "a", width=WIDTH, vocabulary=VOCABULARY)
    model = load(folder / "model.onnx")
    for each in list(model.graph.initializer):
        if each.data_type == TensorProto.FLOAT:
            half = numpy_helper.from_array(numpy_helper.to_array(each).astype(np.float16), each.name)
            model.graph.initializer.remove(each)
            model.graph.initializer.append(half)
    save(model, folder / "model.onnx")
    assert read(folder, 7) == (REST - 16) // 2 + 16 + 2 * WIDTH * 7

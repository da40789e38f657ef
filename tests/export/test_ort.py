"""Laws of ONNX Runtime's mobile format: the file answers as the ONNX file it came of, and its zeros are in it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from lxcompress.errors import ExportError, MeasureError
from lxcompress.exporters import ort
from lxcompress.exporters.formats import Job
from lxcompress.exporters.fuse import fuse
from lxcompress.exporters.onnx import count_zeros, save
from lxcompress.exporters.quantise import to_half, to_int8, to_int8_static
from lxcompress.runtimes import open_session
from tests.export.graphs import SIZES, SMALLER, Traced, questions, scores, traced

PRECISIONS = ("fp32", "fp16", "int8", "int8-static")


@pytest.fixture(scope="module", params=["lxmert", SMALLER, "vilt"])
def given(request: pytest.FixtureRequest) -> Traced:
    return traced(request.param)


@pytest.fixture(scope="module", params=PRECISIONS)
def precision(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def source(given: Traced, precision: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX file that is converted."""
    folder = tmp_path_factory.mktemp("source")
    fused = fuse(onnx.load(given.path), attention=precision != "int8-static")
    if precision == "fp16":
        return save(to_half(fused), folder)
    path, out = save(fused, folder / "fused"), folder / "model.onnx"
    if precision == "int8":
        to_int8(path, out)
    elif precision == "int8-static":
        to_int8_static(path, out, [questions(given, 8, 12, 5).numpy()])
    return path if precision == "fp32" else out


@pytest.fixture(scope="module")
def made(source: Path, precision: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the mobile file."""
    out = tmp_path_factory.mktemp("ort")
    ort.convert(source, out, keep_half=precision == "fp16")
    return out


@pytest.mark.parametrize(("count", "tokens", "objects"), SIZES)
def test_it_answers_as_the_onnx_file(given, source, made, count, tokens, objects) -> None:
    inputs = questions(given, count, tokens, objects).numpy()
    found = open_session(made, threads=1).answer(inputs)
    expected = open_session(source, threads=1).answer(inputs)
    spread = scores(given.model, given.example).std()
    np.testing.assert_allclose(found, expected, atol=0.02 * spread)
    np.testing.assert_array_equal(found, open_session(made / "model.ort", threads=1).answer(inputs))


def test_zeros_are_counted_in_the_flatbuffer(given, source, made) -> None:
    zeros, elements = ort.count_zeros(made)
    assert (zeros, elements) == count_zeros(source.parent)
    assert elements == given.prunable
    assert zeros >= given.removed


def test_matrices_keep_their_precision(made, precision) -> None:
    """Half precision too, which ONNX Runtime's converter would store as fp32."""
    graph = ort._read_graph(made / "model.ort")
    tensors = [graph.Initializers(place) for place in range(graph.InitializersLength())]
    found = {tensor.DataType() for tensor in tensors if tensor.DimsLength() == 2 and min(tensor.DimsAsNumpy()) > 2}
    kinds = {"fp32": onnx.TensorProto.FLOAT, "fp16": onnx.TensorProto.FLOAT16}
    tables = {onnx.TensorProto.INT64, onnx.TensorProto.UINT8}  # positions; embeddings in eight bits
    assert found - tables == {kinds.get(precision, onnx.TensorProto.INT8)}


def test_the_operations_that_it_requires_stand_beside_it(made, precision, tmp_path_factory) -> None:
    text = (made / "model.required_operators_and_types.config").read_text(encoding="utf-8")
    assert str(tmp_path_factory.getbasetemp()) not in text
    assert "ai.onnx;" in text
    needed = {"int8": "DynamicQuantizeMatMul", "int8-static": "QuantizeLinear", "fp16": "Cast", "fp32": "MatMul"}
    assert needed[precision] in text
    assert sorted(path.name for path in made.iterdir()) == ["model.ort", "model.required_operators_and_types.config"]


def test_the_converter_is_told_through_the_environment_and_leaves_it_as_it_was(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(ort._LEVEL, "basic")
    ort.convert(traced("vilt").path, tmp_path, keep_half=False)
    assert os.environ[ort._LEVEL] == "basic"


def test_an_export_says_what_a_phone_makes_of_it(tmp_path, capfd) -> None:
    given, said = traced("vilt"), []
    feeds = [questions(given, 4, 8, 1).numpy()]
    job = Job(
        given.model,
        given.example,
        "int8",
        tmp_path,
        tmp_path,
        None,
        lambda: iter(feeds),
        fp32=given.path.parent,
        progress=lambda what: said.append(what),
    )
    written = ort.write(job)
    assert [path.name for path in written.files] == ["model.ort", "model.required_operators_and_types.config"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in written.files]
    assert any(note.startswith("mobile usability check of ONNX Runtime: neither NNAPI nor") for note in written.notes)
    assert said[0] == "writing it in int8"  # it is not traced again
    assert len(said) == 3
    assert capfd.readouterr() == ("", "")
    assert ort.count_zeros(tmp_path)[0] >= given.removed


def test_the_check_names_accelerators_that_would_help(tmp_path) -> None:
    """A graph of one product, of fixed sizes, is one that all of them take whole."""
    info = onnx.helper.make_tensor_value_info
    weight = onnx.numpy_helper.from_array(np.ones((4, 3), dtype=np.float32), "w")
    values = info("x", onnx.TensorProto.FLOAT, [2, 4]), info("scores", onnx.TensorProto.FLOAT, [2, 3])
    node = onnx.helper.make_node("Gemm", ["x", "w"], ["scores"])
    graph = onnx.helper.make_graph([node], "one", [values[0]], [values[1]], [weight])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    note = ort.check_mobile(save(model, tmp_path))
    assert "CoreML and NNAPI may run it faster" in note


def test_noise_is_one_sentence(tmp_path) -> None:
    (tmp_path / "model.ort").write_bytes(b"noise" * 10)
    with pytest.raises(ExportError, match=r"model\.ort: is not a file in ONNX Runtime's format"):
        ort.count_zeros(tmp_path)
    with pytest.raises(MeasureError, match=r"model\.ort: .*cannot load it"):
        open_session(tmp_path, threads=1)
    (tmp_path / "model.onnx").write_bytes(b"noise")
    with pytest.raises(ExportError, match=r"could not convert the model to its \.ort format"):
        ort.convert(tmp_path / "model.onnx", tmp_path, keep_half=False)

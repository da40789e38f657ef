"""Laws of sparse initializers: the file answers as the dense one, is smaller, and says by how much it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from lxcompress.errors import ExportError
from lxcompress.exporters import onnx_sparse as sparse
from lxcompress.exporters.formats import Job
from lxcompress.exporters.fuse import fuse
from lxcompress.exporters.onnx import count_zeros, save
from lxcompress.exporters.products import find_reads, shapes_of, steps_of
from lxcompress.exporters.quantise import to_half, to_int8
from lxcompress.runtimes import open_session
from tests.export.graphs import SIZES, questions, traced

PRECISIONS = ("fp32", "fp16", "int8")
KINDS = {"fp32": np.float32, "fp16": np.float16, "int8": np.int8}


def write_dense(precision: str, sparsity: float, folder: Path) -> Path:
    """The folder of a file of LXMERT in which so much of every matrix that feeds a product is zero."""
    given, draw = traced("lxmert"), np.random.default_rng(0)
    model = onnx.load(given.path)
    read = {each.name for each in find_reads(steps_of(model.graph), shapes_of(model.graph))}
    for tensor in model.graph.initializer:
        if tensor.name in read:
            values = 0.2 * draw.standard_normal(tuple(tensor.dims), dtype=np.float32)
            values.reshape(-1)[draw.permutation(values.size)[: round(sparsity * values.size)]] = 0
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    fused = fuse(model, attention=True)
    if precision == "int8":
        to_int8(save(fused, folder / "fused"), folder / "model.onnx")
        return folder
    return save(fused if precision == "fp32" else to_half(fused), folder).parent


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_a_sparse_matrix_takes_is_counted_exactly(precision) -> None:
    values = np.arange(600).reshape(20, 30).astype(KINDS[precision])
    values[values % 3 > 0] = 0
    made = sparse.to_sparse(values, "w")
    assert len(made.values.raw_data) + len(made.indices.raw_data) == sparse.sparse_bytes(
        np.count_nonzero(values), precision
    )
    assert values.nbytes == sparse.dense_bytes(600, precision)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_at_the_break_even_both_take_the_same(precision) -> None:
    elements = 9 * 5 * 3 * 100
    kept = round(elements * (1 - sparse.break_even(precision)))
    assert sparse.sparse_bytes(kept, precision) == sparse.dense_bytes(elements, precision)
    assert sparse.sparse_bytes(kept - 1, precision) < sparse.dense_bytes(elements, precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kept", [0.01, 0.3, 1.0])
def test_a_matrix_comes_back(precision, kept) -> None:
    draw = np.random.default_rng(1)
    values = (draw.integers(1, 100, (17, 23)) * (draw.random((17, 23)) < kept)).astype(KINDS[precision])
    made = sparse.to_sparse(values, "w")
    onnx.checker.check_sparse_tensor(made)
    np.testing.assert_array_equal(sparse.to_dense(made), values)
    assert sparse.to_dense(made).dtype == values.dtype


@pytest.fixture(scope="module", params=PRECISIONS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str, str]:
    """The folders of a dense file, 95 % of whose weights are zeros, and of the sparse one of it."""
    dense = write_dense(request.param, 0.95, tmp_path_factory.mktemp("dense"))
    size, out = (dense / "model.onnx").stat().st_size, tmp_path_factory.mktemp("sparse")
    files, note = sparse.leave_zeros_out(dense, out, request.param)
    assert sum(path.stat().st_size for path in files) < 0.7 * size
    return dense, out, note, request.param


@pytest.mark.parametrize(("count", "tokens", "objects"), SIZES)
def test_it_answers_as_the_dense_file(pair, count, tokens, objects) -> None:
    inputs = questions(traced("lxmert"), count, tokens, objects).numpy()
    found, expected = (open_session(folder, threads=1).answer(inputs) for folder in (pair[1], pair[0]))
    np.testing.assert_array_equal(found, expected)


def test_it_is_valid_and_its_zeros_are_counted_in_it(pair) -> None:
    onnx.checker.check_model(str(pair[1] / "model.onnx"))
    zeros, elements = sparse.count_zeros(pair[1])
    assert (zeros, elements) == count_zeros(pair[0])
    assert zeros / elements >= 0.94


def test_each_matrix_is_stored_in_the_way_that_is_smaller(pair) -> None:
    dense, made = (onnx.load(folder / "model.onnx").graph for folder in pair[:2])
    names = {tensor.values.name for tensor in made.sparse_initializer}
    assert pair[2].startswith(f"{len(names)} of ")
    assert names | {each.name for each in made.initializer} == {each.name for each in dense.initializer}
    for tensor in dense.initializer:
        values = numpy_helper.to_array(tensor)
        if len(tensor.dims) == 2 and values.itemsize < 8:
            kept = int(np.count_nonzero(values))
            pays = sparse.sparse_bytes(kept, pair[3]) < values.nbytes if tensor.name in names else False
            assert pays == (tensor.name in names), tensor.name


@pytest.mark.parametrize(("precision", "sparsity", "share"), [("fp32", 0.5, "66.7"), ("int8", 0.8, "88.9")])
def test_a_file_that_would_grow_is_refused_with_the_numbers(precision, sparsity, share, tmp_path) -> None:
    dense = write_dense(precision, sparsity, tmp_path / "dense")
    with pytest.raises(ExportError) as raised:
        sparse.leave_zeros_out(dense, tmp_path / "out", precision)
    said = str(raised.value)
    assert f"{precision} needs more than {share} %" in said
    assert "--format bitmask" in said
    assert not (tmp_path / "out").exists()


def test_an_export_says_that_memory_stays(tmp_path) -> None:
    """The half precision of a file that was traced before: what is said is said of all precisions."""
    given, dense = traced("lxmert"), write_dense("fp32", 0.95, tmp_path / "fp32")
    feeds = [questions(given, 4, 8, 3).numpy()]
    job = Job(given.model, given.example, "fp16", tmp_path / "out", tmp_path, None, lambda: iter(feeds), fp32=dense)
    written = sparse.write(job)
    assert [path.name for path in written.files] == [path.name for path in job.out.iterdir()] == ["model.onnx"]
    assert any("makes the sparse matrices dense when it loads them" in note for note in written.notes)

"""ONNX with sparse initializers: the zeros of a matrix are left out where that makes the matrix smaller.

A kept value takes its own bytes and eight bytes for its index: ONNX's checker accepts only COO with one 64-bit linear
index for each value. ONNX Runtime makes a sparse matrix dense when it loads the file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx as onnx_library
from onnx import ModelProto, SparseTensorProto, TensorProto, numpy_helper

from lxcompress.errors import ExportError
from lxcompress.exporters import onnx
from lxcompress.exporters.formats import Job, WrittenFiles
from lxcompress.exporters.products import count_in, shapes_of, steps_of
from lxcompress.units import percent, size_text

INDEX_BYTES = 8
VALUE_BYTES: Mapping[str, int] = {"fp32": 4, "fp16": 2, "int8": 1}
DENSE_NOTE = (
    "ONNX Runtime makes the sparse matrices dense when it loads them: memory and time are those of the dense file"
)


def write(job: Job) -> WrittenFiles:
    """Write model.onnx with sparse initializers. Raises ExportError if the file would not be smaller."""
    job.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=job.out, prefix=".") as folder:
        written = onnx.write(replace(job, out=Path(folder)))
        job.progress("leaving zeros out")
        files, note = leave_zeros_out(Path(folder), job.out, job.precision)
    return WrittenFiles(files, [*written.notes, note, DENSE_NOTE])


def leave_zeros_out(dense: Path, out: Path, precision: str) -> tuple[list[Path], str]:
    """Write the model in the folder `dense` to `out`, with those matrices sparse that become smaller.

    Returns the written files, and a note on the number of sparse matrices. Raises ExportError if the file would not be
    smaller.
    """
    size = _size(dense)
    model = onnx_library.load(dense / onnx.MODEL_FILE)
    made, stored = make_sparse(model)
    with tempfile.TemporaryDirectory(dir=dense, prefix=".") as folder:
        path = onnx.save(model, Path(folder))
        if not made or _size(path.parent) >= size:
            raise _refusal(out, precision, size, onnx.count_zeros(dense))
        files = onnx.move(path.parent, out)
    left = f", {stored - made} others would grow" if stored > made else ""
    return files, f"{made} of {stored} stored matrices are sparse{left}"


def count_zeros(out: Path) -> tuple[int, int]:
    """Return the number of zeros, and of all elements, in the prunable matrices of the file."""
    graph = onnx_library.load(out / onnx.MODEL_FILE).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    sparse = {tensor.values.name: tensor for tensor in graph.sparse_initializer}

    def read(name: str) -> np.ndarray:
        return to_dense(sparse[name]) if name in sparse else numpy_helper.to_array(stored[name], base_dir=str(out))

    return count_in(steps_of(graph), shapes_of(graph), onnx.OUTPUT, read)


def make_sparse(model: ModelProto) -> tuple[int, int]:
    """Make those matrices of `model` sparse that become smaller, in place.

    Returns the number of sparse matrices, and of all matrices that could be sparse.
    """
    graph = model.graph
    indices = [index for index, tensor in enumerate(graph.initializer) if _could_be_sparse(tensor)]
    made = 0
    for index in reversed(indices):
        tensor = graph.initializer[index]
        values = numpy_helper.to_array(tensor)
        kept = int(np.count_nonzero(values))
        # ONNX Runtime cannot read a sparse tensor without values.
        if kept and kept * (INDEX_BYTES + values.itemsize) < values.nbytes:
            graph.sparse_initializer.append(to_sparse(values, tensor.name))
            del graph.initializer[index]
            made += 1
    return made, len(indices)


def to_sparse(values: np.ndarray, name: str) -> SparseTensorProto:
    """Return a matrix as a sparse tensor: the values that are not zero, and their indices in the flattened matrix."""
    indices = np.flatnonzero(values)
    sparse = SparseTensorProto(dims=values.shape)
    sparse.values.CopyFrom(numpy_helper.from_array(values.reshape(-1)[indices], name))
    sparse.indices.CopyFrom(numpy_helper.from_array(indices.astype(np.int64), f"{name}_indices"))
    return sparse


def to_dense(sparse: SparseTensorProto) -> np.ndarray:
    """Return a sparse tensor as a dense matrix."""
    values = numpy_helper.to_array(sparse.values)
    dense = np.zeros(int(np.prod(sparse.dims)), dtype=values.dtype)
    dense[numpy_helper.to_array(sparse.indices)] = values
    return dense.reshape(tuple(sparse.dims))


def dense_bytes(elements: int, precision: str) -> int:
    """Return the bytes of a dense matrix of `elements` values."""
    return elements * VALUE_BYTES[precision]


def sparse_bytes(kept: int, precision: str) -> int:
    """Return the bytes of a sparse matrix with `kept` values that are not zero."""
    return kept * (INDEX_BYTES + VALUE_BYTES[precision])


def break_even(precision: str) -> float:
    """Return the sparsity (0-1) above which a matrix is smaller as sparse: 2/3 in fp32, 4/5 in fp16, 8/9 in int8."""
    return INDEX_BYTES / (INDEX_BYTES + VALUE_BYTES[precision])


def _could_be_sparse(tensor: TensorProto) -> bool:
    """Return whether a stored tensor is a matrix of a type that may be stored as sparse."""
    kinds = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8)
    return len(tensor.dims) == 2 and tensor.data_type in kinds


def _size(folder: Path) -> int:
    """Return the bytes of all files in a model's folder."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _refusal(out: Path, precision: str, dense: int, counted: tuple[int, int]) -> ExportError:
    """Return the error that says, with sizes and fractions of zeros, why the sparse file would not be smaller."""
    zeros, elements = counted
    grown = dense - dense_bytes(elements, precision) + sparse_bytes(elements - zeros, precision)
    return ExportError(
        f"{out}: with sparse matrices the file would have {size_text(grown)}, but the dense file has "
        f"{size_text(dense)}: "
        f"{percent(zeros / elements, 1)} % of its weights are zeros, and {precision} needs more than "
        f"{percent(break_even(precision), 1)} %; give --format bitmask, which is smaller with fewer zeros too"
    )

"""Find the stored matrices that the products of a graph read; sparsity is counted over these matrices.

A graph is a list of GraphNode, which can be made from an ONNX file and from a file of ONNX Runtime's mobile format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto


@dataclass(frozen=True)
class GraphNode:
    """A node of a graph: its name, its operation, and the names of its inputs and outputs."""

    name: str
    operation: str
    inputs: Sequence[str]
    outputs: Sequence[str]


@dataclass(frozen=True)
class Matrix:
    """A stored matrix, and a product that reads it.

    `zero` names the tensor with the matrix's zero point: the stored value that stands for 0. None: 0 is stored as 0.
    """

    name: str
    zero: str | None
    product: GraphNode


_WHOLE = {"MatMul", "Gemm", "FusedMatMul", "FusedGemm"}
PRODUCTS: Mapping[str, Sequence[tuple[int, int | None]]] = {
    **dict.fromkeys(_WHOLE, ((0, None), (1, None))),
    "Attention": ((1, None),),
    "QAttention": ((1, 7),),
    "MatMulInteger": ((0, 2), (1, 3)),
    "MatMulIntegerToFloat": ((1, 5),),
    "DynamicQuantizeMatMul": ((1, 3),),
    "QLinearMatMul": ((0, 2), (3, 5)),
    "QGemm": ((3, 5),),
    "MatMulNBits": ((1, None),),
}
"""Operation -> [(index of an input that is a matrix, index of the input that holds its zero point or None)]."""
_PASSING = {"Transpose", "Cast", "Identity", "DequantizeLinear"}
"""Operations whose output has the values of their input, in another order, type or scale."""


def find_reads(steps: Sequence[GraphNode], shapes: Mapping[str, Sequence[int]]) -> list[Matrix]:
    """Return one Matrix for each time that a product reads a stored matrix, in the order of the steps.

    `shapes` is {name of a stored tensor: its shape}.
    """
    stored: dict[str, tuple[str, str | None]] = {name: (name, None) for name, dims in shapes.items() if len(dims) == 2}
    for step in steps:
        if step.operation in _PASSING and step.inputs[0] in stored:
            name, zero = stored[step.inputs[0]]
            stored[step.outputs[0]] = (name, _at(step, 2) if step.operation == "DequantizeLinear" else zero)
    found = []
    for step in steps:
        for index, zero_index in PRODUCTS.get(step.operation, ()):
            if _at(step, index) in stored:
                name, zero = stored[step.inputs[index]]
                found.append(Matrix(name, zero if zero_index is None else _at(step, zero_index), step))
    return found


def find_prunable(steps: Sequence[GraphNode], shapes: Mapping[str, Sequence[int]], output: str) -> list[Matrix]:
    """Return the prunable matrices, each once: all stored matrices that products read, without the output layer.

    The output layer is the product that the value `output` is computed from. Embeddings are not among the matrices,
    because their rows are gathered, not multiplied.
    """
    reads = find_reads(steps, shapes)
    makers = {name: step for step in steps for name in step.outputs}
    last, queue = {id(read.product): read.name for read in reads}, [output]
    while queue:
        step = makers.get(queue.pop(0))
        if step is not None and id(step) in last:
            reads = [read for read in reads if read.name != last[id(step)]]
            break
        queue += step.inputs if step is not None else ()
    return list({read.name: read for read in reads}.values())


def count_in(
    steps: Sequence[GraphNode], shapes: Mapping[str, Sequence[int]], output: str, read: Callable[[str], np.ndarray]
) -> tuple[int, int]:
    """Return the number of zeros, and of all elements, in the prunable matrices of a graph.

    `shapes` is {name of a stored tensor: its shape}, `output` is the value that holds the scores, and `read` returns
    the values of the stored tensor of a name.
    """
    zeros = elements = 0
    for matrix in find_prunable(steps, shapes, output):
        values = read(matrix.name)
        zero = _spread(read(matrix.zero), values.shape) if matrix.zero else 0
        zeros += int(np.count_nonzero(values == zero))
        elements += values.size
    return zeros, elements


def _spread(zero: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a zero point in a shape that broadcasts to the matrix of `shape`.

    It has one value, or one for each column or each row.
    """
    if zero.size == 1:
        return zero.reshape(())
    return zero if zero.size == shape[1] else zero[:, None]


def steps_of(graph: GraphProto) -> list[GraphNode]:
    """Return the nodes of an ONNX graph."""
    return [GraphNode(node.name, node.op_type, list(node.input), list(node.output)) for node in graph.node]


def shapes_of(graph: GraphProto) -> dict[str, Sequence[int]]:
    """Return {name: shape} of an ONNX graph's stored tensors, dense and sparse."""
    dense = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    return dense | {tensor.values.name: list(tensor.dims) for tensor in graph.sparse_initializer}


def _at(step: GraphNode, index: int) -> str | None:
    """Return the name of a step's input at `index`; None if the step has no such input."""
    return step.inputs[index] or None if index < len(step.inputs) else None

"""The matrices of a graph that feed its products, whatever the products are called: what sparsity is counted over.

A graph is a list of steps here, as ONNX files and ONNX Runtime's mobile files both have them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto


@dataclass(frozen=True)
class GraphNode:
    """A node of a graph: its name, what it does, and the names of what it reads and makes."""

    name: str
    operation: str
    inputs: Sequence[str]
    outputs: Sequence[str]


@dataclass(frozen=True)
class Matrix:
    """A stored matrix: its name, that of the value which stands for zero in it (None: zero itself), and a product that
    reads it."""

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
}
"""Operation -> the places among its inputs of a matrix, and of the value that stands for zero in that."""
_PASSING = {"Transpose", "Cast", "Identity", "DequantizeLinear"}
"""Operations that hand a matrix on, value for value."""


def find_reads(steps: Sequence[GraphNode], shapes: Mapping[str, Sequence[int]]) -> list[Matrix]:
    """Every reading of a stored matrix by a product, in the order of the steps; `shapes` are of what is stored."""
    stored: dict[str, tuple[str, str | None]] = {name: (name, None) for name, dims in shapes.items() if len(dims) == 2}
    for step in steps:
        if step.operation in _PASSING and step.inputs[0] in stored:
            name, zero = stored[step.inputs[0]]
            stored[step.outputs[0]] = (name, _at(step, 2) if step.operation == "DequantizeLinear" else zero)
    found = []
    for step in steps:
        for place, zero_place in PRODUCTS.get(step.operation, ()):
            if _at(step, place) in stored:
                name, zero = stored[step.inputs[place]]
                found.append(Matrix(name, zero if zero_place is None else _at(step, zero_place), step))
    return found


def find_prunable(steps: Sequence[GraphNode], shapes: Mapping[str, Sequence[int]], output: str) -> list[Matrix]:
    """The matrices that may be pruned, each once: all that feed products but the output layer, which is the one that
    the value `output` comes of. Embeddings feed none: rows are picked from them.
    """
    reads = find_reads(steps, shapes)
    makers = {name: step for step in steps for name in step.outputs}
    last, queue = {id(each.product): each.name for each in reads}, [output]
    while queue:
        step = makers.get(queue.pop(0))
        if step is not None and id(step) in last:
            reads = [each for each in reads if each.name != last[id(step)]]
            break
        queue += step.inputs if step is not None else ()
    return list({each.name: each for each in reads}.values())


def count_in(
    steps: Sequence[GraphNode], shapes: Mapping[str, Sequence[int]], output: str, read: Callable[[str], np.ndarray]
) -> tuple[int, int]:
    """Zeros, and elements, of the matrices that may be pruned; `read` gives the values of what is stored."""
    zeros = elements = 0
    for each in find_prunable(steps, shapes, output):
        values = read(each.name)
        zero = _spread(read(each.zero), values.shape) if each.zero else 0
        zeros += int(np.count_nonzero(values == zero))
        elements += values.size
    return zeros, elements


def _spread(zero: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What stands for zero in a matrix of `shape`: one value, or one a column, or one a row."""
    if zero.size == 1:
        return zero.reshape(())
    return zero if zero.size == shape[1] else zero[:, None]


def steps_of(graph: GraphProto) -> list[GraphNode]:
    """The steps of an ONNX graph."""
    return [GraphNode(node.name, node.op_type, list(node.input), list(node.output)) for node in graph.node]


def shapes_of(graph: GraphProto) -> dict[str, Sequence[int]]:
    """The shapes of what an ONNX graph stores, the sparse ones among them."""
    dense = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    return dense | {tensor.values.name: list(tensor.dims) for tensor in graph.sparse_initializer}


def _at(step: GraphNode, place: int) -> str | None:
    return step.inputs[place] or None if place < len(step.inputs) else None

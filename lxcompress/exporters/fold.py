"""Fold constants: if a step of an ONNX graph reads stored tensors only, store its result and remove the step.

LXMERT's cross-attention reads each of its matrices twice, and torch's exporter leaves a Transpose before both reads.
Quantisers and fusions look for stored matrices, and would not find one behind a Transpose.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

_SMALL_BYTES = 4096
"""A result of up to this many bytes is stored even if it is larger than the tensors that it is computed from."""
_LEFT = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConstantOfShape", "If", "Loop", "Scan")
"""Operations that are not folded: quantisation (folding would undo it), large constants, and those with a subgraph."""
_RANDOM = ("RandomNormal", "RandomUniform", "Bernoulli", "Multinomial", "RandomNormalLike", "RandomUniformLike")


def fold_constants(model: ModelProto) -> int:
    """Fold the constants of `model` in place; return the number of steps that were removed.

    Equal matrices are merged, and stored tensors that no step reads are removed.
    """
    graph, opset = model.graph, opset_of(model)
    stored = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    made: dict[tuple[object, ...], str] = {}  # key of a folded step -> name of its result
    renamed: dict[str, str] = {}
    folded: list[int] = []
    for number, node in enumerate(graph.node):
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        if not _is_constant(node, stored) or node.output[0] in outputs:
            continue
        name, key = node.output[0], _key(node)
        if key not in made:
            result = _evaluate(node, stored, opset)
            if not _is_worth_it(result, [stored[name] for name in node.input]):
                continue
            stored[name] = numpy_helper.from_array(result, name)
            graph.initializer.append(stored[name])
        renamed[name] = made.setdefault(key, name)
        folded.append(number)
    for number in reversed(folded):
        del graph.node[number]
    share_matrices(graph)
    drop_unread(graph)
    return len(folded)


def share_matrices(graph: GraphProto) -> None:
    """Make steps that read equal stored matrices all read one of them, in place.

    The exporter stores a small matrix once for each step that reads it. Vectors are not merged: a bias is quantised
    with the scale of its own product.
    """
    first: dict[tuple[object, ...], str] = {}
    same: dict[str, str] = {}
    for tensor in graph.initializer:
        if len(tensor.dims) > 1 and tensor.raw_data:
            digest = hashlib.blake2b(tensor.raw_data).digest()
            same[tensor.name] = first.setdefault((tensor.data_type, *tensor.dims, digest), tensor.name)
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = same.get(name, name)


def drop_unread(graph: GraphProto) -> None:
    """Remove the stored tensors that no step reads, and the shapes of values that no step computes, in place."""
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    read |= _read_in_bodies(graph)
    alive = {name for node in graph.node for name in node.output}
    for values, wanted in ((graph.initializer, read), (graph.value_info, alive)):
        for index in reversed(range(len(values))):
            if values[index].name not in wanted:
                del values[index]


def opset_of(model: ModelProto) -> int:
    """Return the version of ONNX's own operators (the opset) that `model` uses."""
    return next(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx"))


def _is_constant(node: NodeProto, stored: dict[str, TensorProto]) -> bool:
    """Return whether a step reads stored tensors only, has one output, and gives the same result each time."""
    return (
        node.domain in ("", "ai.onnx")
        and node.op_type not in _LEFT + _RANDOM
        and len(node.output) == 1
        and all(name in stored for name in node.input)
    )


def _key(node: NodeProto) -> tuple[object, ...]:
    """Return a key that two steps share if they compute the same result: operation, inputs and attributes."""
    attributes = sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)
    return (node.op_type, *node.input, *attributes)


def _evaluate(node: NodeProto, stored: dict[str, TensorProto], opset: int) -> np.ndarray:
    """Compute one step on stored tensors with ONNX's reference implementation; return the result."""
    inputs = {name: numpy_helper.to_array(stored[name]) for name in node.input}
    infos = [helper.make_tensor_value_info(name, stored[name].data_type, None) for name in inputs]
    output = helper.make_tensor_value_info(node.output[0], TensorProto.UNDEFINED, None)
    graph = helper.make_graph([node], "step", infos, [output])
    step = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    (result,) = ReferenceEvaluator(step).run(None, inputs)
    return np.asarray(result, order="C")


def _is_worth_it(result: np.ndarray, sources: Iterable[TensorProto]) -> bool:
    """Return whether the result is small, or no larger than the largest tensor that it is computed from.

    The result of an Expand, for example, would make the file larger.
    """
    return result.nbytes <= max([_SMALL_BYTES, *(math.prod(source.dims) * _width(source) for source in sources)])


def _width(tensor: TensorProto) -> int:
    """Return the bytes of one element of a stored tensor."""
    return helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def _read_in_bodies(graph: GraphProto) -> set[str]:
    """Return the names of the values that the subgraphs of If and Loop read."""
    bodies = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    return {name for body in bodies for node in body.node for name in node.input}.union(*map(_read_in_bodies, bodies))

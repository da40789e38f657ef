"""Fold constants: every tensor that an ONNX graph computes from stored tensors only becomes a stored tensor.

LXMERT's cross-attention reads each of its matrices twice, and torch's exporter leaves a Transpose before both reads.
Quantisers and fusions look for stored matrices, and would not find these.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

_SMALL_BYTES = 4096
"""Results up to this size are stored even if they are larger than the tensors that they are computed from."""
_LEFT = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConstantOfShape", "If", "Loop", "Scan")
"""Operations that are not folded: quantisation (folding would undo it), random values, and those with their own
bodies."""
_RANDOM = ("RandomNormal", "RandomUniform", "Bernoulli", "Multinomial", "RandomNormalLike", "RandomUniformLike")


def fold_constants(model: ModelProto) -> int:
    """Fold the constants of `model` in place; return how many steps that saved. Tensors that are not read are
    removed.
    """
    graph, opset = model.graph, opset_of(model)
    stored = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    made: dict[tuple[object, ...], str] = {}  # what is computed -> its name
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
    """Make all steps that read equal matrices read the first of them: the exporter stores small ones once for each
    read.

    Vectors are not merged: a bias is quantised with the scale of its own product.
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
    """Remove the stored tensors that nothing reads, and the shapes of values that no longer exist."""
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    read |= _read_in_bodies(graph)
    alive = {name for node in graph.node for name in node.output}
    for values, wanted in ((graph.initializer, read), (graph.value_info, alive)):
        for index in reversed(range(len(values))):
            if values[index].name not in wanted:
                del values[index]


def opset_of(model: ModelProto) -> int:
    """Return the opset of ONNX's own operators that `model` uses."""
    return next(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx"))


def _is_constant(node: NodeProto, stored: dict[str, TensorProto]) -> bool:
    """Return whether a step is computed from stored tensors only, with the same result each time."""
    return (
        node.domain in ("", "ai.onnx")
        and node.op_type not in _LEFT + _RANDOM
        and len(node.output) == 1
        and all(name in stored for name in node.input)
    )


def _key(node: NodeProto) -> tuple[object, ...]:
    """Return a key that is equal for two steps that compute the same."""
    attributes = sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)
    return (node.op_type, *node.input, *attributes)


def _evaluate(node: NodeProto, stored: dict[str, TensorProto], opset: int) -> np.ndarray:
    """Return the result of one step over stored tensors, computed by ONNX's reference implementation."""
    inputs = {name: numpy_helper.to_array(stored[name]) for name in node.input}
    infos = [helper.make_tensor_value_info(name, stored[name].data_type, None) for name in inputs]
    output = helper.make_tensor_value_info(node.output[0], TensorProto.UNDEFINED, None)
    graph = helper.make_graph([node], "step", infos, [output])
    step = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    (result,) = ReferenceEvaluator(step).run(None, inputs)
    return np.asarray(result, order="C")


def _is_worth_it(result: np.ndarray, sources: Iterable[TensorProto]) -> bool:
    """Return whether storing the result does not make the file larger, as the Expand of a constant would."""
    return result.nbytes <= max([_SMALL_BYTES, *(math.prod(source.dims) * _width(source) for source in sources)])


def _width(tensor: TensorProto) -> int:
    return helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def _read_in_bodies(graph: GraphProto) -> set[str]:
    """Return the values of the graph that the bodies of If and Loop read."""
    bodies = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    return {name for body in bodies for node in body.node for name in node.input}.union(*map(_read_in_bodies, bodies))

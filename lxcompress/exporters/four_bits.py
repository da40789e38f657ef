"""Reduce the weights of an ONNX model to 4 bits: blocks of 32 weights of a row share one scale.

Products become ONNX Runtime's MatMulNBits and embeddings its GatherBlockQuantized. Both store two codes of 4 bits in a
byte, the first code in its low half. A weight is (code - 8) * scale, so a removed weight stays exactly 0.

Shapes: N outputs or rows, K inputs or columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from lxcompress.exporters.fold import drop_unread
from lxcompress.exporters.fuse import CONTRIB

BLOCK = 32
"""The weights that share a scale: the smallest block for which ONNX Runtime has fast products on all processors."""
ZERO = 8
"""The code of the value 0; codes are 0 to 15."""
ACCURACY_LEVEL = 4
"""Level of MatMulNBits: activations are rounded to 8 bits, with a scale for each block; level 1 keeps them in fp32."""
PACKED, PACKED_TABLE = "MatMulNBits", "GatherBlockQuantized"


def to_int4(model: ModelProto) -> list[str]:
    """Store the matrices of products and the embeddings in 4 bits, in place; return notes for the user."""
    graph = model.graph
    _split_attention(graph)
    stored = {tensor.name: tensor for tensor in graph.initializer}
    kept: dict[str, str] = {}
    packed: dict[tuple[str, str], tuple[str, str]] = {}
    nodes = []
    for node in graph.node:
        name = _find_matrix(node, stored)
        if name is None:
            nodes.append(node)
        elif not _can_pack(node, stored[name]):
            kept[name] = "{} x {}".format(*_shape(node, stored[name]))
            nodes.append(node)
        else:
            form = _form(node)
            if (name, form) not in packed:
                packed[name, form] = _store(graph, stored[name], form)
            nodes += _replace(node, packed[name, form], _shape(node, stored[name]))
    del graph.node[:]
    graph.node.extend(nodes)
    drop_unread(graph)
    if CONTRIB not in {opset.domain for opset in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(CONTRIB, 1))
    return _notes(len(packed), list(kept.values()))


def packed_shapes(graph: GraphProto) -> dict[str, tuple[int, int]]:
    """Return {name of a packed matrix of a product: its shape (N, K)}."""
    found = {}
    for node in graph.node:
        if node.op_type == PACKED:
            sizes = {attribute.name: attribute.i for attribute in node.attribute}
            found[node.input[1]] = (sizes["N"], sizes["K"])
    return found


def pack(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes, uint8 [N, blocks, BLOCK / 2], and the scales, float32 [N, blocks], of a matrix [N, K]."""
    rows, columns = matrix.shape
    blocks = -(-columns // BLOCK)
    padded = np.zeros((rows, blocks * BLOCK), np.float32)
    padded[:, :columns] = matrix
    values = padded.reshape(rows, blocks, BLOCK)
    index = np.abs(values).argmax(axis=2)[..., None]
    # The range is -8 to 7, so the largest weight gets the code 0, whatever its sign: the scale has the other sign.
    # A search for the scale of the least squared error does not bring the scores closer (docs/onnx.md).
    scales = np.take_along_axis(values, index, axis=2)[..., 0] / -ZERO
    codes = _encode(values, scales)
    return codes[..., 0::2] | codes[..., 1::2] << 4, scales


def unpack(packed: np.ndarray) -> np.ndarray:
    """Return the codes minus ZERO, int8 [N, K], of packed codes, with the zeros that pad the last block."""
    codes = np.stack([packed & 15, packed >> 4], axis=-1).astype(np.int8) - np.int8(ZERO)
    return codes.reshape(len(packed), -1)


def _encode(values: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return the codes, uint8, of `values` [N, blocks, BLOCK]."""
    factor = np.divide(1, scales, out=np.zeros_like(scales), where=scales != 0)[..., None]
    return (np.clip(np.rint(values * factor), -ZERO, ZERO - 1) + ZERO).astype(np.uint8)


def _find_matrix(node: NodeProto, stored: Mapping[str, TensorProto]) -> str | None:
    """Return the name of the stored matrix that a product or an embedding reads; None for other nodes."""
    index = {"MatMul": 1, "Gemm": 1, "Gather": 0}.get(node.op_type)
    tensor = None if index is None else stored.get(node.input[index])
    if tensor is None or len(tensor.dims) != 2 or tensor.data_type != TensorProto.FLOAT:
        return None
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    is_plain = values.get("alpha", 1.0) == values.get("beta", 1.0) == 1.0 and not values.get("transA", 0)
    return tensor.name if is_plain and not values.get("axis", 0) else None


def _form(node: NodeProto) -> str:
    """Return how the node reads its matrix: as a table [N, K], as rows [N, K], or as columns [K, N]."""
    if node.op_type == "Gather":
        return "table"
    has_rows = node.op_type == "Gemm" and any(found.name == "transB" and found.i for found in node.attribute)
    return "rows" if has_rows else "columns"


def _shape(node: NodeProto, tensor: TensorProto) -> tuple[int, int]:
    """Return the shape (N, K) of the matrix of a node."""
    first, second = tensor.dims
    return (second, first) if _form(node) == "columns" else (first, second)


def _can_pack(node: NodeProto, tensor: TensorProto) -> bool:
    """Return whether the packed matrix is smaller than in fp32; a packed table has an even number of columns."""
    rows, columns = _shape(node, tensor)
    size_bytes = rows * -(-columns // BLOCK) * (BLOCK // 2 + 4)  # half a byte for each weight, a float32 for each block
    return size_bytes < 4 * rows * columns and not (node.op_type == "Gather" and columns % 2)


def _store(graph: GraphProto, tensor: TensorProto, form: str) -> tuple[str, str]:
    """Add the packed form of a stored matrix to the graph; return the names of its codes and of its scales."""
    matrix = numpy_helper.to_array(tensor)
    codes, scales = pack(np.ascontiguousarray(matrix.T) if form == "columns" else matrix)
    if form == "table":  # its codes have two axes, and no padding
        codes = np.ascontiguousarray(codes.reshape(len(codes), -1)[:, : -(-matrix.shape[1] // 2)])
    names = (f"{tensor.name}_{form}_int4", f"{tensor.name}_{form}_scales")
    for name, array in zip(names, (codes, scales), strict=True):
        graph.initializer.append(numpy_helper.from_array(array, name))
    return names


def _replace(node: NodeProto, names: tuple[str, str], shape: tuple[int, int]) -> Iterable[NodeProto]:
    """Return the nodes that compute what `node` does, from the packed matrix with these names."""
    rows, columns = shape
    if node.op_type == "Gather":
        yield helper.make_node(
            PACKED_TABLE,
            [names[0], node.input[1], names[1]],
            node.output,
            node.name,
            domain=CONTRIB,
            bits=4,
            block_size=BLOCK,
            gather_axis=0,
            quantize_axis=1,
        )
        return
    bias = node.input[2] if node.op_type == "Gemm" and len(node.input) > 2 else ""
    output = f"{node.output[0]}_before_bias" if bias else node.output[0]
    yield helper.make_node(
        PACKED,
        [node.input[0], *names],
        [output],
        node.name,
        domain=CONTRIB,
        N=rows,
        K=columns,
        bits=4,
        block_size=BLOCK,
        accuracy_level=ACCURACY_LEVEL,
    )
    if bias:
        yield helper.make_node("Add", [output, bias], node.output, f"{node.name}_bias")


def _split_attention(graph: GraphProto) -> None:
    """Replace each fused attention by a product with its matrix and a MultiHeadAttention, in place.

    ONNX Runtime has no fused attention with 4-bit weights.
    """
    widths = {tensor.name: tensor.dims[1] for tensor in graph.initializer if len(tensor.dims) == 2}
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        if node.op_type != "Attention" or node.domain != CONTRIB:
            continue
        states, matrix, bias, mask = (*node.input, "", "")[:4]
        joint, parts = f"{node.output[0]}_joint", [f"{node.output[0]}_{name}" for name in ("query", "key", "value")]
        sizes = numpy_helper.from_array(np.full(3, widths[matrix] // 3, np.int64), f"{node.output[0]}_sizes")
        graph.initializer.append(sizes)
        product = helper.make_node("MatMul", [states, matrix], [joint], f"{node.name}_product")
        split = helper.make_node("Split", [joint, sizes.name], parts, f"{node.name}_split", axis=-1)
        attend = helper.make_node("MultiHeadAttention", [*parts, bias, mask], node.output, node.name, domain=CONTRIB)
        attend.attribute.extend(
            attribute for attribute in node.attribute if attribute.name in ("num_heads", "mask_filter_value", "scale")
        )
        del graph.node[index]
        for added in (attend, split, product):
            graph.node.insert(index, added)


def _notes(packed: int, kept: Sequence[str]) -> list[str]:
    """Return the notes that say how many matrices have 4 bits, and which stay in fp32; `kept` has their shapes."""
    note = (
        f"int4: {packed} matrices, with the embeddings, have 4 bits and a scale for each {BLOCK} weights of a row; "
        "products round activations to 8 bits"
    )
    left = f"left in fp32, because blocks of {BLOCK} do not fit or would not be smaller: {', '.join(kept)}"
    return [note, left] if kept else [note]

"""Fuse attention, GELU and layer norms into one step each, where the answers stay the same.

ONNX Runtime's optimizer fuses the steps. It recognises the graphs of torch's older exporter, so two patterns of the new
exporter are rewritten first. The new exporter adds two axes to a mask in one step. And it computes the shape of the
heads again in each layer: [batch, tokens, -1, 64] instead of [0, 0, 12, 64]. The optimizer could not find the number of
heads in such a shape.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from lxcompress.errors import ExportError, LxError
from lxcompress.exporters.fold import drop_unread
from lxcompress.exporters.parity import check, compare
from lxcompress.runtimes import open_session
from lxcompress.runtimes.onnxruntime import quiet_onnxruntime

CONTRIB = "com.microsoft"
"""The domain of the operations that only ONNX Runtime has."""
LARGE_BYTES = 1 << 12
"""The bytes of a matrix above which its values are not given to the optimizer."""


def fuse_where_true(
    plain: Path, feeds: Iterable[Mapping[str, np.ndarray]], save: Callable[[ModelProto, Path], Path], *, attention: bool
) -> tuple[Path, str]:
    """Return the file of the most-fused model whose scores match those of the file `plain`, and a note on the fusions.

    Three models are tried in this order: with all fusions (only if `attention`), with all fusions except attention, and
    `plain` itself. The scores are compared on `feeds`. `save` writes a model to a folder and returns its file.
    """
    feeds, reasons = list(feeds), []
    answer = open_session(plain, threads=1).answer
    expected = [answer(feed) for feed in feeds]
    del answer
    for with_attention in (True, False) if attention else (False,):
        try:
            model = fuse(onnx.load(plain), attention=with_attention)
            fused, counts = save(model, plain.parent / f"fused-{int(with_attention)}"), count_fused(model.graph)
            del model  # free its weights before a session loads them again
            give_back()
            _check(fused, feeds, expected)
        except LxError as error:
            reasons.append(str(error))
            continue
        return fused, f"fused: {counts}" if counts else "fused: nothing, as no pattern was found"
    return plain, f"fused: nothing ({reasons[0]})"


def fuse(model: ModelProto, *, attention: bool) -> ModelProto:
    """Return the model with every fusion of ONNX Runtime's transformer optimizer; attention only if `attention`.

    `model` is changed: do not use it afterwards. Raises ExportError if the optimizer fails.
    """
    with quiet_onnxruntime():
        from onnxruntime.transformers.fusion_options import AttentionMaskFormat, FusionOptions
        from onnxruntime.transformers.optimizer import optimize_by_fusion
    inputs = list(model.graph.input)
    options = FusionOptions("bert")
    options.enable_attention = attention
    options.enable_embed_layer_norm = False  # this fusion expects words without regions
    options.attention_mask_format = (
        AttentionMaskFormat.AttentionMask
    )  # by default it assumes that padding is at the end
    if attention:
        respell_attention(model.graph)
    aside = _set_aside(model.graph)
    try:
        with quiet_onnxruntime():
            fused = optimize_by_fusion(model, "bert", 0, 0, options).model
    except Exception as error:  # a pattern that matches in part raises AssertionError or KeyError
        raise ExportError(
            f"ONNX Runtime's optimizer failed ({type(error).__name__}: {error}); export it with --no-fuse, and report "
            "this "
            "message as a bug of lxcompress"
        ) from error
    for tensor in fused.graph.initializer:
        tensor.raw_data = aside.pop(tensor.name, tensor.raw_data)
    del fused.graph.input[:]  # the optimizer removed inputs that no step reads, such as boxes: restore them
    fused.graph.input.extend(inputs)
    known = {opset.domain for opset in fused.opset_import}
    if CONTRIB not in known and any(node.domain == CONTRIB for node in fused.graph.node):
        fused.opset_import.append(helper.make_opsetid(CONTRIB, 1))
    return fused


def count_fused(graph: GraphProto) -> str:
    """Return the number of fused steps of each kind in words, such as '9 Attention, 55 SkipLayerNormalization'."""
    counts = Counter(node.op_type for node in graph.node if node.domain == CONTRIB)
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def give_back() -> None:
    """Give free memory back to the system.

    ONNX Runtime's tools leave cycles of objects that hold a model, and glibc keeps memory that was freed in small
    pieces. Together they take three times the memory of a full-size model.
    """
    gc.collect()
    with contextlib.suppress(
        OSError, AttributeError, TypeError
    ):  # the C library of another system has no such function
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def respell_attention(graph: GraphProto) -> None:
    """Rewrite masks and shapes of heads in place, in the form that the optimizer recognises; no result changes."""
    _settle_shapes(graph)
    _split_unsqueezes(graph)
    drop_unread(graph)


def _set_aside(graph: GraphProto) -> dict[str, bytes]:
    """Remove the values of large matrices from the graph; return {name of the matrix: its bytes}.

    The optimizer makes several copies of a model, and the weights are most of each copy. The matrices of attention
    stay, because the optimizer packs their values.
    """
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def comes_to(name: str, *operations: str) -> bool:
        """Return whether the value `name` goes through steps of these operations, one after the other."""
        found = [node for node in readers.get(name, ()) if node.op_type == operations[0]]
        return bool(found) and (
            len(operations) == 1 or any(comes_to(node.output[0], *operations[1:]) for node in found)
        )

    aside = {}
    for tensor in graph.initializer:
        is_large = len(tensor.dims) > 1 and len(tensor.raw_data) > LARGE_BYTES
        if is_large and not comes_to(tensor.name, "MatMul", "Add", "Reshape"):
            aside[tensor.name] = tensor.raw_data
            tensor.ClearField("raw_data")
    return aside


def _check(fused: Path, feeds: Iterable[Mapping[str, np.ndarray]], expected: Iterable[np.ndarray]) -> None:
    """Raise LxError if the fused file does not load, or if its answers differ from `expected`."""
    reference = iter(expected)
    answer = open_session(fused, threads=1).answer
    where = "its fused form"
    check(compare(lambda _: next(reference), answer, feeds, where=where, inputs="", precision="fp32"), where)


def _settle_shapes(graph: GraphProto) -> None:
    """Replace the computed shape [batch, tokens, ...] of a Reshape by a stored one, [0, 0, ...], in place.

    A 0 in the shape of a Reshape keeps the size that this axis has in the input.
    """
    stored = {tensor.name: tensor for tensor in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        shape = _settled_shape(node, stored, made) if node.op_type == "Reshape" else None
        if shape is None:
            continue
        name = f"{node.output[0]}_shape"
        graph.initializer.append(numpy_helper.from_array(np.array(shape, dtype=np.int64), name))
        node.input[1] = name
        kept = [attribute for attribute in node.attribute if attribute.name != "allowzero"]
        del node.attribute[:]
        node.attribute.extend(kept)


def _settled_shape(
    node: NodeProto, stored: Mapping[str, onnx.TensorProto], made: Mapping[str, NodeProto]
) -> list[int] | None:
    """Return the stored shape for a Reshape to [batch, tokens, ...]; None for any other Reshape.

    The shape is [0, 0, heads, head size] or [0, 0, width].
    """
    concat = made.get(node.input[1])
    if concat is None or concat.op_type != "Concat":
        return None
    parts = [numpy_helper.to_array(stored[name]).tolist() if name in stored else None for name in concat.input]
    if len(parts) not in (3, 4) or parts[0] or parts[1] or None in parts[2:]:
        return None
    tail = [size for part in parts[2:] for size in part or ()]
    if len(tail) == 1 and tail[0] > 0:
        return [0, 0, *tail]
    width = _width(made.get(node.input[0]), stored)
    if len(tail) == 2 and tail[0] == -1 and width is not None and width % tail[1] == 0:
        return [0, 0, width // tail[1], tail[1]]
    return None


def _width(add: NodeProto | None, stored: Mapping[str, onnx.TensorProto]) -> int | None:
    """Return the output width of a linear layer: the size of the bias that `add` adds. None if `add` adds no bias."""
    if add is None or add.op_type != "Add":
        return None
    return next((stored[name].dims[0] for name in add.input if name in stored and len(stored[name].dims) == 1), None)


def _split_unsqueezes(graph: GraphProto) -> None:
    """Replace each Unsqueeze that adds two axes (as masks need) by two that add one axis each, in place."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        if node.op_type != "Unsqueeze" or node.input[1] not in stored:
            continue
        axes = numpy_helper.to_array(stored[node.input[1]]).tolist()
        if len(axes) == 2 and 0 <= axes[0] < axes[1]:
            names = [f"{node.output[0]}_axis_{axis}" for axis in axes]
            for name, axis in zip(names, axes, strict=True):
                graph.initializer.append(numpy_helper.from_array(np.array([axis], dtype=np.int64), name))
            between = f"{node.output[0]}_between"
            first = helper.make_node("Unsqueeze", [node.input[0], names[0]], [between], f"{node.name}_first")
            node.input[:] = [between, names[1]]
            graph.node.insert(index, first)

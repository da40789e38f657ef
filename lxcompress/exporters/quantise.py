"""Fewer bits: half precision, and eight-bit integers, by ONNX Runtime's own tools.

What is chosen here was measured on the mini model fine-tuned on scenes (1,000 validation questions; the error is the
root mean square of what scores differ by), with ONNX Runtime 1.32 on a processor with VNNI; docs/onnx.md has the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto

from lxcompress.errors import ExportError
from lxcompress.exporters.products import find_reads, shapes_of, steps_of
from lxcompress.runtimes.onnxruntime import quiet_onnxruntime
from lxcompress.text import first_line

_PER_CHANNEL = True
"""A scale a column: 8 % less error than one a matrix, for 2 % more bytes (dynamic; static alike)."""
_SEVEN_BITS = False
"""Weights of 7 bits add 6-8 % error. They are for x86 processors without VNNI, whose products of eight bits saturate;
phones' do not."""


def to_half(model: ModelProto) -> ModelProto:
    """The model with half-precision weights and steps, its inputs and outputs as they were; `model` is used up.

    Raises ExportError.
    """
    with quiet_onnxruntime():
        from onnxruntime.transformers.float16 import convert_float_to_float16
        from onnxruntime.transformers.onnx_model import OnnxModel

        try:
            half = convert_float_to_float16(model, keep_io_types=True)
        except Exception as error:
            raise _failed("fp16", error) from error
        OnnxModel.graph_topological_sort(half.graph)  # the casts of the inputs were put last
    return half


def to_int8(path: Path, out: Path) -> None:
    """Writes the model at `path` with eight-bit weights, whose activations are rounded as they come, to `out`.

    Attention that was fused is rounded too. Embeddings are stored in eight bits; convolutions stay as they are, as
    ONNX Runtime has no fast one whose input is rounded as it comes. Raises ExportError.
    """
    with quiet_onnxruntime():
        from onnxruntime.quantization import QuantType, quantize_dynamic

        try:
            quantize_dynamic(
                path,
                out,
                op_types_to_quantize=["MatMul", "Attention", "Gather"],  # a Gemm is made a MatMul first
                per_channel=_PER_CHANNEL,
                reduce_range=_SEVEN_BITS,
                weight_type=QuantType.QInt8,  # symmetric, so that a removed weight stays a zero
                extra_options={"MatMulConstBOnly": True},
            )
        except Exception as error:
            raise _failed("int8", error) from error


def to_int8_static(path: Path, out: Path, feeds: Iterable[Mapping[str, np.ndarray]]) -> None:
    """Writes the model at `path` with eight-bit weights and activations, whose ranges are those seen on `feeds`.

    Only products with stored weights are rounded, and not what comes of them: rounding all that ONNX Runtime can round
    takes the mini model from 72 to 22 % (the masks' -3.4e38 sets the scale of every score), rounding the products'
    results too adds 20 % error. Raises ExportError.
    """
    with quiet_onnxruntime():
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        try:
            quantize_static(
                path,
                out,
                _Reader(feeds),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["MatMul", "Gemm", "Gather"],
                nodes_to_quantize=_weighted(onnx.load(path, load_external_data=False).graph),
                # Signed activations, which some accelerators ask for, take five times as long on an x86 processor.
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=_PER_CHANNEL,
                reduce_range=_SEVEN_BITS,
                extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"]},
            )
        except Exception as error:
            raise _failed("int8-static", error) from error


def _weighted(graph: GraphProto) -> list[str]:
    """The names of the products of stored weights, and of the embeddings: MatMulConstBOnly is not heard by QDQ."""
    stored = shapes_of(graph)
    products = [each.product.name for each in find_reads(steps_of(graph), stored)]
    return products + [node.name for node in graph.node if node.op_type == "Gather" and node.input[0] in stored]


class _Reader:
    """Questions to calibrate on, one batch after another, as ONNX Runtime's calibration asks for them."""

    def __init__(self, feeds: Iterable[Mapping[str, np.ndarray]]) -> None:
        self.feeds = iter(feeds)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch; None when there is no more."""
        found = next(self.feeds, None)
        return None if found is None else dict(found)


def _failed(precision: str, error: Exception) -> ExportError:
    first = first_line(error)
    return ExportError(
        f"--precision {precision}: ONNX Runtime's tool failed ({first}); export it in fp32, and report this line"
    )

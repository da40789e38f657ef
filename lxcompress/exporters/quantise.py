"""Reduce the precision of an ONNX model: half precision and 8-bit integers, with ONNX Runtime's own tools.

The settings were chosen by measurement: the mini model, fine-tuned on scenes, answered 1,000 validation questions in
ONNX Runtime 1.32 on a processor with VNNI. "Error" is the root mean square of the differences of scores. docs/onnx.md
has the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto

from lxcompress.errors import ExportError
from lxcompress.exporters.products import find_reads, shapes_of, steps_of
from lxcompress.runtimes.onnxruntime import quiet_onnxruntime
from lxcompress.text import first_line

_PER_CHANNEL = True
"""Whether each column of a matrix has its own scale.

Compared with one scale for the whole matrix, that has 8 % less error and takes 2 % more bytes, dynamic and static.
"""
_SEVEN_BITS = False
"""Whether weights have 7 bits instead of 8, which adds 6-8 % error.

7 bits are meant for x86 processors without VNNI, whose 8-bit products saturate. The products of phones do not.
"""


def to_half(model: ModelProto) -> ModelProto:
    """Return the model with half-precision weights and steps. Raises ExportError.

    Inputs and outputs keep their types. `model` is changed.
    """
    with quiet_onnxruntime():
        from onnxruntime.transformers.float16 import convert_float_to_float16
        from onnxruntime.transformers.onnx_model import OnnxModel

        try:
            half = convert_float_to_float16(model, keep_io_types=True)
        except Exception as error:
            raise _failed("fp16", error) from error
        OnnxModel.graph_topological_sort(half.graph)  # the casts of the inputs are appended at the end
    return half


def to_int8(path: Path, out: Path) -> None:
    """Write the model at `path` to `out` with 8-bit weights; activations are quantised at run time.

    Fused attention and embeddings have 8 bits too. Convolutions are not quantised, because ONNX Runtime has no fast
    8-bit convolution for activations that are quantised at run time. Raises ExportError.
    """
    with quiet_onnxruntime():
        from onnxruntime.quantization import QuantType, quantize_dynamic

        try:
            quantize_dynamic(
                path,
                out,
                op_types_to_quantize=["MatMul", "Attention", "Gather"],  # a Gemm becomes a MatMul first
                per_channel=_PER_CHANNEL,
                reduce_range=_SEVEN_BITS,
                weight_type=QuantType.QInt8,  # symmetric, so that a removed weight stays 0
                extra_options={"MatMulConstBOnly": True},
            )
        except Exception as error:
            raise _failed("int8", error) from error


def to_int8_static(path: Path, out: Path, feeds: Iterable[Mapping[str, np.ndarray]]) -> None:
    """Write the model at `path` to `out` with 8-bit weights and activations.

    The ranges of activations are measured on `feeds`. Only embeddings and products with stored weights are quantised,
    and the results of the products are not. If ONNX Runtime quantised every step that it can, the accuracy of the mini
    model would fall from 72 to 22 %, because the masks' -3.4e38 would set the scale of every score. If the results of
    the products were quantised too, the error would grow by 20 %. Raises ExportError.
    """
    with _explained("int8-static"):
        _quantise_static(
            path,
            out,
            feeds,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            nodes_to_quantize=_weighted(onnx.load(path, load_external_data=False).graph),
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"]},
        )


def to_int8_pictures(path: Path, out: Path, feeds: Iterable[Mapping[str, np.ndarray]]) -> None:
    """Write the convolutional network at `path` to `out` with 8-bit weights and activations.

    The ranges of activations are measured on `feeds`. Every step that ONNX Runtime has in 8 bits is quantised: there
    are no masks, which spoil the ranges of a model of questions. Raises ExportError.
    """
    with _explained("int8-static"):
        _quantise_static(path, out, feeds)


def _quantise_static(path: Path, out: Path, feeds: Iterable[Mapping[str, np.ndarray]], **settings: Any) -> None:
    """Write the model at `path` to `out` in 8 bits, with ranges measured on `feeds`.

    `settings` are those of ONNX Runtime that choose what is quantised.
    """
    with quiet_onnxruntime():
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        quantize_static(
            path,
            out,
            _Reader(feeds),
            quant_format=QuantFormat.QDQ,
            # Signed activations, which some accelerators need, take five times as long on an x86 processor.
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=_PER_CHANNEL,
            reduce_range=_SEVEN_BITS,
            **settings,
        )


@contextmanager
def _explained(precision: str) -> Iterator[None]:
    """Raise an error inside the block as ExportError."""
    try:
        yield
    except Exception as error:
        raise _failed(precision, error) from error


def _weighted(graph: GraphProto) -> list[str]:
    """Return the names of the steps that multiply with stored weights or look up embeddings.

    They are named one by one, because the QDQ format ignores the option MatMulConstBOnly.
    """
    stored = shapes_of(graph)
    products = [read.product.name for read in find_reads(steps_of(graph), stored)]
    return products + [node.name for node in graph.node if node.op_type == "Gather" and node.input[0] in stored]


class _Reader:
    """A reader of calibration inputs, one batch after another, as ONNX Runtime's calibration expects it."""

    def __init__(self, feeds: Iterable[Mapping[str, np.ndarray]]) -> None:
        self.feeds = iter(feeds)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch; None at the end."""
        found = next(self.feeds, None)
        return None if found is None else dict(found)


def _failed(precision: str, error: Exception) -> ExportError:
    """Return the error for a quantiser that failed."""
    first = first_line(error)
    return ExportError(
        f"--precision {precision}: ONNX Runtime's tool failed ({first}); export it in fp32, and report this message as "
        "a bug of lxcompress"
    )

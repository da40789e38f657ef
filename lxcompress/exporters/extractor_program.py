"""Describe the computation of an extractor's network as a program of the engine.

A 1 x 1 convolution is a product with a column for each pixel, and any other convolution over all channels is a product
with the pixels under its kernel. A convolution of each channel alone (depthwise) is an operation of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from lxcompress.engine.pack import PackedWeight
from lxcompress.engine.program import Program, Value, Window
from lxcompress.extractors.artifact import INPUT
from lxcompress.extractors.efficientnet import Convolution, EfficientNetLite, InvertedResidual
from lxcompress.extractors.grid import GridExtractor

PLANES = "planes"
"""The name of the mask that every input of the engine needs: [1, 3], which must be ones."""
COLOURS = 3
Pack = Callable[[np.ndarray, int], PackedWeight]
"""(matrix [outputs, inputs], columns) -> the packed matrix."""


def build_extractor(extractor: GridExtractor, pack: Pack) -> Program:
    """Return the program that gives the features of `extractor`; `pack` packs the matrices of the convolutions."""
    program = Program()
    colours = program.rows(PLANES, most=COLOURS)
    picture = program.planes(program.floats(INPUT, colours, width=extractor.side**2))
    network: EfficientNetLite = extractor.network
    draft = _Draft(program, pack)
    state, width = draft.convolve(picture, extractor.side, network.stem, "relu6")
    for block in network.blocks:
        assert isinstance(block, InvertedResidual)
        state, width = draft.add_block(state, width, block)
    state, width = draft.convolve(state, width, network.head, "relu6")
    program.scores(program.pool(state, width, extractor.grid), all_columns=True)
    return program


class _Draft:
    """A program under construction, and how its matrices are packed."""

    def __init__(self, program: Program, pack: Pack) -> None:
        self.program = program
        self.pack = pack

    def add_block(self, state: Value, width: int, block: InvertedResidual) -> tuple[Value, int]:
        """Return the value after an inverted residual block, and the pixels on a side of its picture."""
        hidden, hidden_width = (
            (state, width) if block.expand is None else self.convolve(state, width, block.expand, "relu6")
        )
        window = make_window(block.depthwise, hidden_width)
        filtered = self.program.filter(
            hidden, _array(block.depthwise.weight)[:, 0], window, _bias(block.depthwise), activation="relu6"
        )
        residual = state if block.is_residual else None
        return self.convolve(filtered, window.out_width, block.project, None, residual=residual)

    def convolve(
        self,
        state: Value,
        width: int,
        layer: Convolution,
        activation: str | None,
        *,
        residual: Value | None = None,
    ) -> tuple[Value, int]:
        """Return the value after a convolution over all channels, and the pixels on a side of its picture."""
        window = make_window(layer, width)
        is_product = (window.kernel, window.stride) == (1, 1)
        seen = state if is_product else self.program.patches(state, window)
        weight = self.pack(_array(layer.weight).reshape(layer.out_channels, -1), window.out_width**2)
        value = self.program.linear(seen, weight, bias=_bias(layer), residual=residual, activation=activation)
        return value, window.out_width


def make_window(layer: Convolution, width: int) -> Window:
    """Return the kernel of a convolution over a picture of `width` pixels a side, with TensorFlow's padding "same"."""
    kernel, stride = int(layer.kernel_size[0]), int(layer.stride[0])
    out_width = -(-width // stride)
    padding = max(0, (out_width - 1) * stride + kernel - width) // 2
    return Window(kernel, stride, width, out_width, padding)


def _array(tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor as a float32 array."""
    array: np.ndarray = tensor.detach().cpu().float().numpy()
    return array


def _bias(layer: Convolution) -> np.ndarray:
    """Return the bias of a convolution, float32 [C]."""
    assert layer.bias is not None, "a folded batch norm has a bias"
    return _array(layer.bias)

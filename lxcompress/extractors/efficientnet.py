"""EfficientNet-Lite: EfficientNet (Tan & Le 2019) with ReLU6, and without squeeze-and-excitation.

Shapes: B pictures, S pixels a side, C channels, N cells of the last map on a side.

The weights were trained by TensorFlow. So the padding is TensorFlow's, and the batch norms have its epsilon. A batch
norm changes nothing any more, so it is folded into the convolution before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

STAGES = (
    # (kernel, stride, expansion, channels, blocks), as in EfficientNet-B0
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM, HEAD, CLASSES = 32, 1280, 1000
"""The channels of the first and of the last convolution, which Lite does not scale; and ImageNet's classes."""
EPSILON = 1e-3
"""The epsilon of the batch norms."""


class Convolution(nn.Conv2d):
    """A convolution with TensorFlow's padding "same": if it is odd, the right and the bottom side get one more."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps [B, C, ceil(S / stride), ceil(S / stride)] for `maps` [B, C, S, S]."""
        kernel, stride, size = self.kernel_size[0], self.stride[0], maps.shape[-1]
        padding = max(0, (-(-size // stride) - 1) * stride + kernel - size)
        before, after = padding // 2, padding - padding // 2
        return super().forward(functional.pad(maps, (before, after, before, after)))


class InvertedResidual(nn.Module):
    """An inverted residual block: expand the channels, filter every channel, project to fewer (Sandler 2018)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = Convolution(inputs, hidden, 1) if expansion > 1 else None
        self.depthwise = Convolution(hidden, hidden, kernel, stride, groups=hidden)
        self.project = Convolution(hidden, outputs, 1)
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, maps: Tensor) -> Tensor:
        hidden = maps if self.expand is None else functional.relu6(self.expand(maps))
        result: Tensor = self.project(functional.relu6(self.depthwise(hidden)))
        return maps + result if self.is_residual else result


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite with folded batch norms; `width` and `depth` scale the channels and the number of blocks."""

    def __init__(self, width: float, depth: float) -> None:
        super().__init__()
        self.stem = Convolution(3, STEM, 3, 2)
        self.blocks = nn.Sequential(*_make_blocks(width, depth))
        last = self.blocks[-1]
        assert isinstance(last, InvertedResidual)
        self.head = Convolution(last.project.out_channels, HEAD, 1)
        self.classifier = nn.Linear(HEAD, CLASSES)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the last map [B, HEAD, N, N] of `pictures` [B, 3, S, S], whose values are about -1 to 1."""
        return functional.relu6(self.head(self.blocks(functional.relu6(self.stem(pictures)))))

    def classify(self, pictures: Tensor) -> Tensor:
        """Return the scores of ImageNet's classes [B, CLASSES]."""
        scores: Tensor = self.classifier(self(pictures).mean((2, 3)))
        return scores

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Load published weights, and fold the batch norms. Raises ValueError if a tensor is missing or left over."""
        rest = dict(weights)
        for layer, convolution, norm in self._convolutions():
            scale = _take(rest, f"{norm}.weight") / torch.sqrt(_take(rest, f"{norm}.running_var") + EPSILON)
            kernel = _take(rest, f"{convolution}.weight") * scale[:, None, None, None]
            bias = _take(rest, f"{norm}.bias") - _take(rest, f"{norm}.running_mean") * scale
            rest.pop(f"{norm}.num_batches_tracked", None)
            assert layer.bias is not None
            _copy(layer.weight, kernel, convolution)
            _copy(layer.bias, bias, norm)
        _copy(self.classifier.weight, _take(rest, "_fc.weight"), "_fc.weight")
        _copy(self.classifier.bias, _take(rest, "_fc.bias"), "_fc.bias")
        if rest:
            raise ValueError(f"unknown tensors: {', '.join(sorted(rest)[:3])}")

    def _convolutions(self) -> Iterator[tuple[Convolution, str, str]]:
        """Yield each convolution, its name in the published weights, and the name of the batch norm after it."""
        yield self.stem, "_conv_stem", "_bn0"
        for index, block in enumerate(self.blocks):
            assert isinstance(block, InvertedResidual)
            name = f"_blocks.{index}"
            if block.expand is not None:
                yield block.expand, f"{name}._expand_conv", f"{name}._bn0"
            yield block.depthwise, f"{name}._depthwise_conv", f"{name}._bn1"
            yield block.project, f"{name}._project_conv", f"{name}._bn2"
        yield self.head, "_conv_head", "_bn1"


def scale_channels(channels: int, width: float) -> int:
    """Return `channels` times `width`, rounded to a multiple of 8, and never below 90 % of the product."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def _make_blocks(width: float, depth: float) -> Iterator[InvertedResidual]:
    """Yield the blocks of all stages; Lite scales the blocks of all stages but the first and the last."""
    inputs = STEM
    for index, (kernel, stride, expansion, channels, count) in enumerate(STAGES):
        outputs = scale_channels(channels, width)
        is_scaled = 0 < index < len(STAGES) - 1
        for number in range(math.ceil(count * depth) if is_scaled else count):
            yield InvertedResidual(inputs, outputs, kernel, stride if number == 0 else 1, expansion)
            inputs = outputs


def _take(weights: dict[str, Tensor], name: str) -> Tensor:
    """Remove the tensor `name` from `weights`, and return it in float32. Raises ValueError if it is missing."""
    if name not in weights:
        raise ValueError(f"the tensor {name} is missing")
    return weights.pop(name).float()


def _copy(target: Tensor, values: Tensor, name: str) -> None:
    """Copy `values` into `target`. Raises ValueError if their shapes differ."""
    if target.shape != values.shape:
        raise ValueError(f"{name} has the shape {list(values.shape)}, expected {list(target.shape)}")
    with torch.no_grad():
        target.copy_(values)

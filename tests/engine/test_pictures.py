"""Laws of the engine's operations on pictures: they are torch's, on every instruction set and for any threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from lxcompress.engine import InferenceSession, instruction_sets, is_built
from lxcompress.engine.pack import dense, quantised, sparse
from lxcompress.engine.program import Program, Value, Window
from lxcompress.errors import MeasureError

pytestmark = pytest.mark.skipif(not is_built(), reason="the engine is not built")
SIDE, CHANNELS = 19, 3


def start(side: int = SIDE, channels: int = CHANNELS) -> tuple[Program, Value, dict[str, np.ndarray]]:
    """A program that reads a picture, the picture's value, and its inputs."""
    program = Program()
    rows = program.rows("planes", most=channels)
    picture = program.planes(program.floats("picture", rows, width=side * side))
    values = np.random.default_rng(0).standard_normal((1, channels, side * side)).astype(np.float32)
    return program, picture, {"planes": np.ones((1, channels), np.int64), "picture": values}


def answers(program: Program, feeds: dict[str, np.ndarray], folder: Path) -> list[np.ndarray]:
    """The answers of the program on every instruction set, with one and with three threads."""
    program.write(folder / "model.lxe")
    return [
        InferenceSession(folder / "model.lxe", threads=threads, instructions=name).run(None, feeds)[0]
        for name in instruction_sets()
        for threads in (1, 3)
    ]


def columns(maps: torch.Tensor) -> np.ndarray:
    """Maps [1, C, H, W] as the engine gives them: column after column."""
    return maps[0].flatten(1).T.reshape(1, -1).numpy()


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 0), (5, 1, 2), (5, 2, 2), (7, 1, 3), (2, 3, 0), (1, 1, 0)]
)
@pytest.mark.parametrize("side", [SIDE, 5])
def test_a_filter_is_a_depthwise_convolution(tmp_path, side: int, kernel: int, stride: int, padding: int) -> None:
    """A row of 19 pixels is several vectors, and a row of 5 is a part of one."""
    program, picture, feeds = start(side)
    out = -(-side // stride)
    weights = np.random.default_rng(1).standard_normal((CHANNELS, kernel, kernel)).astype(np.float32)
    bias = np.float32([0.5, -1, 2])
    window = Window(kernel, stride, side, out, padding)
    program.scores(program.filter(picture, weights, window, bias, "relu6"), all_columns=True)
    more = max(0, (out - 1) * stride + kernel - side - padding)
    maps = functional.pad(torch.from_numpy(feeds["picture"].reshape(1, CHANNELS, side, side)), (padding, more) * 2)
    expected = functional.conv2d(
        maps, torch.from_numpy(weights)[:, None], torch.from_numpy(bias), stride, groups=CHANNELS
    )[..., :out, :out]
    for found in answers(program, feeds, tmp_path):
        assert np.allclose(found, columns(functional.relu6(expected)), atol=1e-5)


@pytest.mark.parametrize("lay", [dense, sparse, quantised])
def test_patches_and_a_product_are_a_convolution(tmp_path, lay) -> None:
    """The picture has more columns than MANY_COLUMNS, so the product is cut into blocks."""
    program, picture, feeds = start(40)
    weight = np.random.default_rng(1).standard_normal((10, CHANNELS, 3, 3)).astype(np.float32)
    weight[np.abs(weight) < 0.8] = 0
    window = Window(3, 2, 40, 20, 0)
    packed = lay(weight.reshape(10, -1)) if lay is quantised else lay(weight.reshape(10, -1), "fp32")
    product = program.linear(program.patches(picture, window), packed)
    again = program.linear(product, dense(np.eye(10, dtype=np.float32), "fp32"), residual=product)
    program.scores(program.pool(again, 20, 6), all_columns=True)
    maps = functional.pad(torch.from_numpy(feeds["picture"].reshape(1, CHANNELS, 40, 40)), (0, 1, 0, 1))
    expected = functional.adaptive_avg_pool2d(2 * functional.conv2d(maps, torch.from_numpy(weight), stride=2), 6)
    tolerance = 0.1 if lay is quantised else 1e-5
    found = answers(program, feeds, tmp_path)
    assert all(np.allclose(scores, columns(expected), atol=tolerance) for scores in found)
    for one, three in zip(found[::2], found[1::2], strict=True):
        assert np.array_equal(one, three)


def test_a_picture_needs_all_of_its_planes(tmp_path) -> None:
    program, picture, feeds = start()
    program.scores(picture, all_columns=True)
    for found in answers(program, feeds, tmp_path):
        assert np.array_equal(found.reshape(-1, CHANNELS).T, feeds["picture"][0])
    feeds["planes"][0, 1] = 0
    session = InferenceSession(tmp_path / "model.lxe", threads=1)
    with pytest.raises(MeasureError, match="a picture has another number of planes than 3"):
        session.run(None, feeds)
    feeds["planes"][0, 1], feeds["picture"][0, 1, 3] = 1, np.nan
    with pytest.raises(MeasureError, match="picture holds NaN or infinity in row 1"):
        session.run(None, feeds)

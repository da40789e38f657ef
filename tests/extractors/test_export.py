"""Laws of exported extractors: their features are those of the network, and a model answers with them as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from lxcompress.engine import is_built
from lxcompress.errors import DataError, ExportError
from lxcompress.exporters.extractor import (
    FileSettings,
    GridFeatures,
    check_settings,
    draw_pictures,
    export_extractor,
    pooling_shares,
)
from lxcompress.extractors.artifact import read_extractor_artifact
from lxcompress.extractors.efficientnet import EfficientNetLite
from lxcompress.extractors.grid import GridExtractor, to_picture
from lxcompress.extractors.prune import count_pruned, is_pointwise, prune_pointwise
from lxcompress.measure.extractor import measure_extractor
from lxcompress.runtimes.extractor import open_file_extractor
from lxcompress.workflow.features import ExtractOptions, open_extractor


@pytest.fixture(scope="module")
def extractor() -> GridExtractor:
    found = open_extractor(ExtractOptions())
    assert isinstance(found, GridExtractor)
    return found


@pytest.mark.parametrize(("cells", "grid"), [(7, 6), (9, 6), (7, 7), (7, 1)])
def test_the_product_pools_as_torch_does(cells: int, grid: int) -> None:
    maps = torch.rand(5, cells, cells)
    expected = functional.adaptive_avg_pool2d(maps, grid).flatten(1)
    assert torch.allclose(maps.flatten(1) @ pooling_shares(cells, grid).T, expected, atol=1e-6)


def test_a_converter_sees_the_features(extractor) -> None:
    pixels = next(draw_pictures(extractor.side))
    with torch.no_grad():
        features = GridFeatures(extractor)(to_picture(pixels)).numpy()
    assert np.allclose(features, extractor.extract(pixels), atol=1e-5)


def test_pruning_removes_the_smallest_weights_of_each_product() -> None:
    network = EfficientNetLite(0.5, 1.0)
    before = {name: layer.weight.clone() for name, layer in network.named_modules() if is_pointwise(layer)}
    prune_pointwise(network, 0.3)
    assert count_pruned(network) == pytest.approx(0.3, abs=0.01)
    for name, layer in network.named_modules():
        if is_pointwise(layer):
            kept = layer.weight != 0
            assert torch.equal(layer.weight[kept], before[name][kept])
            assert before[name][~kept].abs().max() <= layer.weight[kept].abs().min()
    assert all((layer.weight != 0).all() for layer in network.modules() if _is_other_convolution(layer))


def _is_other_convolution(layer: nn.Module) -> bool:
    """Whether a layer is a convolution that is not pruned: one with a larger kernel."""
    return isinstance(layer, nn.Conv2d) and not is_pointwise(layer)


def test_other_formats_are_refused(extractor, tmp_path) -> None:
    with pytest.raises(ExportError, match="--format bitmask: no extractor is written in it; give one of onnx"):
        export_extractor(extractor, tmp_path / "out", FileSettings("bitmask"))


@pytest.mark.parametrize(
    ("precision", "photos", "message"),
    [
        ("bf16", None, "--precision bf16: an extractor in engine has one of fp32, int8; give it"),
        ("fp32", 60, "--photos: has no effect on fp32"),
        ("int8", None, "expected 8 or more, got none; give photographs .* with --photos FOLDER"),
        ("int8", 7, "expected 8 or more, got 7"),
    ],
)
def test_8_bits_need_photographs_and_fp32_needs_none(precision, photos, message) -> None:
    with pytest.raises(ExportError, match=message):
        check_settings("engine", precision, photos)


@pytest.mark.skipif(not is_built(), reason="the engine is not built")
def test_the_engine_gives_the_features_of_the_network(extractor, tmp_path) -> None:
    _check_file(extractor, tmp_path / "engine", "engine")


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "ort", "openvino", "executorch", "litert"])
def test_a_file_gives_the_features_of_the_network(extractor, tmp_path, format: str) -> None:
    library = {"onnx": "onnxruntime", "ort": "onnxruntime", "litert": "litert_torch"}.get(format, format)
    pytest.importorskip(library)
    _check_file(extractor, tmp_path / format, format)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "precision"),
    [("engine", "int8"), ("onnx", "int8-static"), ("ort", "int8-static"), ("openvino", "int8"), ("litert", "int8")],
)
def test_8_bits_are_compared_on_other_pictures_than_they_are_calibrated_on(extractor, tmp_path, format, precision):
    pytest.importorskip({"onnx": "onnxruntime", "ort": "onnxruntime", "litert": "litert_torch"}.get(format, "numpy"))
    if format == "openvino":
        pytest.importorskip("nncf")
    pictures = list(draw_pictures(extractor.side))
    made = export_extractor(extractor, tmp_path / "out", FileSettings(format, precision, 2 * pictures))
    assert (made.pictures, made.calibration, made.precision) == (4, 4, precision)
    assert 0.95 < made.mean_cosine < 0.9999
    found = open_file_extractor(tmp_path / "out", threads=1).extract(pictures[1])
    assert np.abs(found - extractor.extract(pictures[1])).max() == pytest.approx(made.max_abs_difference, rel=0.5)


def _check_file(extractor: GridExtractor, folder: Path, format: str) -> None:
    """Export an extractor, and use the file as the commands do."""
    made = export_extractor(extractor, folder, FileSettings(format))
    assert made.max_abs_difference < 1e-3 * made.largest_feature
    assert made.least_cosine > 0.9999
    assert read_extractor_artifact(folder) == made
    opened = open_file_extractor(folder, threads=1)
    pixels = next(draw_pictures(extractor.side))
    assert np.allclose(opened.extract(pixels), extractor.extract(pixels), atol=1e-3)
    assert opened.record == extractor.record
    assert measure_extractor(folder, threads=1, runs=1).median_s > 0
    next(folder.glob("model.*")).write_bytes(b"changed")
    with pytest.raises(DataError, match="has changed since it was exported"):
        read_extractor_artifact(folder)

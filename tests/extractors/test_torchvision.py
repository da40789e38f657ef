"""Laws of extractors of torchvision; skipped where it is missing, or not made for this torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from lxcompress.errors import DataError
from lxcompress.extractors.torchvision_models import load_torchvision
from lxcompress.workflow.features import ExtractOptions, extract_features

try:
    from torchvision import models
except (ImportError, RuntimeError, OSError):
    models = None

needs_torchvision = pytest.mark.skipif(models is None, reason="torchvision cannot be imported")


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "7.png"
    draw = np.random.default_rng(0)
    Image.fromarray(draw.integers(0, 256, (30, 41, 3), dtype=np.uint8)).resize((410, 301)).save(path)
    return path


def save_network(name: str, folder: Path) -> tuple[torch.nn.Module, Path]:
    torch.manual_seed(0)
    network = models.get_model(name, weights=None).eval()
    torch.save(network.state_dict(), folder / f"{name}.pth")
    return network, folder / f"{name}.pth"


@needs_torchvision
@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5"])
def test_regions_are_the_last_map_pooled_to_the_grid(name, photo, tmp_path) -> None:
    network, path = save_network(name, tmp_path)
    extractor = load_torchvision(name, path, 3)
    picture = extractor.read(photo)
    features, boxes = extractor.find_regions(picture)
    with torch.no_grad():
        given = models.get_model_weights(name).DEFAULT.transforms()(Image.open(photo))[None]
        found = extractor.preparation.to_input(picture.pixels)
        assert (found - given).abs().max() < 1.01 / 255 / min(extractor.preparation.deviation)
        if name == "squeezenet1_1":
            scores = network.classifier[:-1](network.features(found))  # the map of the classes, before it is averaged
        else:
            layers = (network.maxpool, network.stage2, network.stage3, network.stage4, network.conv5)
            scores = network.conv1(found)
            for layer in layers:
                scores = layer(scores)
        expected = functional.adaptive_avg_pool2d(scores, 3)[0].flatten(1).T
    assert np.abs(features - expected.numpy()).max() < 1e-5
    assert 0 < boxes[0, 0] < boxes[0, 2] < 1


@needs_torchvision
def test_weights_of_another_network_are_named(tmp_path) -> None:
    _, path = save_network("squeezenet1_1", tmp_path)
    with pytest.raises(DataError, match=r"has not the weights of torchvision:squeezenet1_0 \(Error"):
        load_torchvision("squeezenet1_0", path, 3)
    with pytest.raises(DataError, match="torchvision has no such network"):
        load_torchvision("squeezenet", path, 3)


def test_weights_must_be_given(photo, tmp_path) -> None:
    with pytest.raises(DataError, match=r"has no weights of its own; give the file of its weights as --weights PATH"):
        extract_features([photo], tmp_path / "store", ExtractOptions(extractor="torchvision:resnet50"))


@pytest.mark.skipif(models is not None, reason="torchvision can be imported")
def test_a_missing_library_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"torchvision cannot be imported .*; install the version for torch"):
        load_torchvision("resnet50", tmp_path / "resnet50.pth", 3)

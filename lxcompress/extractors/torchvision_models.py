"""Open a classification network of torchvision, such as ResNet-50, as an extractor."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from lxcompress.catalog.extractors import TORCHVISION
from lxcompress.errors import DataError
from lxcompress.extractors.backbone import BackboneExtractor, make_backbone, to_map
from lxcompress.extractors.preparation import Preparation
from lxcompress.extractors.weights import hash_version, read_weights
from lxcompress.settings import did_you_mean


def load_torchvision(model: str, path: Path, grid: int) -> BackboneExtractor:
    """Load torchvision's network `model` with the weights in the file `path`. Raises DataError.

    A photograph is prepared as for the published weights with this file name; for another name, as for the best ones.
    """
    name, models = f"{TORCHVISION}{model}", _import_models()
    known = models.list_models(module=models)
    if model not in known:
        raise DataError(f"--extractor {name}: torchvision has no such network{did_you_mean(model, known)}")
    network = models.get_model(model, weights=None).eval()
    try:
        network.load_state_dict(read_weights(path))
    except RuntimeError as problem:
        reason = " ".join(str(problem).split())[:200]
        raise DataError(f"{path}: has not the weights of {name} ({reason}); give the file of this network") from None
    preparation = _read_preparation(models.get_model_weights(model), path.name)
    last = LastMap(network, preparation.shape)
    version = hash_version([path], json.dumps(preparation.settings, sort_keys=True))
    return make_backbone(name, version, preparation, grid, last)


class LastMap:
    """A network, cut after the last module that gives a map or tokens.

    Several threads may run it, because each has its own result.
    """

    def __init__(self, network: nn.Module, shape: tuple[int, int]) -> None:
        self._network = network
        self._found = threading.local()
        patch = getattr(network, "patch_size", 1)
        self._patches = (shape[0] // patch, shape[1] // patch) if isinstance(patch, int) else shape
        _find_last(network, shape).register_forward_hook(self._keep)

    def __call__(self, picture: Tensor) -> Tensor:
        """Return the last map [1, C, h, w] for the input [1, 3, H, W]."""
        self._network(picture)
        return to_map(self._found.value, self._patches)

    def _keep(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._found.value = output


def _find_last(network: nn.Module, shape: tuple[int, int]) -> nn.Module:
    """Return the last module whose output has more than one cell: a map [1, C, h, w], or tokens [1, T, C]."""
    found: list[nn.Module] = []

    def note(module: nn.Module, inputs: Any, output: object) -> None:
        if isinstance(output, Tensor) and module is not network:
            is_map = output.ndim == 4 and min(output.shape[2:]) > 1
            if is_map or (output.ndim == 3 and output.shape[1] > 1):
                found.append(module)

    handles = [module.register_forward_hook(note) for module in network.modules()]
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, *shape))
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise DataError(f"{type(network).__name__}: has no map of more than one cell; give another network")
    return found[-1]


def _read_preparation(weights: Any, file_name: str) -> Preparation:
    """Return how torchvision prepares a photograph for the published weights whose file has this name."""
    chosen = next((entry for entry in weights if entry.url.rpartition("/")[2] == file_name), weights.DEFAULT)
    preset = chosen.transforms()
    side = preset.crop_size[0]
    return Preparation(
        size=int(preset.resize_size[0]),
        filter=str(preset.interpolation.value),
        crop=(side, side),
        rounding="even",
        scale=1 / 255,
        mean=tuple(preset.mean),
        deviation=tuple(preset.std),
    )


def _import_models() -> ModuleType:
    """Return torchvision's module of networks. Raises DataError if it is missing, or is not made for this torch."""
    try:
        from torchvision import models
    except (ImportError, RuntimeError, OSError) as problem:
        reason = str(problem).partition("\n")[0]
        raise DataError(
            f"--extractor {TORCHVISION}NAME: torchvision cannot be imported ({reason}); install the version for torch "
            f"{torch.__version__}: https://pytorch.org/get-started/locally"
        ) from None
    return models

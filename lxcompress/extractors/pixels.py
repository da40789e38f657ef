"""PixelExtractor: the picture itself, as models read it that need no detector (ViLT, Kim et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lxcompress.catalog.extractors import PIXELS
from lxcompress.data.regions.identity import ExtractorRecord
from lxcompress.extractors.photo import Picture, read_photo

MIDDLE = 127.5
"""A pixel is stored as (pixel - MIDDLE) / MIDDLE, from -1 to 1, as ViLT's own processor does."""


@dataclass(frozen=True)
class PixelExtractor:
    """An extractor without a network: a photograph is one region, whose features are its pixels."""

    side: int

    @property
    def record(self) -> ExtractorRecord:
        """Return the identity of this extractor."""
        return ExtractorRecord(name=PIXELS, settings={"side": self.side})

    @property
    def boxes(self) -> np.ndarray:
        """Return the box of the only region, float32 [1, 4]: the whole photograph."""
        return np.array([[0, 0, 1, 1]], dtype=np.float32)

    @property
    def objects(self) -> int:
        """Return the number of regions."""
        return 1

    def read(self, path: Path) -> Picture:
        """Return the whole photograph, uint8 [S, S, 3]."""
        return Picture(read_photo(path, self.side))

    def find_regions(self, picture: Picture) -> tuple[np.ndarray, np.ndarray]:
        """Return the features and the boxes of the regions."""
        return self.extract(picture.pixels), self.boxes

    def extract(self, pixels: np.ndarray) -> np.ndarray:
        """Return the pixels, float32 [1, 3 * S * S], row by row and channel by channel; `pixels` are [S, S, 3]."""
        return ((pixels.transpose(2, 0, 1).astype(np.float32) - MIDDLE) / MIDDLE).reshape(1, -1)

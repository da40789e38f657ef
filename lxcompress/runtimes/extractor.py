"""FileExtractor: an exported extractor that is loaded, in the runtime of its format.

Shapes: S pixels a side, O regions, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lxcompress.data.regions.identity import ExtractorRecord
from lxcompress.extractors.artifact import INPUT, ExtractorArtifact, read_extractor_artifact
from lxcompress.extractors.backbone import cut_grid
from lxcompress.extractors.grid import to_picture
from lxcompress.extractors.photo import Picture, read_photo
from lxcompress.runtimes import Session, open_session, runtime_of


@dataclass(frozen=True)
class FileExtractor:
    """A loaded file that extracts features; it is used as an Extractor is."""

    artifact: ExtractorArtifact
    runtime: str
    session: Session

    @property
    def record(self) -> ExtractorRecord:
        """Return the identity of the extractor that was exported."""
        return ExtractorRecord(
            name=self.artifact.extractor, version=self.artifact.weights_version, settings={"grid": self.artifact.grid}
        )

    @property
    def objects(self) -> int:
        """Return the number of regions."""
        return self.artifact.grid**2

    def read(self, path: Path) -> Picture:
        """Return the whole photograph, uint8 [S, S, 3]."""
        return Picture(read_photo(path, self.artifact.side))

    def find_regions(self, picture: Picture) -> tuple[np.ndarray, np.ndarray]:
        """Return the features and the boxes of the regions."""
        return self.extract(picture.pixels), cut_grid(self.artifact.grid)

    def extract(self, pixels: np.ndarray) -> np.ndarray:
        """Return the features of the cells, row by row, float32 [O, F]; `pixels` are uint8 [S, S, 3]."""
        features = self.session.answer({INPUT: to_picture(pixels).numpy()})
        return features.reshape(self.objects, self.artifact.features)


def open_file_extractor(folder: Path, *, threads: int) -> FileExtractor:
    """Load the exported extractor in `folder`, to run on `threads` threads. Raises LxError."""
    artifact = read_extractor_artifact(folder)
    runtime = runtime_of(artifact.format)
    return FileExtractor(artifact, runtime, open_session(folder, threads=threads, runtime=runtime))

"""ExtractorArtifact: the record of an exported extractor, extractor.json in its folder."""

from __future__ import annotations

from pathlib import Path

from lxcompress.errors import DataError
from lxcompress.filenames import EXTRACTOR_FILE
from lxcompress.records import Amount, FileName, FileRecord, Fraction, Machine, Positive, Sha256, read_record
from lxcompress.rundir import sha256

INPUT = "picture"
"""The only input of the file: float32 [1, 3, S, S], (pixel - 127) / 128. Its only output has the name `scores`."""


class ExtractorArtifact(FileRecord):
    """An exported extractor: its file gives the features of `regions` regions, float32 [regions, features].

    `weights_version` is that of its weights, `side` the pixels on a side of the picture, `grid` the cells on a side.
    `max_abs_difference`, `least_cosine` and `mean_cosine` compare the features of a region with those of the network in
    torch, over `pictures` pictures; `largest_feature` is the largest magnitude among those. The pictures are drawn for
    a file in fp32, and photographs of the user for one in 8 bits. `calibration` is the number of photographs that gave
    the ranges of its activations. `pruned` is the fraction of zeros in the 1 x 1 convolutions.
    """

    extractor: str
    weights_version: str = ""
    format: str
    precision: str
    grid: Positive
    side: Positive
    features: Positive
    files: dict[FileName, Sha256]
    size_bytes: Positive
    pictures: Positive
    max_abs_difference: Amount
    largest_feature: Amount
    least_cosine: float
    mean_cosine: float | None = None
    calibration: int = 0
    pruned: Fraction = 0.0
    machine: Machine


def read_extractor_artifact(folder: Path) -> ExtractorArtifact:
    """Return the record of an exported extractor, after its files were compared with it. Raises DataError."""
    record = read_record(folder / EXTRACTOR_FILE, ExtractorArtifact, DataError, remedy="export the extractor again")
    for name, expected in record.files.items():
        path = folder / name
        if not path.is_file() or sha256(path) != expected:
            what = "has changed since it was exported" if path.is_file() else "is missing"
            raise DataError(f"{path}: {what}; export the extractor again")
    return record

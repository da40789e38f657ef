"""Measure an exported extractor: the time of the step before a model's answer."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from lxcompress.exporters.extractor import draw_pictures
from lxcompress.measure.plan import WARMUP
from lxcompress.runtimes.extractor import open_file_extractor


@dataclass(frozen=True)
class ExtractorTime:
    """The median time of an exported extractor for one picture, in seconds, and what was measured."""

    median_s: float
    words: str


def measure_extractor(folder: Path, *, threads: int, runs: int) -> ExtractorTime:
    """Return the median time of the exported extractor in `folder` for one picture. Raises LxError.

    The time to decode and resize a photograph is not in it.
    """
    extractor = open_file_extractor(folder, threads=threads)
    pixels = next(draw_pictures(extractor.artifact.side))
    samples = []
    for index in range(WARMUP + runs):
        started = time.perf_counter()
        extractor.extract(pixels)
        if index >= WARMUP:
            samples.append(time.perf_counter() - started)
    plural = "s" if threads > 1 else ""
    words = f"{extractor.artifact.extractor} in {extractor.runtime}, {threads} thread{plural}, median of {runs} runs"
    return ExtractorTime(statistics.median(samples), words)

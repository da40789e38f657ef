"""Time an exported extractor in several runtimes, in turns: `python bench/extractor.py FOLDER... [--runs 200]`.

The first folder is the baseline. For each other one, the ratio of the medians is printed, and its 95 % interval over
the rounds (bootstrap of the rounds, seeded). One thread; with --instructions, the engine's set.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from lxcompress.exporters.extractor import draw_pictures
from lxcompress.runtimes.extractor import open_file_extractor

RESAMPLES = 2000


def main() -> None:
    """Measure the folders of the command line, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    extractors = [open_file_extractor(folder, threads=given.threads) for folder in given.folders]
    pixels = next(draw_pictures(extractors[0].artifact.side))
    samples = np.empty((given.runs, len(extractors)))
    for round_number in range(-10, given.runs):
        for index, extractor in enumerate(extractors):
            started = time.perf_counter()
            extractor.extract(pixels)
            if round_number >= 0:
                samples[round_number, index] = time.perf_counter() - started
    draw = np.random.default_rng(0)
    rows = draw.integers(0, given.runs, (RESAMPLES, given.runs))
    for index, folder in enumerate(given.folders):
        ratios = np.median(samples[rows, index], axis=1) / np.median(samples[rows, 0], axis=1)
        low, high = np.quantile(ratios, (0.025, 0.975))
        median, best = statistics.median(samples[:, index]), samples[:, index].min()
        print(
            f"{folder}  {extractors[index].runtime}  median {1000 * median:.2f} ms, least {1000 * best:.2f} ms, "
            f"{median / statistics.median(samples[:, 0]):.2f} [{low:.2f}, {high:.2f}] of the first"
        )


if __name__ == "__main__":
    main()

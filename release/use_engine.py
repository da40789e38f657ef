"""Answer a question with the engine of the installed lxcompress, and print its instruction sets.

It needs only lxcompress and numpy.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from lxcompress.engine import InferenceSession, instruction_sets
from lxcompress.engine.pack import dense
from lxcompress.engine.program import Program


def use_engine(path: Path) -> list[float]:
    """Write a model of one product to `path`, and return its scores for a question of ones, computed by two threads."""
    program, weight = Program(), np.arange(20, dtype=np.float32).reshape(4, 5)
    x = program.load(program.floats("x", program.rows("mask", most=3), 5))
    program.scores(program.linear(x.take(columns=program.constant(1)), dense(weight, "fp32")))
    program.write(path)
    feeds = {"mask": np.ones((1, 1), np.int64), "x": np.ones((1, 1, 5), np.float32)}
    with InferenceSession(path, threads=2) as session:
        return [float(score) for score in session.run(None, feeds)[0][0]]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        scores = use_engine(Path(folder) / "model.lxe")
    if scores != [10.0, 35.0, 60.0, 85.0]:
        sys.exit(f"the engine answers {scores}, expected the sums of the rows of its weight")
    print("the engine answers with", *instruction_sets())

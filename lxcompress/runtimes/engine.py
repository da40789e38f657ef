"""The runtime of engine files: lxcompress's own engine, which needs numpy and a library in C."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lxcompress.engine import InferenceSession
from lxcompress.errors import MeasureError
from lxcompress.output import command_line

MODEL_FILE = "model.lxe"
PICTURE, PLANES = "picture", "planes"
"""The inputs of an exported extractor: the engine needs a mask of the colours too."""


@dataclass(frozen=True)
class EngineSession:
    """An engine file that is loaded."""

    path: Path
    session: InferenceSession

    def answer(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the scores, float32 [B, A], of `feeds`. Raises MeasureError if the file has other inputs.

        An exported extractor takes `picture`, [1, C, S, S], and gives its features one after another, [1, O x F].
        """
        if set(feeds) == {PICTURE}:
            picture = feeds[PICTURE]
            feeds = {PICTURE: picture.reshape(*picture.shape[:2], -1), PLANES: np.ones(picture.shape[:2], np.int64)}
        (scores,) = self.session.run(None, feeds)
        return scores

    def see(self, image: Mapping[str, np.ndarray]) -> None:
        """Compute what depends on the image alone, and keep it. Raises MeasureError; then no image is kept."""
        self.session.see(image)

    def ask(self, question: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the scores, float32 [B, A], of B questions about the image. Raises MeasureError before `see`."""
        return self.session.ask(question)


def open_engine(path: Path, *, threads: int) -> EngineSession:
    """Load the engine file at `path`, or in the folder `path`, to run on `threads` threads. Raises MeasureError."""
    model = path / MODEL_FILE if path.is_dir() else path
    if not model.is_file():
        raise MeasureError(
            f"{model}: no such file; make it with: "
            f"{command_line('export', 'TICKET', '--format', 'engine', '--out', path)}"
        )
    return EngineSession(model, InferenceSession(model, threads=threads))

"""Questions for a file of fixed shape: they are padded to its tokens and regions, and answered one at a time.

The masks remove the padding, so the scores are those of the question alone. Only the record of an artifact says that
its shape is fixed, so all runtimes serve such files in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lxcompress.errors import MeasureError
from lxcompress.filenames import ARTIFACT_FILE
from lxcompress.runtimes.feeds import check_feeds
from lxcompress.shapes import FixedShape
from lxcompress.text import parse_json, read_text

if TYPE_CHECKING:
    from lxcompress.runtimes import Session

# Shapes: B questions, N images of a question, L tokens, O regions, A answers.

_OF_TOKENS = ("input_ids", "attention_mask")
"""The inputs whose second axis is the tokens; that of the others is the regions."""


@dataclass(frozen=True)
class FixedShapeSession:
    """A loaded file that takes one question of the shape `shape`; `images` is the number of images of a question."""

    path: Path
    session: Session
    shape: FixedShape
    images: int = 1

    def answer(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the scores, float32 [B, A], of the questions in `feeds`, whose arrays are [B * N, L or O, ...].

        Raises MeasureError for questions with more tokens or regions than the file takes, and as the session does.
        """
        self._check_shape(feeds)
        check_feeds(self.path, feeds, feeds)  # before the batch is split, so that an error names the right question
        padded = {name: _pad(array, self._size_of(name)) for name, array in feeds.items()}
        rows = min(len(array) for array in padded.values())
        scores = [
            self.session.answer({name: array[start : start + self.images] for name, array in padded.items()})
            for start in range(0, rows, self.images)
        ]
        return np.concatenate(scores)

    def _size_of(self, name: str) -> int:
        """Return the size of the second axis of an input of the file."""
        return self.shape.tokens if name in _OF_TOKENS else self.shape.objects

    def _check_shape(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Raise MeasureError if the questions have more tokens or regions than the file takes."""
        tokens = max(array.shape[1] for name, array in feeds.items() if name in _OF_TOKENS)
        objects = max(array.shape[1] for name, array in feeds.items() if name not in _OF_TOKENS)
        if tokens > self.shape.tokens or objects > self.shape.objects:
            wanted = FixedShape(max(tokens, self.shape.tokens), max(objects, self.shape.objects))
            raise MeasureError(
                f"{self.path}: takes at most {self.shape.tokens} tokens and {self.shape.objects} regions, as it was "
                f"exported with --fixed {self.shape}, but was given {tokens} tokens and {objects} regions; give "
                f"shorter questions, or export it with --fixed {wanted} or without --fixed"
            )


def open_as_recorded(session: Session, path: Path) -> Session:
    """Return `session`, or one that pads the questions if the record of the artifact at `path` has a fixed shape.

    `path` is the folder of the artifact, or a file in the folder. Raises MeasureError for a damaged record.
    """
    record = (path if path.is_dir() else path.parent) / ARTIFACT_FILE
    if not record.is_file():
        return session
    try:
        values = parse_json(read_text(record))  # the measured process does not import the records, to stay small
        fixed = values.get("fixed")
        return FixedShapeSession(path, session, FixedShape(**fixed), values.get("images", 1)) if fixed else session
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as problem:
        raise MeasureError(f"{record}: its fixed shape cannot be read ({problem}); export the artifact again") from None


def _pad(array: np.ndarray, size: int) -> np.ndarray:
    """Return an array with zeros at the end of its second axis, so that this axis has the given size."""
    missing = size - array.shape[1]
    return np.pad(array, [(0, 0), (0, missing), *[(0, 0)] * (array.ndim - 2)]) if missing else array

"""Ask several questions about one image, with the session of any runtime.

The engine can keep what does not depend on the question, so that the second question costs less. Another runtime gets
the regions again with each question.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from lxcompress.errors import MeasureError
from lxcompress.runtimes import Session
from lxcompress.runtimes.feeds import check_feeds

# Shapes: B batch, L tokens, O regions, F features, A answers.

QUESTION_INPUTS = ("input_ids", "attention_mask")
IMAGE_INPUTS = ("visual_feats", "visual_pos", "visual_attention_mask")


@runtime_checkable
class SeeingSession(Protocol):
    """The session of a runtime that can keep what does not depend on the question."""

    def see(self, image: Mapping[str, np.ndarray]) -> None:
        """Compute what depends on the image alone, and keep it. Raises MeasureError; then no image is kept."""
        ...

    def ask(self, question: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the scores, float32 [B, A], of B questions about the image. Raises MeasureError."""
        ...


class ImageSession:
    """An exported file that is ready to answer questions, each with an image, or several about one image.

    Calls from several threads must not mix images: a session keeps one.
    """

    def __init__(self, path: Path, session: Session) -> None:
        self._path, self._session = path, session
        self._image: dict[str, np.ndarray] | None = None

    @property
    def keeps_image(self) -> bool:
        """Return whether `see` computes what does not depend on the question, so that `ask` costs less."""
        return isinstance(self._session, SeeingSession)

    def answer(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the scores, float32 [B, A], of B questions, each with its own image; the seen image stays.

        `feeds` has the arrays of `see` and of `ask`, all with a batch size of B. Raises MeasureError if the file has
        other inputs.
        """
        return self._session.answer(feeds)

    def see(self, image: Mapping[str, np.ndarray]) -> None:
        """Keep an image for the calls of `ask`; it replaces the one before.

        `image` has visual_feats, float32 [1, O, F]; visual_pos, float32 [1, O, 4], boxes x1 y1 x2 y2 in 0-1; and
        visual_attention_mask, int64 [1, O]. Raises MeasureError; then no image is kept.
        """
        self._image = None
        arrays = self._take(image, IMAGE_INPUTS, "see")
        batches = sorted({len(array) for array in arrays.values()})
        if batches != [1]:
            raise MeasureError(
                f"{self._path}: sees one image at a time, expected arrays [1, ...], got a batch size of "
                f"{' and '.join(map(str, batches))}; call answer for several images"
            )
        if isinstance(self._session, SeeingSession):
            self._session.see(arrays)
            self._image = {}  # the session keeps what it needs
        else:
            check_feeds(self._path, arrays, IMAGE_INPUTS)
            self._image = {name: array.copy() for name, array in arrays.items()}  # a caller may reuse its arrays

    def ask(self, question: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the scores, float32 [B, A], of B questions about the seen image: the same as those of `answer`.

        `question` has input_ids and attention_mask, int64 [B, L]. Raises MeasureError, also before `see`.
        """
        if self._image is None:
            raise MeasureError(f"{self._path}: was asked before it has seen an image; call see first, or answer")
        arrays = self._take(question, QUESTION_INPUTS, "ask")
        if isinstance(self._session, SeeingSession):
            return self._session.ask(arrays)
        batch = len(arrays["input_ids"])
        repeated = {name: np.repeat(array, batch, axis=0) for name, array in self._image.items()}
        return self._session.answer({**arrays, **repeated})

    def _take(self, feeds: Mapping[str, np.ndarray], names: tuple[str, ...], call: str) -> dict[str, np.ndarray]:
        """Return the arrays of exactly these names. Raises MeasureError for other names, or arrays without a batch."""
        if not isinstance(feeds, Mapping) or set(feeds) != set(names):
            given = ", ".join(sorted(map(str, feeds))) if isinstance(feeds, Mapping) else f"a {type(feeds).__name__}"
            raise MeasureError(
                f"{self._path}: {call} takes the inputs {', '.join(names)}, but was given {given or 'none'}; give an "
                "array for each, by its name"
            )
        arrays = {name: np.asarray(feeds[name]) for name in names}
        for name, array in arrays.items():
            if array.ndim < 2:
                raise MeasureError(
                    f"{self._path}: {call} takes {name} with a batch size, but was given an array of shape "
                    f"{array.shape}; give array[None]"
                )
        return arrays

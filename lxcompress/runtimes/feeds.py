"""Check the inputs and the scores of a model file, for every runtime: the inputs' names, and finite numbers only.

Without the check, a broken detector might not be noticed: some runtimes turn NaN into ordinary scores (8-bit products
do).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from lxcompress.errors import MeasureError

# Shapes: B batch, A answers.


def check_feeds(path: Path, feeds: Mapping[str, np.ndarray], inputs: Collection[str]) -> None:
    """Raise MeasureError unless `feeds` has exactly the `inputs` of the file at `path`, without NaN and infinity."""
    if set(feeds) != set(inputs):
        raise MeasureError(
            f"{path}: takes the inputs {', '.join(sorted(inputs))}, but was given {', '.join(sorted(feeds))}; export "
            "it again with this version of lxcompress"
        )
    for name, array in feeds.items():
        if np.asarray(array).dtype.kind == "f" and not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0][0])
            raise MeasureError(
                f"{path}: {name} holds NaN or infinity in question {row}; check the detector, or what made the features"
            )


def check_scores(path: Path, scores: np.ndarray) -> np.ndarray:
    """Return `scores`, [B, A]. Raises MeasureError if they hold NaN or infinity."""
    if not np.isfinite(scores).all():
        raise MeasureError(
            f"{path}: answers finite inputs with NaN or infinity; check the size of the features, or export the model "
            "in a wider precision"
        )
    return scores

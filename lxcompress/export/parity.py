"""Parity: how an exported file answers beside the model that it came from.

Shapes: B batch, A answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import isfinite

import numpy as np

from lxcompress.errors import ExportError
from lxcompress.records import Parity

Answer = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""feeds -> scores [B, A]"""
TOLERANCES: Mapping[str, float | None] = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 2e-2}
"""Of the largest score, by precision; far above what reordered sums differ by, far below what moves most answers.

A precision that is not named rounds its weights to so few values that scores must differ: what it changes is counted.
"""


def compare(
    reference: Answer,
    candidate: Answer,
    feeds: Iterable[Mapping[str, np.ndarray]],
    *,
    where: str,
    inputs: str,
    precision: str,
) -> Parity:
    """Return how the answers of both to `feeds` differ; `inputs` says in words what those are.

    Raises ExportError if a score of either is NaN or infinite: a record can hold no such difference.
    """
    questions, changed, difference, largest = 0, 0, 0.0, 0.0
    for each in feeds:
        expected = reference(each)
        if not np.isfinite(expected).all():
            raise ExportError(
                f"the model itself answers {inputs} with NaN or infinity; check the features and the training, or "
                "export another model"
            )
        found = candidate(each)
        questions += len(expected)
        changed += int((expected.argmax(1) != found.argmax(1)).sum())
        difference = float(np.maximum(difference, np.abs(expected - found).max()))  # unlike max, keeps NaN
        largest = max(largest, float(np.abs(expected).max()))
    if not isfinite(difference):
        raise ExportError(
            f"{where}: answers with scores that are no numbers where its ticket does not; it was not kept: "
            "export it in a wider precision"
        )
    relative = TOLERANCES.get(precision)
    return Parity(
        questions=questions,
        inputs=inputs,
        max_abs_difference=difference,
        changed_answers=changed,
        tolerance=None if relative is None else relative * max(1.0, largest),
    )


def check(parity: Parity, where: str) -> None:
    """Raise ExportError unless the scores agree within the tolerance."""
    if parity.tolerance is not None and parity.max_abs_difference > parity.tolerance:
        raise ExportError(
            f"{where}: answers otherwise than its ticket (scores differ by {parity.max_abs_difference:.2g}, at most "
            f"{parity.tolerance:.2g} allowed; {parity.changed_answers} of {parity.questions} answers changed); "
            "it was not kept as an artifact: report it"
        )

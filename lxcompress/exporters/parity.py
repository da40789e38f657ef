"""Parity: how far the answers of an exported file differ from the answers of its source (the model or ticket).

Shapes: B batch, A answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import isfinite

import numpy as np

from lxcompress.errors import ExportError
from lxcompress.records import Parity, Score
from lxcompress.units import percent

Answer = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""feeds -> scores [B, A]"""
TOLERANCES: Mapping[str, float | None] = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 2e-2}
"""Precision -> the largest allowed difference of a score, divided by the largest score (or by 1, if that is larger).

The tolerance is far above the effect of another order of sums, and far below what changes most answers. int8 and
int4 have no tolerance: they round weights to so few values that scores must differ. Their changed
answers are counted instead.
"""

DROPS: Mapping[str, float] = {"fp32": 0.001, "fp16": 0.005, "bf16": 0.01}
"""Precision -> the drop of accuracy (0-1) that rounding may cause.

Differences within TOLERANCES change an answer only where two scores are almost equal, which is rarer than this.
"""
CHANGES: Mapping[str, float] = {"fp32": 0.005, "fp16": 0.03, "bf16": 0.05}
"""Precision -> the fraction of answers (0-1) that rounding may change."""
Z95 = 1.96
"""95 % of a normal distribution are within this many standard errors of the mean."""


def compare(
    reference: Answer,
    candidate: Answer,
    feeds: Iterable[Mapping[str, np.ndarray]],
    *,
    where: str,
    inputs: str,
    precision: str,
) -> Parity:
    """Return how the answers of `candidate` (the file) to `feeds` differ from those of `reference` (the source).

    `where` names the file in errors, and `inputs` describes the feeds in words. Raises ExportError if a score of either
    is NaN or infinite: a record cannot hold such a difference.
    """
    questions, changed, difference, largest = 0, 0, 0.0, 0.0
    for feed in feeds:
        expected = reference(feed)
        if not np.isfinite(expected).all():
            raise ExportError(
                f"the model itself answers {inputs} with NaN or infinite scores; check the features and the training, "
                "or "
                "export another model"
            )
        found = candidate(feed)
        questions += len(expected)
        changed += int((expected.argmax(1) != found.argmax(1)).sum())
        difference = float(np.maximum(difference, np.abs(expected - found).max()))  # unlike max, keeps NaN
        largest = max(largest, float(np.abs(expected).max()))
    if not isfinite(difference):
        raise ExportError(
            f"{where}: its scores are NaN or infinite where the ticket's are not, so the file was deleted; "
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
    """Raise ExportError if the scores differ by more than the tolerance; `where` names the file in the error."""
    if parity.tolerance is not None and parity.max_abs_difference > parity.tolerance:
        raise ExportError(
            f"{where}: its answers differ from the ticket's (scores differ by {parity.max_abs_difference:.2g}, at most "
            f"{parity.tolerance:.2g} allowed; {parity.changed_answers} of {parity.questions} answers changed); "
            "the file was deleted; report this message as a bug of lxcompress"
        )


def doubt(parity: Parity, found: Score | None, expected: Score | None, precision: str) -> list[str]:
    """Return one sentence for each difference between a file and its source that the precision does not explain.

    `found` is the accuracy of the file, and `expected` is the accuracy in the source's record.
    """
    doubts = []
    allowed, share = CHANGES.get(precision), parity.changed_answers / parity.questions if parity.questions else 0.0
    if allowed is not None and parity.changed_answers > max(1, allowed * parity.questions):
        doubts.append(
            f"{parity.changed_answers} of {parity.questions} answers changed ({percent(share)} %), but {precision} "
            f"explains only {percent(allowed)} %: export it in a wider precision, or with --no-fuse"
        )
    if found is None or expected is None:
        return doubts
    if found.questions != expected.questions:
        doubts.append(
            f"the source was scored on {expected.questions:,} questions and the file on {found.questions:,}: the data "
            "changed since"
        )
        return doubts
    drop, bound = expected.accuracy - found.accuracy, explained_drop(parity, found.questions, precision)
    if drop > bound:
        doubts.append(
            f"accuracy is {percent(found.accuracy)} %, {100 * drop:.2f} points below the "
            f"{percent(expected.accuracy)} % of its source's record on as many questions, but {precision} explains "
            f"only {100 * bound:.2f} points: the model, its vocabulary or the data may have changed"
        )
    return doubts


def explained_drop(parity: Parity, questions: int, precision: str) -> float:
    """Return the drop of accuracy (0-1) that a precision explains, over `questions` questions.

    For fp32, fp16 and bf16 it is the value in DROPS, and at least one question. Any other precision changes answers.
    Let n be the number of questions, and p the fraction of changed answers. If as many answers become wrong as become
    right, the accuracy differs with a standard error of at most sqrt(p / n). 95 % of such differences are within 1.96
    standard errors, which is the value that is returned. `compare` measures p; one changed answer is added to it.
    """
    share = DROPS.get(precision)
    if share is not None:
        return max(share, 1.5 / questions)
    changed = (parity.changed_answers + 1) / max(1, parity.questions)
    return max(1.5 / questions, Z95 * (changed / questions) ** 0.5)

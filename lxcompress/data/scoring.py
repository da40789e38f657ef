"""ScoreFiles and ScoreReport: what the official measure of a kind of data set takes and gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxcompress.data.vqa_score import TypeScore


@dataclass(frozen=True)
class ScoreFiles:
    """Predictions, and the official files that they are scored with."""

    predictions: Path
    questions: Path
    annotations: Path | None = None
    """VQA's answers; the other data sets have them in `questions`"""
    only_predicted: bool = False
    """whether questions without a prediction are left out; if not, they are an error"""


@dataclass(frozen=True)
class ScoreReport:
    """The scores of predictions: shares 0-1, except `per_question`, which is in percent as in the official files."""

    overall: TypeScore
    groups: Mapping[str, Mapping[str, TypeScore]]
    """what questions are grouped by -> group -> score"""
    per_question: Mapping[int, float] | Mapping[str, float] | Mapping[int | str, float]
    consistency: TypeScore | None = None
    doubts: Sequence[str] = ()
    """why this may not be the official score"""


def doubt_partial(counted: int, asked: int) -> list[str]:
    """Return the warning that only `counted` of the `asked` questions are scored, if so."""
    if counted == asked:
        return []
    return [f"only {counted} of {asked} questions have a prediction and are scored; this is not the official score"]


def doubt_unused(given: int, counted: int) -> list[str]:
    """Return the warning that some of the `given` predictions are not scored, if so."""
    if given == counted:
        return []
    return [f"{given - counted} of {given} predictions are for other questions and are ignored"]

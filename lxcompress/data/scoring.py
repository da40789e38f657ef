"""ScoreFiles and ScoreReport: the input and the output of the official measure of a kind of data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxcompress.data.vqa_score import TypeScore


@dataclass(frozen=True)
class ScoreFiles:
    """The file of predictions, and the official files with which they are scored."""

    predictions: Path
    questions: Path
    annotations: Path | None = None
    """the file of answers for VQA; the other data sets have their answers in `questions`"""
    pairs: Path | None = None
    """VQA v2's list of complementary pairs of questions"""
    only_predicted: bool = False
    """whether questions without a prediction are left out; if not, such a question is an error"""


@dataclass(frozen=True)
class ScoreReport:
    """The scores of predictions. Scores are 0-1, except those of `per_question`: percent, as in the official files."""

    overall: TypeScore
    groups: Mapping[str, Mapping[str, TypeScore]]
    """name of a grouping of the questions, such as "answer type" -> group -> score"""
    per_question: Mapping[int, float] | Mapping[str, float] | Mapping[int | str, float]
    consistency: TypeScore | None = None
    measures: Mapping[str, TypeScore] = field(default_factory=dict)
    """name of a further measure, such as "pairs" -> its score, and the number of questions or pairs that it counts"""
    doubts: Sequence[str] = ()
    """sentences that say why this may not be the official score"""


def doubt_partial(counted: int, asked: int) -> list[str]:
    """Return a warning, as a list, that only `counted` of `asked` questions are scored; an empty list if all are."""
    if counted == asked:
        return []
    return [f"only {counted} of {asked} questions have a prediction and are scored; this is not the official score"]


def doubt_unused(given: int, counted: int) -> list[str]:
    """Return a warning, as a list, that some of the `given` predictions are not scored; an empty list if all are."""
    if given == counted:
        return []
    return [f"{given - counted} of {given} predictions are for other questions and are ignored"]

"""CheckContext: a data set that was read, and the objects that collect its facts and problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lxcompress.data.facts import FactSheet
from lxcompress.data.problems import Problems
from lxcompress.data.questions import Question, QuestionSet


@dataclass(frozen=True)
class CheckContext:
    """The values that all parts of a check share."""

    settings: Any
    question_set: QuestionSet
    used: Mapping[str, Sequence[Question]]
    """split -> the questions that a study uses"""
    sheet: FactSheet
    problems: Problems

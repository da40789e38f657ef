"""What a model is asked: the questions of both splits with the credits of answers that have a label."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lxcompress.data.questions import Question, QuestionSet, SplitQuestions


@dataclass(frozen=True)
class TrimmedQuestions:
    train: tuple[Question, ...]
    valid: tuple[Question, ...]
    labels: tuple[str, ...]


def trim(found: QuestionSet) -> TrimmedQuestions:
    """Return the questions of both splits without the credits of answers that have no label."""
    labels = found.labels or ()

    def questions(split: SplitQuestions) -> tuple[Question, ...]:
        known = frozenset(labels)
        return tuple(
            replace(
                question, credits={answer: credit for answer, credit in question.credits.items() if answer in known}
            )
            for question in split.questions
        )

    return TrimmedQuestions(questions(found.train), questions(found.valid), labels)

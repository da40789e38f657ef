"""From questions as they are read to a QuestionSet, with the checks that all data sets of questions share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lxcompress.data.ids import name_id
from lxcompress.data.questions import Credits, Question, QuestionSet
from lxcompress.errors import DataError
from lxcompress.text import shorten


@dataclass(frozen=True)
class SplitQuestions:
    """One split as its files hold it: credits are those of all answers, whether they have a label or not."""

    questions: list[Question]
    files: dict[int | str, Path]
    """the file that each question, by its id, came from"""


def read_part(files: Iterable[Path], read: Callable[[Path], list[Question]]) -> SplitQuestions:
    """What `read` finds in `files`, in their order. Raises DataError if an id comes twice."""
    part = SplitQuestions([], {})
    for path in files:
        for question in read(path):
            first = part.files.get(question.id)
            if first is not None:
                where = path if first == path else f"{first} and {path}"
                raise DataError(f"{where}: question id {question.id} comes twice; give files with each question once")
            part.files[question.id] = path
            part.questions.append(question)
    check_one_type(part)
    return part


def check_one_type(part: SplitQuestions) -> None:
    """Raises DataError if some question ids are numbers and others are texts: 5 and "5" would be two questions."""
    first = {type(number): number for number in reversed(part.files)}
    if len(first) > 1:
        number, text = first[int], first[str]
        of_one = part.files[number] == part.files[text]
        where = str(part.files[text]) if of_one else f"{part.files[number]} and {part.files[text]}"
        raise DataError(
            f"{where}: question ids are of two types, numbers ({name_id(number)}) and texts ({name_id(text)}); write "
            "them all as one of the two, as the data set's evaluation has them"
        )


def ask(
    train: SplitQuestions, valid: SplitQuestions, *, labels: Sequence[str], answers: Path | None = None
) -> QuestionSet:
    """Both splits with the credits of `labels` alone, which came from the file `answers`, if from any.

    Raises DataError if the splits share a question, nothing is credited in `train`, or most of a split's credited
    questions have no answer among `labels`.
    """
    if not any(question.credits for question in train.questions):
        path = next(iter(train.files.values()))
        raise DataError(f"{path}: has no answers to learn from; give a training split, with the answers to it")
    _check_apart(train, valid)
    asked = QuestionSet(_keep_labels(train.questions, labels), _keep_labels(valid.questions, labels), tuple(labels))
    if answers is not None:
        _check_answerable(train, asked.train, answers)
        _check_answerable(valid, asked.valid, answers)
    return asked


def as_credits(label: Mapping[str, Any], number: int | str, path: Path) -> Credits:
    """A question's `label`, in the order of its answers. Raises DataError if a credit is not a number of 0 to 1."""
    for answer, credit in label.items():
        if type(credit) not in (int, float) or not 0 <= credit <= 1:
            raise DataError(
                f"{path}: question id {number} credits {answer!r} with {shorten(credit)}, expected a number of 0 to 1; "
                "download it again"
            )
    return {sys.intern(answer): float(credit) for answer, credit in sorted(label.items())}


def _check_apart(train: SplitQuestions, valid: SplitQuestions) -> None:
    shared = [number for number in valid.files if number in train.files]
    if shared:
        raise DataError(
            f"{valid.files[shared[0]]}: {len(shared)} of its questions are in {train.files[shared[0]]} too (id "
            f"{shared[0]} is the first); validate on questions that are not trained on"
        )


def _keep_labels(questions: Iterable[Question], labels: Iterable[str]) -> tuple[Question, ...]:
    known = frozenset(labels)
    return tuple(
        question
        if question.credits.keys() <= known
        else replace(question, credits={each: credit for each, credit in question.credits.items() if each in known})
        for question in questions
    )


def _check_answerable(part: SplitQuestions, kept: Sequence[Question], answers: Path) -> None:
    credited = [question for question in part.questions if question.credits]
    known = sum(bool(question.credits) for question in kept)
    if credited and 2 * known <= len(credited):
        raise DataError(
            f"{part.files[credited[0].id]}: {answers} has an answer to {known} of {len(credited)} questions, expected "
            "most of them; give the answer vocabulary of this data set"
        )

"""Read VizWiz-VQA (Gurari et al. 2018): questions that blind people asked about photographs of their own.

The official JSON is a list of questions, each with the name of its photograph, ten or eleven answers, and whether the
question can be answered. A question has no id; every photograph has one question, so its file name is the id.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

from lxcompress.data.check_context import CheckContext
from lxcompress.data.files import read_json
from lxcompress.data.problems import Problems, percent
from lxcompress.data.question_set import check_has_answers, check_splits_differ, find_labels, read_split
from lxcompress.data.questions import Question, QuestionSet, SplitQuestions
from lxcompress.data.vqa import UNKNOWN_TYPE, soft_label
from lxcompress.errors import DataError
from lxcompress.recipe import VizwizData
from lxcompress.text import shorten

UNANSWERABLE = ("unanswerable", "unsuitable", "unsuitable image")
"""The answers that say that the question cannot be answered."""
LEAST_ANSWERS = 3
"""An answer gets a label if it is the most frequent one of this many questions or more. VQA's 9 would leave few: in
VizWiz most answers are texts that were read from one photograph."""
MOST_ANSWERS = 1000
REMEDY = "give VizWiz's annotations JSON as its authors publish it"


def read_vizwiz(settings: VizwizData, problems: Problems | None = None) -> QuestionSet:
    """Read the questions of the splits. The labels are those of `data.answers`, or the most frequent training answers.

    Raises DataError under the strict policy, which is the default.
    """
    problems = problems or Problems.strict()
    train, valid = (_read_split(settings, name, problems) for name in ("train", "valid"))
    test = _read_split(settings, "test", problems) if settings.test else None
    check_splits_differ(train, valid, problems, test=test)
    least = settings.least_answers or LEAST_ANSWERS

    def count() -> tuple[str, ...] | None:
        return problems.attempt(lambda: _make_labels(train, least=least))

    labels = find_labels(settings.answers, [train, valid, *([test] if test else [])], count, problems)
    return QuestionSet(train, valid, labels, settings.tokens, test=test)


def parse_answers(record: Any, where: str) -> tuple[str, ...]:
    """Return the answers that people gave to the question `record`; none if the split has no answers.

    Raises DataError, which begins with `where`, unless every answer is a text.
    """
    given = record.get("answers")
    if given is None:
        return ()
    records = given if isinstance(given, list) else []
    found = [record.get("answer") if isinstance(record, dict) else None for record in records]
    answers = [answer for answer in found if isinstance(answer, str)]
    if not 0 < len(answers) == len(found) <= MOST_ANSWERS:
        raise DataError(
            f"{where}: has {shorten(given)} as answers, expected 1 to {MOST_ANSWERS} records with a text as answer; "
            f"{REMEDY}"
        )
    return tuple(sys.intern(answer) for answer in answers)


def parse_answerable(record: Any, where: str) -> bool | None:
    """Return whether the question `record` can be answered; None if the split does not tell.

    Raises DataError, which begins with `where`, for anything but 0 and 1.
    """
    answerable = record.get("answerable")
    if answerable is None:
        return None
    if type(answerable) is not int or answerable not in (0, 1):
        raise DataError(f"{where}: has {shorten(answerable)} as answerable, expected 0 or 1; {REMEDY}")
    return answerable == 1


def read_records(path: Path) -> list[Any]:
    """Return the list of questions in an official file. Raises DataError for anything else, and for an empty list."""
    document = read_json(path, remedy=REMEDY)
    if not isinstance(document, list) or not document:
        raise DataError(f"{path}: is {shorten(document)}, expected a list of questions; {REMEDY}")
    return document


def check_vizwiz(context: CheckContext) -> None:
    """Add a fact: the share of the questions of each split that cannot be answered."""
    shares = {}
    for name, asked in context.used.items():
        credited = [question for question in asked if question.credits]
        if credited:
            shares[name] = percent(sum(map(_is_unanswerable, credited)) / len(credited))
    context.sheet.add("unanswerable questions", shares)


def _is_unanswerable(question: Question) -> bool:
    """Return whether the most frequent answer says that the question cannot be answered."""
    return _most_frequent(question) in UNANSWERABLE


def _most_frequent(question: Question) -> str:
    """Return the answer with the most credit; of several, the first in the alphabet."""
    return max(question.credits, key=lambda answer: question.credits[answer])


def _read_split(settings: VizwizData, name: str, problems: Problems) -> SplitQuestions:
    """Return the questions of the split `name`."""
    files: tuple[Path, ...] = getattr(settings, name)

    def read(path: Path) -> list[Question]:
        return problems.read_records(read_records(path), lambda record, index: _question(record, index, path))

    split = read_split(name, files, read, problems)
    if split.questions:
        remedies = ("give a training split, with the answers to it", "give a split with the answers to it")
        check_has_answers(split, *remedies, problems)
    return split


def _question(record: Any, index: int, path: Path) -> Question:
    """Return the question of an official record. Raises DataError."""
    fields = record if isinstance(record, dict) else {}
    image, words, kind = fields.get("image"), fields.get("question"), fields.get("answer_type")
    if not (isinstance(image, str) and image and isinstance(words, str) and isinstance(kind, (str, type(None)))):
        raise DataError(
            f"{path}: question {index} is {shorten(record)}, expected the name of an image and a question; {REMEDY}"
        )
    where = f"{path}: question {index}"
    parse_answerable(fields, where)
    return Question(
        id=image,
        images=(PurePosixPath(image).stem,),
        words=words,
        credits=soft_label(parse_answers(fields, where)),
        type=UNKNOWN_TYPE if kind is None else sys.intern(kind),
    )


def _make_labels(train: SplitQuestions, *, least: int) -> tuple[str, ...]:
    """Return the answers that are the most frequent answer to at least `least` training questions: the labels.

    They are sorted by the number of questions, then by text. Raises DataError if no answer is common enough.
    """
    counts = Counter(_most_frequent(question) for question in train.questions if question.credits)
    frequent = (answer for answer, count in counts.items() if count >= least)
    labels = sorted(frequent, key=lambda answer: (-counts[answer], answer))
    if not labels:
        raise DataError(
            f"{train.where}: no answer is the most frequent one of {least} questions or more; give a smaller "
            "data.least_answers, or an answer vocabulary as data.answers"
        )
    return tuple(labels)

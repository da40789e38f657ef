"""Read GQA (Hudson & Manning 2019): the official questions JSON (balanced or all), or LXMERT's JSON.

The contents of a file decide which of the two it is.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

from lxcompress.data.files import list_files, read_json
from lxcompress.data.ids import is_id
from lxcompress.data.problems import Problems
from lxcompress.data.question_set import (
    check_has_answers,
    check_splits_differ,
    find_labels,
    parse_credits,
    read_split,
)
from lxcompress.data.questions import Question, QuestionSet, SplitQuestions, count_answers
from lxcompress.errors import DataError
from lxcompress.recipe import GqaData
from lxcompress.text import shorten

ONE_TYPE = "all"
"""The type of all questions that have no structural type, as in LXMERT's JSON."""
_REMEDY = "give GQA's questions JSON as its authors publish it, a folder of them, or LXMERT's"


class _OfficialQuestion(NamedTuple):
    """The fields of an official question that are kept in memory; they are not checked yet."""

    image: Any
    words: Any
    answer: Any
    type: Any


def read_gqa(settings: GqaData, problems: Problems | None = None) -> QuestionSet:
    """Read all questions of the files, balanced or not. Labels are those of `data.answers`, or all training answers.

    The type of a question is its structural type. If a folder is given, all JSON files in it are read. Raises DataError
    under the strict policy, which is the default.
    """
    problems = problems or Problems.strict()
    train, valid = (_read_split(settings, name, problems) for name in ("train", "valid"))
    test = _read_split(settings, "test", problems) if settings.test else None
    check_splits_differ(train, valid, problems, test=test)
    labels = find_labels(
        settings.answers, [train, valid, *([test] if test else [])], lambda: count_answers(train.questions, 1), problems
    )
    return QuestionSet(train, valid, labels, settings.tokens, test=test)


def _read_split(settings: GqaData, name: str, problems: Problems) -> SplitQuestions:
    """Return the questions of the split `name`."""
    remedy = f"{_REMEDY}, as in --set data.{name}=PATH"
    given: tuple[Path, ...] = getattr(settings, name)
    listed = [problems.attempt(lambda: list_files(path, remedy=remedy)) for path in given]  # noqa: B023 (called at once)
    files = [file for found in listed for file in found or ()]
    split = read_split(name, files, lambda path: _read_questions(path, remedy, problems), problems)
    if split.questions:
        remedies = ("give a training split, with the answers to it", "give a split with the answers to it")
        check_has_answers(split, *remedies, problems)
    return split


def _read_questions(path: Path, remedy: str, problems: Problems) -> list[Question]:
    """Return the questions in a file, official or LXMERT's. Raises DataError."""
    document = read_json(path, remedy=remedy, hook=_keep_essentials)
    if isinstance(document, list):
        found = problems.read_records(document, lambda record, index: _lxmert_question(record, index, path))
    elif isinstance(document, dict):
        found = problems.read_records(
            document.items(), lambda record, _: _official_question(record[0], record[1], path)
        )
    else:
        raise DataError(f"{path}: is {shorten(document)}, expected questions; {_REMEDY}")
    if not document:
        raise DataError(f"{path}: has no question; {_REMEDY}")
    return found


def _keep_essentials(found: dict[str, Any]) -> Any:
    """Return what is kept of a JSON object; of an official question, only the fields of _OfficialQuestion.

    Its program, groups and annotations are nine tenths of the file, and are dropped.
    """
    if "operation" in found:
        return None
    if "imageId" not in found:
        return found
    types = found.get("types")
    structural = types.get("structural") if isinstance(types, dict) else None
    return _OfficialQuestion(found["imageId"], found.get("question"), found.get("answer"), structural)


def _official_question(question_id: str, record: Any, path: Path) -> Question:
    """Return the question of an official record. Raises DataError."""
    is_sound = (
        isinstance(record, _OfficialQuestion)
        and is_id(record.image)
        and isinstance(record.words, str)
        and isinstance(record.answer, (str, type(None)))
        and isinstance(record.type, (str, type(None)))
    )
    if not is_sound:
        raise DataError(
            f"{path}: question {question_id} is {shorten(record)}, expected an imageId and a question; {_REMEDY}"
        )
    return Question(
        id=question_id,
        images=(str(record.image),),
        words=record.words,
        credits={} if record.answer is None else {sys.intern(record.answer): 1.0},
        type=ONE_TYPE if record.type is None else sys.intern(record.type),
    )


def _lxmert_question(record: Any, index: int, path: Path) -> Question:
    """Return the question of a record of LXMERT's JSON. Raises DataError."""
    fields = record if isinstance(record, dict) else {}
    question_id, image, words = (fields.get(name) for name in ("question_id", "img_id", "sent"))
    label = fields.get("label", {})
    if not (is_id(question_id) and is_id(image) and isinstance(words, str) and isinstance(label, dict)):
        raise DataError(
            f"{path}: question {index} is {shorten(record)}, expected a question_id, an img_id, a sent and a label; "
            f"{_REMEDY}"
        )
    credits = parse_credits(label, f"{path}: question id {question_id}")
    return Question(id=question_id, images=(str(image),), words=words, credits=credits, type=ONE_TYPE)

"""GQA (Hudson & Manning 2019): the official questions JSON, balanced or all, or LXMERT's JSON, told by content."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

from lxcompress.data.files import list_files, read_json, read_labels
from lxcompress.data.ids import is_id
from lxcompress.data.question_set import SplitQuestions, as_credits, ask, read_part
from lxcompress.data.questions import Question, QuestionSet, count_answers
from lxcompress.errors import DataError
from lxcompress.recipe import GqaData
from lxcompress.text import shorten

ONE_TYPE = "all"
"""The type of a question that no structural type is told of: LXMERT's JSON leaves it out."""
_REMEDY = "give GQA's questions JSON as its authors publish it, a folder of them, or LXMERT's"


class _OfficialQuestion(NamedTuple):
    """What is kept of an official question."""

    image: Any
    words: Any
    answer: Any
    type: Any


def read_gqa(settings: GqaData) -> QuestionSet:
    """All questions of the files, balanced or not, and `answers` or every answer of the training questions.

    A question's type is its structural type. A folder stands for the JSON files in it. Raises DataError.
    """
    train, valid = _read_split("train", settings.train), _read_split("valid", settings.valid)
    labels = count_answers(train.questions, 1) if settings.answers is None else read_labels(settings.answers)
    return ask(train, valid, labels=labels, answers=settings.answers)


def _read_split(split: str, paths: tuple[Path, ...]) -> SplitQuestions:
    remedy = f"{_REMEDY}, as in --set data.{split}=PATH"
    files = [file for path in paths for file in list_files(path, remedy=remedy)]
    return read_part(files, lambda path: _read_questions(path, remedy))


def _read_questions(path: Path, remedy: str) -> list[Question]:
    document = read_json(path, remedy=remedy, hook=_essentials)
    if isinstance(document, list):
        found = [_lxmert_question(record, place, path) for place, record in enumerate(document)]
    elif isinstance(document, dict):
        found = [_official_question(number, record, path) for number, record in document.items()]
    else:
        raise DataError(f"{path}: is {shorten(document)}, expected questions; {_REMEDY}")
    if not found:
        raise DataError(f"{path}: has no question; {_REMEDY}")
    return found


def _essentials(found: dict[str, Any]) -> Any:
    """An official question without its program, groups and annotations, which are nine tenths of it."""
    if "operation" in found:
        return None
    if "imageId" not in found:
        return found
    types = found.get("types")
    structural = types.get("structural") if isinstance(types, dict) else None
    return _OfficialQuestion(found["imageId"], found.get("question"), found.get("answer"), structural)


def _official_question(number: str, record: Any, path: Path) -> Question:
    is_sound = (
        isinstance(record, _OfficialQuestion)
        and is_id(record.image)
        and isinstance(record.words, str)
        and isinstance(record.answer, (str, type(None)))
        and isinstance(record.type, (str, type(None)))
    )
    if not is_sound:
        raise DataError(
            f"{path}: question {number} is {shorten(record)}, expected an imageId and a question; {_REMEDY}"
        )
    return Question(
        id=number,
        images=(str(record.image),),
        words=record.words,
        credits={} if record.answer is None else {sys.intern(record.answer): 1.0},
        type=ONE_TYPE if record.type is None else sys.intern(record.type),
    )


def _lxmert_question(record: Any, place: int, path: Path) -> Question:
    fields = record if isinstance(record, dict) else {}
    number, image, words = (fields.get(name) for name in ("question_id", "img_id", "sent"))
    label = fields.get("label", {})
    if not (is_id(number) and is_id(image) and isinstance(words, str) and isinstance(label, dict)):
        raise DataError(
            f"{path}: question {place} is {shorten(record)}, expected a question_id, an img_id, a sent and a label; "
            f"{_REMEDY}"
        )
    return Question(
        id=number, images=(str(image),), words=words, credits=as_credits(label, number, path), type=ONE_TYPE
    )

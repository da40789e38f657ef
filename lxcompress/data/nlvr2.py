"""Read NLVR2 (Suhr et al. 2019): sentences about pairs of photographs, as official JSON lines or LXMERT's JSON.

The images of a sentence are the left one, then the right one. They have the names that LXMERT's features use, such as
dev-850-0-img0 and dev-850-0-img1.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lxcompress.data.files import read_records
from lxcompress.data.problems import Problems
from lxcompress.data.question_set import check_has_answers, check_splits_differ, read_split
from lxcompress.data.questions import Credits, Question, QuestionSet, SplitQuestions
from lxcompress.errors import DataError
from lxcompress.recipe import Nlvr2Data
from lxcompress.text import shorten

LABELS = ("False", "True")
"""The answers; the index of an answer is the number by which LXMERT's JSON names it."""
ONE_TYPE = "all"
_REMEDY = "give NLVR2's JSON lines as its authors publish them, or LXMERT's JSON"


def read_nlvr2(settings: Nlvr2Data, problems: Problems | None = None) -> QuestionSet:
    """Read the sentences of the splits, each with its pair of images; a question's id is its identifier.

    Validation sentences without a label have no credits. Raises DataError under the strict policy, the default.
    """
    problems = problems or Problems.strict()
    train, valid = (_read_split(settings, name, problems) for name in ("train", "valid"))
    test = _read_split(settings, "test", problems) if settings.test else None
    check_splits_differ(train, valid, problems, test=test)
    return QuestionSet(train, valid, LABELS, settings.tokens, test=test)


def image_names(identifier: str) -> tuple[str, str]:
    """Return the names of the left and the right image of an example, from its identifier split-set-pair-sentence.

    Raises ValueError for an identifier of another form.
    """
    stem, _, sentence = identifier.rpartition("-")
    if stem.count("-") != 2 or not sentence:
        raise ValueError(identifier)
    return f"{stem}-img0", f"{stem}-img1"


def _read_split(settings: Nlvr2Data, name: str, problems: Problems) -> SplitQuestions:
    """Return the sentences of the split `name`."""
    remedy = f"{_REMEDY}, as in --set data.{name}=PATH"

    def read(path: Path) -> list[Question]:
        records = read_records(path, remedy=remedy)
        return problems.read_records(records, lambda record, index: _question(record, index, path))

    split = read_split(name, getattr(settings, name), read, problems)
    if split.questions:
        remedies = ("give a training split, with the answers to it", "give a split with the answers to it")
        check_has_answers(split, *remedies, problems)
    return split


def _question(record: Mapping[str, Any], index: int, path: Path) -> Question:
    """Return the Question of a record, official or LXMERT's. Raises DataError."""
    identifier = record.get("identifier")
    is_lxmert = "sent" in record
    words = record.get("sent" if is_lxmert else "sentence")
    try:
        left, right = (record.get("img0"), record.get("img1")) if is_lxmert else image_names(str(identifier))
    except ValueError:
        left = right = None
    if not (
        isinstance(identifier, str) and isinstance(words, str) and isinstance(left, str) and isinstance(right, str)
    ):
        raise DataError(
            f"{path}: record {index} is {shorten(record)}, expected a sentence and an identifier, "
            f"split-set-pair-sentence; {_REMEDY}"
        )
    return Question(
        id=identifier,
        images=(left, right),
        words=words,
        credits=_credits(record, identifier, path),
        type=ONE_TYPE,
    )


def _credits(record: Mapping[str, Any], identifier: str, path: Path) -> Credits:
    """Return {answer: 1.0} for the label of a record; an empty dict without a label. Raises DataError.

    The label is a text in official files, and 0 or 1 in LXMERT's.
    """
    if "label" not in record:
        return {}
    label = record["label"]
    if type(label) is int and 0 <= label < len(LABELS):
        label = LABELS[label]
    if label not in LABELS:
        raise DataError(
            f"{path}: the label of {identifier} is {shorten(label)}, expected {' or '.join(LABELS)}; {_REMEDY}"
        )
    return {label: 1.0}

"""NLVR2 (Suhr et al. 2019): sentences over pairs of photographs, as official JSON lines or LXMERT's JSON.

A sentence is about the left image, then the right one, named as LXMERT's features name them (dev-850-0-img0, -img1).
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
"""The index of a label is its number in LXMERT's JSON."""
ONE_TYPE = "all"
_REMEDY = "give NLVR2's JSON lines as its authors publish them, or LXMERT's JSON"


def read_nlvr2(settings: Nlvr2Data, problems: Problems | None = None) -> QuestionSet:
    """Read the sentences of both splits, each with its pair of images; a question's id is its identifier.

    Validation sentences without a label have no credits. Raises DataError under the strict policy, the default.
    """
    problems = problems or Problems.strict()
    train, valid = (_read_split(settings, name, problems) for name in ("train", "valid"))
    check_splits_differ(train, valid, problems)
    return QuestionSet(train, valid, LABELS, settings.tokens)


def image_names(identifier: str) -> tuple[str, str]:
    """Return the images of the example split-set-pair-sentence. Raises ValueError for another identifier."""
    stem, _, sentence = identifier.rpartition("-")
    if stem.count("-") != 2 or not sentence:
        raise ValueError(identifier)
    return f"{stem}-img0", f"{stem}-img1"


def _read_split(settings: Nlvr2Data, name: str, problems: Problems) -> SplitQuestions:
    """Return the sentences of a split."""
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
    """Return the sentence of a record of either form. Raises DataError."""
    identifier = record.get("identifier")
    is_lxmert = "sent" in record
    words = record.get("sent" if is_lxmert else "sentence")
    try:
        pair = (record.get("img0"), record.get("img1")) if is_lxmert else image_names(str(identifier))
    except ValueError:
        pair = (None, None)
    if not all(isinstance(text, str) for text in (identifier, words, *pair)):
        raise DataError(
            f"{path}: record {index} is {shorten(record)}, expected a sentence and an identifier, "
            f"split-set-pair-sentence; {_REMEDY}"
        )
    return Question(id=identifier, images=pair, words=words, credits=_credits(record, identifier, path), type=ONE_TYPE)


def _credits(record: Mapping[str, Any], identifier: str, path: Path) -> Credits:
    """Return credit 1 for the label: a text in official files, 0 or 1 in LXMERT's. Raises DataError."""
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

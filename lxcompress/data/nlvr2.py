"""NLVR2 (Suhr et al. 2019): sentences over pairs of photographs, official JSON lines or LXMERT's JSON.

A sentence looks at the left image, then at the right one, named as LXMERT's features name them (dev-850-0-img0, -img1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lxcompress.data.files import read_records
from lxcompress.data.question_set import SplitQuestions, ask, read_part
from lxcompress.data.questions import Credits, Question, QuestionSet
from lxcompress.errors import DataError
from lxcompress.recipe import Nlvr2Data
from lxcompress.text import shorten

LABELS = ("False", "True")
"""A label's place here is its number in LXMERT's JSON."""
ONE_TYPE = "all"
_REMEDY = "give NLVR2's JSON lines as its authors publish them, or LXMERT's JSON"


def read_nlvr2(settings: Nlvr2Data) -> QuestionSet:
    """The sentences of both splits, each with its pair of images; a question's id is its identifier.

    Validation sentences without a label have no credits. Raises DataError.
    """
    return ask(_read_split("train", settings.train), _read_split("valid", settings.valid), labels=LABELS)


def image_names(identifier: str) -> tuple[str, str]:
    """The images of the example split-set-pair-sentence. Raises ValueError for another identifier."""
    stem, _, sentence = identifier.rpartition("-")
    if stem.count("-") != 2 or not sentence:
        raise ValueError(identifier)
    return f"{stem}-img0", f"{stem}-img1"


def _read_split(split: str, files: Sequence[Path]) -> SplitQuestions:
    remedy = f"{_REMEDY}, as in --set data.{split}=PATH"
    return read_part(
        files,
        lambda path: [_question(record, place, path) for place, record in enumerate(read_records(path, remedy=remedy))],
    )


def _question(record: Mapping[str, Any], place: int, path: Path) -> Question:
    identifier = record.get("identifier")
    is_lxmert = "sent" in record
    words = record.get("sent" if is_lxmert else "sentence")
    try:
        pair = (record.get("img0"), record.get("img1")) if is_lxmert else image_names(str(identifier))
    except ValueError:
        pair = (None, None)
    if not all(isinstance(each, str) for each in (identifier, words, *pair)):
        raise DataError(
            f"{path}: record {place} is {shorten(record)}, expected a sentence and an identifier, "
            f"split-set-pair-sentence; {_REMEDY}"
        )
    return Question(id=identifier, images=pair, words=words, credits=_credits(record, identifier, path), type=ONE_TYPE)


def _credits(record: Mapping[str, Any], identifier: str, path: Path) -> Credits:
    """The whole credit for the label: a text in official files, 0 or 1 in LXMERT's."""
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

"""Find the rows of LXMERT's pre-trained answer head that belong to the answers of a data set.

LXMERT's authors publish the pre-training answers as all_ans.json. It has 9,500 entries such as {"ans": "red", "dsets":
["vqa", "gqa"]}, in the order of the rows of the answer head.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lxcompress.data.files import read_json
from lxcompress.errors import DataError

_ARTICLES = ("a ", "an ", "the ")
_DIGITS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_SAME = {
    **{article + who: who for article in ("a ", "the ") for who in ("man", "woman")},
    **{word: str(digit) for digit, word in enumerate(_DIGITS, 1)},
    "grey": "gray",
}
"""The replacements of Tan & Bansal's convert_ans: answer -> its usual form. Most articles are removed before."""
_WANTED = 'give all_ans.json, a list of {"ans": "red", "dsets": ["vqa"]} in the order of the head\'s rows'


def read_answers(path: Path) -> tuple[str, ...]:
    """Return the answers of the pre-trained head in the file `path`, in the order of its rows. Raises DataError."""
    entries = read_json(path, remedy=_WANTED)
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{path}: expected a list of answers, got {type(entries).__name__}; {_WANTED}")
    answers: dict[str, int] = {}
    for index, entry in enumerate(entries):
        answer = entry.get("ans") if isinstance(entry, dict) else None
        if not isinstance(answer, str):
            raise DataError(f"{path}: entry {index} has no text under 'ans'; {_WANTED}")
        if answer in answers:
            raise DataError(f"{path}: entry {index} repeats {answer!r} of entry {answers[answer]}; {_WANTED}")
        answers[answer] = index
    return tuple(answers)


def find_rows(labels: Sequence[str], answers: Sequence[str]) -> tuple[int | None, ...]:
    """Return for each label the row of the same answer in the pre-trained head; None if the head lacks the answer."""
    rows = {answer: row for row, answer in enumerate(answers)}
    return tuple(rows.get(convert(label)) for label in labels)


def convert(label: str) -> str:
    """Return an answer in the form that pre-training used.

    The form has small letters, no full stop, no leading article, digits for number words, and `gray` for `grey`.
    Source: AnswerTable.convert_ans of Tan & Bansal's code, with the same order of steps.
    """
    text = label.lower()
    if text.endswith("."):
        text = text[:-1].strip()
    for article in _ARTICLES:
        if text.startswith(article):
            text = text[len(article) :].strip()
    return _SAME.get(text, text)

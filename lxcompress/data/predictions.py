"""Predictions as each data set's evaluation takes them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence

from lxcompress.text import escape_surrogates

Given = Sequence[tuple[int | str, str]]
"""(question id, answer) of each question, in the order of the questions file"""


def vqa_predictions(given: Given) -> str:
    """The evaluation server's JSON: a list of question_id and answer."""
    document = [{"question_id": number, "answer": answer} for number, answer in given]
    return escape_surrogates(json.dumps(document, ensure_ascii=False)) + "\n"


def gqa_predictions(given: Given) -> str:
    """GQA's JSON: a list of questionId and prediction."""
    return json.dumps([{"questionId": str(number), "prediction": answer} for number, answer in given]) + "\n"


def sentence_predictions(given: Given) -> str:
    """NLVR's and NLVR2's CSV: identifier and the truth value, without a header."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(given)
    return text.getvalue()


FORMATS: Mapping[str, Callable[[Given], str]] = {
    "vqa": vqa_predictions,
    "gqa": gqa_predictions,
    "nlvr2": sentence_predictions,
    "nlvr": sentence_predictions,
    "scenes": vqa_predictions,
    "clevr": vqa_predictions,
}
"""data.kind -> how its predictions are written; scenes and clevr have no evaluation server, and the form of VQA's."""


def format_predictions(kind: str, given: Given) -> str:
    """The text of a predictions file."""
    return FORMATS[kind](given)

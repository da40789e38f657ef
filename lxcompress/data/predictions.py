"""Predictions as each data set's evaluation takes them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from lxcompress.catalog.data_kinds import find_data_kind
from lxcompress.catalog.extensions import resolve
from lxcompress.data.vqa_score import (
    TypeScore,
    check_complete,
    check_known,
    keep_predicted,
    mean,
    mean_by,
    read_predictions,
)
from lxcompress.recipe import AnyData
from lxcompress.text import escape_surrogates

AnswerList = Sequence[tuple[int | str, str]]
"""(question id, answer) of each question, in the order of the questions file"""


def vqa_predictions(given: AnswerList) -> str:
    """The evaluation server's JSON: a list of question_id and answer."""
    document = [{"question_id": number, "answer": answer} for number, answer in given]
    return escape_surrogates(json.dumps(document, ensure_ascii=False)) + "\n"


def gqa_predictions(given: AnswerList) -> str:
    """GQA's JSON: a list of questionId and prediction."""
    return json.dumps([{"questionId": str(number), "prediction": answer} for number, answer in given]) + "\n"


def sentence_predictions(given: AnswerList) -> str:
    """NLVR's and NLVR2's CSV: identifier and the truth value, without a header."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(given)
    return text.getvalue()


def format_predictions(kind: str, given: AnswerList) -> str:
    """Return the text of a predictions file for a kind of data set."""
    text: str = resolve(find_data_kind(kind).write_predictions)(given)
    return text


def score_numbered(
    predictions: Path, settings: AnyData, *, only_predicted: bool = False
) -> tuple[TypeScore, dict[str, TypeScore], dict[int, float], int]:
    """Score predictions of data that number their validation questions by their order, as `predict` writes them.

    Returns the mean, those by answer type, the accuracy of each question, and how many are asked. Raises DataError.
    """
    from lxcompress.data.tasks import load_task

    where, task = str(predictions), load_task(whole_split(settings))
    said, right = read_predictions(predictions), task.valid.answers[:, 0].tolist()
    asked = dict(enumerate(zip(right, task.valid.types, strict=True)))
    check_known(said, asked, where=where, among=f"the validation questions of data.kind={settings.kind}")
    counted = keep_predicted(asked, said, where=where) if only_predicted else asked
    check_complete(said, counted, where=where)
    scores = {number: float(said[number] == task.labels[label]) for number, (label, _) in counted.items()}
    by_type = mean_by((kind, scores[number]) for number, (_, kind) in counted.items())
    return TypeScore(mean(scores.values()), len(scores)), by_type, scores, len(asked)


def whole_split(settings: AnyData) -> AnyData:
    """Return the settings without data.max_valid: predictions are of all validation questions."""
    return settings.model_copy(update={"max_valid": None}) if hasattr(settings, "max_valid") else settings

"""Write predictions in the format of each data set's evaluation; score those of data without official files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from lxcompress.catalog.data_kinds import find_data_kind
from lxcompress.catalog.extensions import resolve
from lxcompress.data.scoring import ScoreReport, doubt_partial
from lxcompress.data.vqa_score import (
    TypeScore,
    check_complete,
    check_known,
    keep_predicted,
    mean,
    mean_by,
    official_percent,
    read_predictions,
)
from lxcompress.recipe import AnyData
from lxcompress.text import escape_surrogates

AnswerList = Sequence[tuple[int | str, str]]
"""pairs (question id, answer), in the order of the questions file"""


def vqa_predictions(given: AnswerList) -> str:
    """Return the JSON for VQA's evaluation server: a list of objects with question_id and answer."""
    document = [{"question_id": number, "answer": answer} for number, answer in given]
    return escape_surrogates(json.dumps(document, ensure_ascii=False)) + "\n"


def vizwiz_predictions(given: AnswerList, answerable: Sequence[float] = ()) -> str:
    """Return the JSON for VizWiz's challenge: objects with image, answer and, if known, the probability `answerable`.

    The challenge has two tasks; the file of both has one object for each image.
    """
    document: list[dict[str, object]] = [{"image": image, "answer": answer} for image, answer in given]
    for record, share in zip(document, answerable, strict=False):
        record["answerable"] = round(share, 6)
    return escape_surrogates(json.dumps(document, ensure_ascii=False)) + "\n"


def gqa_predictions(given: AnswerList) -> str:
    """Return the JSON for GQA's evaluation: a list of objects with questionId and prediction."""
    return json.dumps([{"questionId": str(number), "prediction": answer} for number, answer in given]) + "\n"


def sentence_predictions(given: AnswerList) -> str:
    """Return the CSV for the evaluation of NLVR and NLVR2: lines of identifier and truth value, without a header."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(given)
    return text.getvalue()


def format_predictions(kind: str, given: AnswerList, answerable: Sequence[float] | None = None) -> str:
    """Return the text of a file with the predictions `given`, in the format of the kind of data set.

    `answerable` is the probability that each question can be answered, for a kind whose format has it.
    """
    write = resolve(find_data_kind(kind).write_predictions)
    text: str = write(given) if answerable is None else write(given, answerable)
    return text


def score_numbered(predictions: Path, settings: AnyData, *, only_predicted: bool = False) -> ScoreReport:
    """Return the scores of a file of predictions whose question ids are the indices of the validation questions.

    `predict` writes such files for data without official question files. Raises DataError.
    """
    from lxcompress.data.tasks import load_task

    where, task = str(predictions), load_task(whole_split(settings))
    given, right = read_predictions(predictions), task.valid.answers[:, 0].tolist()
    asked: dict[int | str, tuple[int, str]] = dict(enumerate(zip(right, task.valid.types, strict=True)))
    check_known(given, asked, where=where, among=f"the validation questions of data.kind={settings.kind}")
    counted = keep_predicted(asked, given, where=where) if only_predicted else asked
    check_complete(given, counted, where=where)
    scores = {number: float(given[number] == task.labels[label]) for number, (label, _) in counted.items()}
    return ScoreReport(
        overall=TypeScore(mean(scores.values()), len(scores)),
        groups={"answer type": mean_by((kind, scores[number]) for number, (_, kind) in counted.items())},
        per_question={number: official_percent(share) for number, share in scores.items()},
        doubts=doubt_partial(len(scores), len(asked)),
    )


def whole_split(settings: AnyData) -> AnyData:
    """Return the settings without data.max_valid, because predictions are made for all validation questions."""
    return settings.model_copy(update={"max_valid": None}) if hasattr(settings, "max_valid") else settings

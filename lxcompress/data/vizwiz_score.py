"""Compute the measures of the VizWiz-VQA challenge: the accuracy of answers, and how well answerability is known.

The rules are those of the challenge's evaluation code (Gurari et al. 2018, vizwiz.org/tasks-and-datasets/vqa). An
answer is normalised as in VQA, and the people's answers are not. Of answerability the code measures the *unanswerable*:
the average precision and the F1 score of 1 - `answerable`, with a threshold of 0.5.

Shapes: Q questions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lxcompress.data.scoring import ScoreFiles, ScoreReport, doubt_partial
from lxcompress.data.vizwiz import parse_answerable, parse_answers, read_records
from lxcompress.data.vqa_score import (
    ENOUGH,
    TypeScore,
    check_complete,
    check_known,
    keep_predicted,
    mean,
    mean_by,
    normalise,
    official_percent,
    read_list,
)
from lxcompress.errors import DataError
from lxcompress.text import shorten

PREDICTIONS_REMEDY = 'write [{"image": "VizWiz_val_00000000.jpg", "answer": "yes", "answerable": 0.9}]'
THRESHOLD = 0.5
"""A question counts as unanswerable if 1 - `answerable` is greater than this."""


@dataclass(frozen=True)
class VizwizPrediction:
    """A predicted answer, and the probability (0-1) that the question can be answered; None if it is not given."""

    answer: str
    answerable: float | None


@dataclass(frozen=True)
class VizwizAnswers:
    """The answers that people gave to one question, its type, and whether it can be answered."""

    answers: tuple[str, ...]
    type: str | None
    answerable: bool | None


def score_vizwiz_files(files: ScoreFiles) -> ScoreReport:
    """Return the official scores of a file of VizWiz predictions. Raises DataError."""
    where, among = str(files.predictions), str(files.questions)
    predictions, known = read_vizwiz_predictions(files.predictions), read_vizwiz_answers(files.questions)
    check_known(predictions, known, where=where, among=among)
    counted = keep_predicted(known, predictions, where=where) if files.only_predicted else known
    check_complete(predictions, counted, where=where)
    scores = {image: vizwiz_accuracy(predictions[image].answer, given.answers) for image, given in counted.items()}
    pairs = [(predictions[image].answerable, given.answerable) for image, given in counted.items()]
    shares = [share for share, is_answerable in pairs if share is not None and is_answerable is not None]
    doubts = doubt_partial(len(counted), len(known))
    measures = {}
    if len(shares) == len(pairs):
        unanswerable = np.array([not is_answerable for _, is_answerable in pairs])
        confidence = 1.0 - np.array(shares)
        measures = {
            "unanswerable, average precision": TypeScore(average_precision(unanswerable, confidence), len(pairs)),
            "unanswerable, F1": TypeScore(f1_score(unanswerable, confidence > THRESHOLD), len(pairs)),
        }
    else:
        doubts.append(
            f"answerability is not scored: {len(pairs) - len(shares)} of {len(pairs)} questions have no 'answerable' "
            "in the predictions or in the answers"
        )
    return ScoreReport(
        overall=TypeScore(mean(scores.values()), len(scores)),
        groups={"answer type": mean_by((given.type, scores[image]) for image, given in counted.items())},
        per_question={image: official_percent(share) for image, share in scores.items()},
        measures=measures,
        doubts=doubts,
    )


def vizwiz_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Return the accuracy (0-1) of `prediction` for one question.

    Each of `answers` is left out once; the accuracy is the mean of min(1, right answers among the others / 3).
    """
    said = normalise(prediction)
    equal = [answer == said for answer in answers]
    return math.fsum(min(1.0, (sum(equal) - is_equal) / ENOUGH) for is_equal in equal) / len(equal)


def average_precision(is_positive: np.ndarray, confidence: np.ndarray) -> float:
    """Return the average precision (0-1) of the confidence [Q] that a question is positive, bool [Q]; 0 without any.

    It is the sum over thresholds of precision times the gain in recall. Questions with equal confidence are found
    together, and nothing is interpolated.
    """
    if not is_positive.any():
        return 0.0
    _, index = np.unique(-confidence, return_inverse=True)
    found = np.bincount(index, weights=is_positive)
    precision = np.cumsum(found) / np.cumsum(np.bincount(index))
    return float((precision * found).sum() / is_positive.sum())


def f1_score(is_positive: np.ndarray, said: np.ndarray) -> float:
    """Return the F1 score (0-1) of saying `said` (bool [Q]): the harmonic mean of precision and recall, or 0."""
    right = int((is_positive & said).sum())
    wrong = int((is_positive != said).sum())
    return 2 * right / (2 * right + wrong) if right else 0.0


def read_vizwiz_predictions(path: Path) -> dict[str, VizwizPrediction]:
    """Return the name of an image -> the prediction for its question. Raises DataError."""
    predictions: dict[str, VizwizPrediction] = {}
    for index, record in enumerate(read_list(path, remedy=PREDICTIONS_REMEDY)):
        fields = record if isinstance(record, dict) else {}
        image, answer, answerable = (fields.get(name) for name in ("image", "answer", "answerable"))
        if not (isinstance(image, str) and isinstance(answer, str) and _is_share(answerable)):
            raise DataError(
                f"{path}: prediction {index} is {shorten(record)}, expected an image, an answer, and 0 to 1 as "
                f"answerable, which may be left out; {PREDICTIONS_REMEDY}"
            )
        if image in predictions:
            raise DataError(f"{path}: image {image} is predicted twice; keep one prediction of each image")
        predictions[image] = VizwizPrediction(answer, answerable)
    return predictions


def read_vizwiz_answers(path: Path) -> dict[str, VizwizAnswers]:
    """Return the name of an image -> the answers to its question, from the official JSON. Raises DataError."""
    known: dict[str, VizwizAnswers] = {}
    for index, record in enumerate(read_records(path)):
        where, fields = f"{path}: question {index}", record if isinstance(record, dict) else {}
        image, kind = fields.get("image"), fields.get("answer_type")
        answers = parse_answers(fields, where)
        if not isinstance(image, str) or not answers:
            raise DataError(f"{where} is {shorten(record)}, expected an image and answers; give a split with answers")
        if image in known:
            raise DataError(f"{path}: image {image} comes twice; give a file with each image once")
        known[image] = VizwizAnswers(answers, kind if isinstance(kind, str) else None, parse_answerable(fields, where))
    return known


def _is_share(value: Any) -> bool:
    """Return whether a value is a number of 0 to 1, or missing."""
    return value is None or (type(value) in (int, float) and 0 <= value <= 1)

"""Compute the GQA accuracy (Hudson and Manning 2019) as in the official eval.py: exact match, balanced questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lxcompress.data.files import field, read_json
from lxcompress.data.scoring import ScoreFiles, ScoreReport, doubt_partial, doubt_unused
from lxcompress.data.vqa_score import (
    NO_FILE_REMEDY,
    TypeScore,
    check_complete,
    keep_predicted,
    mean,
    mean_by,
    official_percent,
    read_list,
)
from lxcompress.errors import DataError
from lxcompress.text import shorten

QUERY = "query"
"""The structural type of open questions. Questions of the other types (verify, compare, choose, logical) are binary."""
PREDICTIONS_REMEDY = 'write GQA\'s format, [{"questionId": "1", "prediction": "yes"}]'


@dataclass(frozen=True)
class GqaQuestion:
    """The fields of a question that the score needs."""

    answer: str
    structural: str | None = None
    semantic: str | None = None


@dataclass(frozen=True)
class GqaScore:
    """The GQA accuracies, 0-1. Types are sorted by decreasing number of questions; None is no type."""

    overall: float
    per_answer_form: dict[str, TypeScore]
    """the accuracy of open and of binary questions; the structural type decides which a question is"""
    per_structural_type: dict[str, TypeScore]
    per_semantic_type: dict[str, TypeScore]
    per_question: dict[str, float]


def score_gqa_files(files: ScoreFiles) -> ScoreReport:
    """Return the official scores of a file of GQA predictions. Raises DataError."""
    where = str(files.predictions)
    predictions, questions = read_gqa_predictions(files.predictions), read_gqa_questions(files.questions)
    counted = keep_predicted(questions, predictions, where=where) if files.only_predicted else questions
    score = score_gqa(predictions, counted, where=where)
    return ScoreReport(
        overall=TypeScore(score.overall, len(counted)),
        groups={
            "answer form": score.per_answer_form,
            "structural type": score.per_structural_type,
            "semantic type": score.per_semantic_type,
        },
        per_question={question: official_percent(share) for question, share in score.per_question.items()},
        doubts=doubt_partial(len(counted), len(questions)) + doubt_unused(len(predictions), len(counted)),
    )


def score_gqa(
    predictions: Mapping[str, str], questions: Mapping[str, GqaQuestion], *, where: str = "the predictions"
) -> GqaScore:
    """Return the official accuracies of `predictions`.

    An answer is right if it is equal letter by letter; nothing is normalised. Predictions for questions that are not in
    `questions` are ignored, as in the official code. Raises DataError, which names `where`, if a question has no
    prediction.
    """
    check_complete(predictions, questions, where=where)
    scores = {key: float(predictions[key] == question.answer) for key, question in questions.items()}
    return GqaScore(
        overall=mean(scores.values()),
        per_answer_form=mean_by((_form(question.structural), scores[key]) for key, question in questions.items()),
        per_structural_type=mean_by((question.structural, scores[key]) for key, question in questions.items()),
        per_semantic_type=mean_by((question.semantic, scores[key]) for key, question in questions.items()),
        per_question=scores,
    )


def read_gqa_predictions(path: Path) -> dict[str, str]:
    """Return questionId -> answer, from a JSON list in GQA's submission format. Raises DataError."""
    predictions: dict[str, str] = {}
    for index, record in enumerate(read_list(path, remedy=PREDICTIONS_REMEDY)):
        question, answer = field(record, "questionId", str), field(record, "prediction", str)
        if question is None or answer is None:
            is_vqa = field(record, "question_id", int) is not None
            raise DataError(
                f"{path}: prediction {index} is {shorten(record)}, expected a text as questionId and as prediction; "
                + ("score VQA's predictions with --kind vqa" if is_vqa else PREDICTIONS_REMEDY)
            )
        if question in predictions:
            raise DataError(f"{path}: questionId {question} is predicted twice; keep one prediction of each question")
        predictions[question] = answer
    return predictions


def read_gqa_questions(path: Path) -> dict[str, GqaQuestion]:
    """Return question id -> GqaQuestion, for the balanced questions in GQA's questions JSON. Raises DataError."""
    document = read_json(path, remedy=NO_FILE_REMEDY)
    if not isinstance(document, dict) or not document:
        raise DataError(
            f"{path}: does not hold questions by their id; give GQA's questions JSON as its authors publish it"
        )
    questions = {}
    for key, record in document.items():
        answer = field(record, "answer", str)
        if answer is None:
            raise DataError(
                f"{path}: question {key} is {shorten(record)}, expected one with an answer; give GQA's questions JSON "
                "of train, val or testdev (the others have no answers)"
            )
        if not record.get("isBalanced", True):
            continue
        types = field(record, "types", dict)
        questions[key] = GqaQuestion(answer, field(types, "structural", str), field(types, "semantic", str))
    if not questions:
        raise DataError(f"{path}: none of its {len(document)} questions is balanced; give a file with balanced ones")
    return questions


def _form(structural: str | None) -> str | None:
    """Return the answer form of a structural type, "open" or "binary"; None without a structural type."""
    if structural is None:
        return None
    return "open" if structural == QUERY else "binary"

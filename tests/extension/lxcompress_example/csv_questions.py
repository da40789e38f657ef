"""The data kind `csv`: questions and answers from one CSV file, the features of their images from another."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from lxcompress.catalog.data_kinds import DataKindSpec
from lxcompress.data.check_context import CheckContext
from lxcompress.data.files import read_text
from lxcompress.data.images import ListedImages
from lxcompress.data.predictions import AnswerList
from lxcompress.data.problems import Problems
from lxcompress.data.question_set import check_has_answers, check_splits_differ, read_split
from lxcompress.data.questions import Question, QuestionSet, SplitQuestions, count_answers
from lxcompress.data.scoring import ScoreFiles, ScoreReport
from lxcompress.data.vqa_score import TypeScore, check_complete, mean
from lxcompress.errors import DataError
from lxcompress.recipe import RecipeSection

QUESTION_COLUMNS = ("split", "id", "image", "question", "answer")
REGION_COLUMNS = ("image", "x1", "y1", "x2", "y2")


class CsvData(RecipeSection):
    """Questions and answers in one CSV file, and a row for each region of an image in another."""

    kind: Literal["csv"]
    questions: Path
    regions: Path
    tokens: Annotated[int, Field(ge=4, le=512)] = 20


def read_csv_questions(settings: CsvData, problems: Problems) -> QuestionSet:
    """Read the questions of both splits and the regions of their images; the labels are all training answers."""
    images = ListedImages(problems.attempt(lambda: read_regions(settings.regions)) or {})

    def read(name: str) -> SplitQuestions:
        rows = read_split(name, (settings.questions,), lambda path: read_rows(path, name, problems), problems)
        check_has_answers(rows, "fill the column answer", "fill the column answer", problems)
        return replace(rows, images=images)

    train, valid = read("train"), read("valid")
    check_splits_differ(train, valid, problems)
    return QuestionSet(train, valid, count_answers(train.questions, 1), settings.tokens)


def read_rows(path: Path, split: str, problems: Problems) -> list[Question]:
    """Return the questions of one split."""

    def read(row: dict[str, str], index: int) -> Question:
        if not row["id"] or not row["image"]:
            raise DataError(f"{path}: row {index} has no id or no image, expected both; fill the row")
        credits = {row["answer"]: 1.0} if row["answer"] else {}
        return Question(row["id"], (row["image"],), row["question"], credits, type="all")

    return problems.read_records([row for row in read_table(path, QUESTION_COLUMNS) if row["split"] == split], read)


def read_regions(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return image -> features [O, F] and boxes [O, 4], 0-1, in the order of the file."""
    rows: dict[str, list[list[float]]] = defaultdict(list)
    for index, row in enumerate(read_table(path, REGION_COLUMNS)):
        try:
            rows[row["image"]].append([float(value) for name, value in row.items() if name != "image"])
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}: row {index} is not an image and numbers ({error}); correct it") from None
    arrays = {image: np.asarray(values, dtype=np.float32) for image, values in rows.items()}
    return {image: (array[:, 4:], array[:, :4]) for image, array in arrays.items()}


def read_table(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Return the rows of a CSV file that has these columns. Raises DataError."""
    table = csv.DictReader(io.StringIO(read_text(path, remedy="give a CSV file", kind="CSV")), restval="")
    missing = [name for name in columns if name not in (table.fieldnames or ())]
    if missing:
        raise DataError(f"{path}: has no column {missing[0]}, expected {', '.join(columns)}; add it")
    return list(table)


def check_csv(context: CheckContext) -> None:
    """Add the number of regions of each split to the facts of `lxcompress data check`."""
    regions = {}
    for name, split in context.question_set.splits.items():
        assert isinstance(split.images, ListedImages)
        used = {question.images[0] for question in context.used.get(name, ())}
        regions[name] = sum(len(found) for image, (found, _) in split.images.images.items() if image in used)
    context.sheet.add("regions", regions)


def score_csv(files: ScoreFiles) -> ScoreReport:
    """Return the share of predictions that equal the answer of their question."""
    answers = {row["id"]: row["answer"] for row in read_table(files.questions, QUESTION_COLUMNS) if row["answer"]}
    given = {row["id"]: row["answer"] for row in read_table(files.predictions, ("id", "answer"))}
    asked = {name: answer for name, answer in answers.items() if name in given or not files.only_predicted}
    check_complete(given, asked, where=str(files.predictions))
    scores = {name: float(given[name] == answer) for name, answer in asked.items()}
    per_question = {name: 100 * score for name, score in scores.items()}
    return ScoreReport(TypeScore(mean(scores.values()), len(scores)), groups={}, per_question=per_question)


def write_csv(given: AnswerList) -> str:
    """Return predictions as CSV: id and answer, with a header."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("id", "answer"), *given])
    return text.getvalue()


CSV = DataKindSpec(
    name="csv",
    settings="lxcompress_example.csv_questions:CsvData",
    read="lxcompress_example.csv_questions:read_csv_questions",
    check="lxcompress_example.csv_questions:check_csv",
    score="lxcompress_example.csv_questions:score_csv",
    write_predictions="lxcompress_example.csv_questions:write_csv",
)

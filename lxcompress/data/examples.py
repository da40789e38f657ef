"""Read the data kind `examples`: a table of examples, whose columns the recipe names, beside a folder of images.

An example is a question: its text is what is asked, its label is the answer. A table may have texts, images or both.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lxcompress.catalog.extensions import resolve
from lxcompress.data.bert_rules import SEPARATE
from lxcompress.data.problems import Problems, few
from lxcompress.data.question_set import (
    check_has_answers,
    check_splits_differ,
    find_labels,
    parse_credits,
    read_split,
)
from lxcompress.data.questions import Credits, Question, QuestionSet, SplitQuestions, count_answers
from lxcompress.data.tables import Row, read_table
from lxcompress.errors import DataError
from lxcompress.recipe import ExampleColumns, ExamplesData
from lxcompress.text import parse_json, shorten

ONE_TYPE = "all"
SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test",),
}
"""name of a split -> the values of the column `split` that mean it"""
_FOLDER_IMAGES = "lxcompress.extractors.folder:FolderImages"
"""The image source that decodes photographs. It is named as text, because the extractors build on this package."""


def read_examples(settings: ExamplesData, problems: Problems) -> QuestionSet:
    """Read the rows of the splits. The labels are those of `data.answers`, or those of the training rows."""
    splits = [
        _read_split(settings, name, problems)
        for name in ("train", "valid", "test")
        if getattr(settings, name) is not None
    ]
    train, valid, *test = splits
    check_splits_differ(train, valid, problems, test=test[0] if test else None)
    least = settings.least_answers or 1
    labels = find_labels(settings.answers, splits, lambda: count_answers(train.questions, least), problems)
    if labels is not None:
        problems.attempt(lambda: _check_labels_differ(labels, train, settings))
    if settings.columns.image is not None and (settings.images or settings.features) is None:
        problems.warn(
            train.where,
            "names images that no model will see; give their folder as data.images, or a store as data.features",
        )
    has_ids = settings.columns.id is not None
    return QuestionSet(train, valid, labels, settings.tokens, has_ids=has_ids, test=test[0] if test else None)


def _read_split(settings: ExamplesData, name: str, problems: Problems) -> SplitQuestions:
    """Return the rows of the split `name`, with the images of the folder that the settings name."""
    files: tuple[Path, ...] = getattr(settings, name)
    split = read_split(name, files, lambda path: _read_file(path, name, settings.columns, problems), problems)
    if split.questions:
        column = f"fill its column {settings.columns.label!r}, or correct data.columns.label"
        check_has_answers(split, column, column, problems)
    if settings.images is None:
        return split
    images = resolve(_FOLDER_IMAGES)(settings.images, settings.pixels)
    return SplitQuestions(split.name, split.questions, split.paths, split.files, split.is_complete, images)


def _read_file(path: Path, split: str, columns: ExampleColumns, problems: Problems) -> list[Question]:
    """Return the questions of one table that belong to `split`. Raises DataError."""
    rows = read_table(path)
    for setting, column in columns:
        if column is not None and not any(column in row for row in rows):
            raise DataError(
                f"{path}: has no column {column!r}, which data.columns.{setting} names; its columns are "
                f"{few(map(repr, rows[0]))}"
            )
    chosen = [(number, row) for number, row in enumerate(rows, 1) if _is_of_split(row, split, columns.split)]
    if not chosen:
        raise DataError(
            f"{path}: has no row for the split {split}; write {split} in the column {columns.split!r} of some rows"
        )
    is_labelled = any(_has_label(row, columns) for _, row in chosen)

    def read(record: tuple[int, Row], _: int) -> Question:
        number, row = record
        if is_labelled and not _has_label(row, columns):
            raise DataError(
                f"{path}: row {number} has no label in the column {columns.label!r}, expected one in each row; fill "
                "it, or take the row out"
            )
        return _read_example(row, number, path, columns)

    return problems.read_records(chosen, read)


def _is_of_split(row: Row, split: str, column: str | None) -> bool:
    """Return whether a row belongs to `split`; without a column of splits, all rows of the file do."""
    return column is None or str(row.get(column)).strip().lower() in SPLIT_NAMES[split]


def _has_label(row: Row, columns: ExampleColumns) -> bool:
    """Return whether a row has a label; {} is one, which says that no answer has a credit."""
    return row.get(columns.label) not in (None, "")


def _read_example(row: Row, number: int, path: Path, columns: ExampleColumns) -> Question:
    """Return a row as a question. Raises DataError."""
    where = f"{path}: row {number}"
    texts = [_read_text(row, name, where) for name in (columns.text, columns.second_text) if name is not None]
    image = "" if columns.image is None else _read_name(row, columns.image, where)
    return Question(
        id=f"{path}:{number}" if columns.id is None else _read_name(row, columns.id, where),
        images=(image,),
        words=f" {SEPARATE} ".join(texts),
        credits=_read_label(row.get(columns.label), where, columns.label),
        type=ONE_TYPE,
    )


def _read_text(row: Row, column: str, where: str) -> str:
    """Return the text in a column. Raises DataError for anything else."""
    value = row.get(column)
    if not isinstance(value, str):
        raise DataError(f"{where} has {shorten(value)} in the column {column!r}, expected a text; correct the row")
    return value


def _read_name(row: Row, column: str, where: str) -> str:
    """Return the name in a column: a text, or a whole number as text. Raises DataError for anything else."""
    value = row.get(column)
    name = str(value) if type(value) in (str, int) else ""
    if not name.strip():
        raise DataError(
            f"{where} has {shorten(value)} in the column {column!r}, expected a name or a whole number; correct the row"
        )
    return name


def _read_label(value: Any, where: str, column: str) -> Credits:
    """Return the credit of each label of a row; nothing for an empty cell. Raises DataError for an invalid label.

    In CSV, soft labels are JSON text: {"yes": 1.0, "no": 0.3}.
    """
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = parse_json(value)
        except (ValueError, RecursionError) as problem:
            raise DataError(
                f"{where} has soft labels in the column {column!r} that are not JSON ({problem}); write them as in "
                '{"yes": 1.0, "no": 0.3}'
            ) from None
    if value is None or value == "":
        return {}
    if isinstance(value, dict):
        soft = {label: credit for label, credit in value.items() if credit is not None}  # Parquet fills absent keys
        return parse_credits(soft, where, remedy="correct the row")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) not in (str, int, bool):
        raise DataError(
            f"{where} has {shorten(value)} in the column {column!r}, expected a text, a whole number or "
            "{label: credit}; correct the row"
        )
    return {sys.intern(str(value)): 1.0}


def _check_labels_differ(labels: tuple[str, ...], train: SplitQuestions, settings: ExamplesData) -> None:
    """Raise DataError unless there are two labels or more: with one there is nothing to learn."""
    if len(labels) > 1:
        return
    if not labels:
        raise DataError(
            f"{train.where}: has no label that {settings.least_answers} rows share; give a smaller data.least_answers"
        )
    raise DataError(
        f"{train.where}: has the same label in every row, {shorten(labels[0])} in the column "
        f"{settings.columns.label!r}, so there is nothing to learn; give rows of other labels, or correct "
        "data.columns.label"
    )

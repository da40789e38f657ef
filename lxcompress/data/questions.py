"""Question and QuestionSet, and the function that builds a Split (tensors) from them.

Shapes: Q questions, P images of a question, L tokens, K answers of a question, C choices, S images, O regions,
F features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from lxcompress.data.facts import SPLITS, Fact
from lxcompress.data.problems import Problems
from lxcompress.data.split import NO_LABEL, Regions, Split
from lxcompress.data.tokens import Vocabulary, tokenize
from lxcompress.errors import DataError

Credits = Mapping[str, float]
"""answer -> credit, 0-1"""


@dataclass(frozen=True)
class Question:
    """One question, with the credit (0-1) of each answer. A question without published answers has none."""

    id: int | str
    images: tuple[str, ...]
    """the names of its images; the name is empty if the data set has no images"""
    words: str
    """the text; it is empty if the data set has no texts"""
    credits: Credits
    type: str
    """the type by which scores are grouped: the answer type in VQA, the structural type in GQA"""
    choices: tuple[str, ...] = ()
    """the answers that a multiple-choice question offers"""
    family: str = ""
    """the group of questions with similar wording, if the data set names groups: the question type in VQA"""


class ImageSource(Protocol):
    """A source of the images of a split: a store of region features, or scenes that the data set describes."""

    def find(
        self, questions: Sequence[Question], split: SplitQuestions, problems: Problems
    ) -> tuple[Regions, list[list[int]]]:
        """Return regions, and for each of `questions` the rows of its images in these regions; -1 for a missing image.

        The questions are from `split`. Problems are reported to `problems`.
        """
        ...


@dataclass(frozen=True)
class SplitQuestions:
    """The questions of one split as they are in its files. Their credits include answers that have no label."""

    name: str
    questions: Sequence[Question]
    paths: tuple[Path, ...] = ()
    """the files of the split"""
    files: Mapping[int | str, Path] = field(default_factory=dict)
    """question id -> the file that has the question"""
    is_complete: bool = True
    """whether every file could be read"""
    images: ImageSource | None = None
    """the images of the data set itself; None if they are in the store that the recipe names, or if there are none"""

    @property
    def where(self) -> str:
        """Return the beginning of an error message about the whole split: its first file, or "data"."""
        return str(self.paths[0]) if self.paths else "data"

    @property
    def has_answers(self) -> bool:
        """Return whether any question has an answer."""
        return any(question.credits for question in self.questions)

    def file_of(self, question: Question) -> str:
        """Return the file that has `question`; if it is not known, the first file of the split."""
        return str(self.files.get(question.id, self.where))


@dataclass(frozen=True)
class QuestionSet:
    """The questions of the splits, and the answers that a model may give."""

    train: SplitQuestions
    valid: SplitQuestions
    labels: tuple[str, ...] | None
    """the answers, in the order of their labels; None if errors in the files leave them unknown"""
    token_limit: int
    """the most tokens of a question; longer questions are cut"""
    has_ids: bool = True
    """whether the data set gives ids to its questions; if not, the id of a question is its index"""
    facts: tuple[Fact, ...] = ()
    """facts for the report of `data check` that only the reader of the files knows"""
    test: SplitQuestions | None = None
    """the questions that only what was picked is scored on; None without a test split"""

    @property
    def splits(self) -> dict[str, SplitQuestions]:
        """Return the splits that there are: name -> split."""
        named = zip(SPLITS, (self.train, self.valid, self.test), strict=True)
        return {name: split for name, split in named if split is not None}

    def first(self, settings: Any) -> dict[str, Sequence[Question]]:
        """Return the questions that a study uses: the first data.max_train, max_valid and max_test of the splits.

        A split without questions is left out.
        """
        limits = {name: getattr(settings, f"max_{name}", None) for name in SPLITS}
        return {name: split.questions[: limits[name]] for name, split in self.splits.items() if split.questions}


def build_split(
    questions: Sequence[Question],
    split: SplitQuestions,
    images: ImageSource,
    question_set: QuestionSet,
    vocabulary: Vocabulary,
) -> Split:
    """Return the Split of `questions`, which are from `split`; tokenize them with `vocabulary`.

    Credits of answers without a label are left out, because a model cannot give those answers. Raises DataError if
    there is no question, or if `images` lacks an image.
    """
    if not questions:
        raise DataError(f"{split.where}: has no question left for this split; give a file with questions")
    label = {answer: index for index, answer in enumerate(question_set.labels or ())}
    answers, credits = _pad_credits([question.credits for question in questions], label)
    regions, rows = images.find(questions, split, Problems.strict())
    words = [question.words for question in questions]
    return Split(
        input_ids=torch.from_numpy(tokenize(words, vocabulary, question_set.token_limit)),
        scene=_image_rows(rows),
        regions=regions,
        answers=answers,
        credits=credits,
        types=tuple(question.type for question in questions),
        ids=tuple(question.id for question in questions) if question_set.has_ids else (),
        choices=_pad_choices([question.choices for question in questions], label),
        families=tuple(question.family for question in questions) if questions[0].family else (),
    )


def count_answers(questions: Iterable[Question], least: int) -> tuple[str, ...]:
    """Return the answers that at least `least` questions give credit to, by decreasing frequency, then by text."""
    counts: dict[str, int] = {}
    for question in questions:
        for answer in question.credits:
            counts[answer] = counts.get(answer, 0) + 1
    frequent = (answer for answer, count in counts.items() if count >= least)
    return tuple(sorted(frequent, key=lambda answer: (-counts[answer], answer)))


def _image_rows(rows: Sequence[Sequence[int]]) -> Tensor:
    """Return the rows of the questions' images as int64 [Q], or [Q, P] for questions about P > 1 images."""
    found = torch.tensor([list(images) for images in rows], dtype=torch.int64)
    return found[:, 0] if found.shape[1] == 1 else found


def _pad_credits(credits: Sequence[Credits], label: Mapping[str, int]) -> tuple[Tensor, Tensor]:
    """Return the labels and the credits of each question's answers, both [Q, K], padded with label 0 and credit 0."""
    known = [[(label[answer], credit) for answer, credit in given.items() if answer in label] for given in credits]
    most = max(1, max(len(pairs) for pairs in known))
    answers, values = np.zeros((len(known), most), dtype=np.int64), np.zeros((len(known), most), dtype=np.float32)
    for row, pairs in enumerate(known):
        for column, (index, credit) in enumerate(pairs):
            answers[row, column], values[row, column] = index, credit
    return torch.from_numpy(answers), torch.from_numpy(values)


def _pad_choices(choices: Sequence[tuple[str, ...]], label: Mapping[str, int]) -> Tensor | None:
    """Return the labels of the choices, int64 [Q, C], padded with NO_LABEL; None if no question is multiple-choice."""
    known = [[label[choice] for choice in offered if choice in label] for offered in choices]
    most = max(len(labels) for labels in known)
    if not most:
        return None
    padded = [labels + [NO_LABEL] * (most - len(labels)) for labels in known]
    return torch.tensor(padded, dtype=torch.int64)

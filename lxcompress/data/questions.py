"""Question: one asked thing as its data set publishes it, and the Split that questions over a region store make.

Shapes: Q questions, P images of a question, L tokens, K answers of a question, C choices, S images, O regions,
F features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lxcompress.data.regions.store import RegionStore
from lxcompress.data.split import NO_LABEL, Regions, Split
from lxcompress.data.tokens import Vocabulary, tokenize
from lxcompress.errors import DataError
from lxcompress.text import shorten

Credits = Mapping[str, float]
"""answer -> credit, 0-1"""


@dataclass(frozen=True)
class Question:
    """One question with the credit of each answer; a test question has none."""

    id: int | str
    images: tuple[str, ...]
    words: str
    credits: Credits
    type: str
    """what scores are broken down by: VQA's answer type, GQA's structural type"""
    choices: tuple[str, ...] = ()
    """the answers of a multiple-choice question"""
    family: str = ""
    """the kind of question by its wording, where the data set names one: VQA's question type"""


@dataclass(frozen=True)
class QuestionSet:
    """What a data set asks: the questions of both splits, and the answers that a model may give."""

    train: tuple[Question, ...]
    valid: tuple[Question, ...]
    labels: tuple[str, ...]


def build_split(
    questions: Sequence[Question],
    *,
    regions: Regions,
    rows: Sequence[Sequence[int]],
    labels: Sequence[str],
    vocabulary: Vocabulary,
    limit: int,
    where: str,
) -> Split:
    """The Split of `questions`; `rows[q]` are the places of question q's images in `regions`.

    Credits of answers that are not among `labels` are left out, as no model can give those answers. Raises DataError
    for an empty list; `where` names its file.
    """
    if not questions:
        raise DataError(f"{where}: has no question left for this split; give a file with questions")
    label = {answer: place for place, answer in enumerate(labels)}
    answers, credits = _pad_credits([question.credits for question in questions], label)
    return Split(
        input_ids=torch.from_numpy(tokenize([question.words for question in questions], vocabulary, limit)),
        scene=_places(rows),
        regions=regions,
        answers=answers,
        credits=credits,
        types=tuple(question.type for question in questions),
        ids=tuple(question.id for question in questions),
        choices=_pad_choices([question.choices for question in questions], label),
        families=tuple(question.family for question in questions) if questions[0].family else (),
    )


def find_images(questions: Sequence[Question], store: RegionStore, where: Path, store_path: Path) -> list[list[int]]:
    """The rows of each question's images in `store`. Raises DataError if some are missing."""
    rows, missing = [], []
    for question in questions:
        found = []
        for image in question.images:
            try:
                found.append(store.row(image))
            except KeyError:
                missing.append(image)
        rows.append(found)
    if missing:
        raise DataError(
            f"{where}: asks about {len(set(missing))} images that {store_path} lacks ({missing[0]} is the first); "
            f"{explain_missing(missing, store)}"
        )
    return rows


def explain_missing(missing: Sequence[str], store: RegionStore) -> str:
    """What to do about images that a store lacks."""
    longer = store.find_longer(missing)
    if longer is None:
        return "convert the features of this split too: lxcompress data prepare"
    return (
        f"the questions say {shorten(longer[0])} and the features {shorten(longer[1])}: convert them with "
        "lxcompress data prepare --strip-extension"
    )


def stored_regions(store: RegionStore) -> Regions:
    """The store's arrays as tensors over the same memory map: nothing is read yet."""
    return Regions(
        features=torch.from_numpy(store.features),
        boxes=torch.from_numpy(store.boxes),
        objects=torch.from_numpy(np.asarray(store.objects, dtype=np.int64)),
    )


def blind_regions(feature_size: int) -> Regions:
    """One image of one region that shows nothing: a model that reads it answers from the question alone."""
    return Regions(
        features=torch.zeros(1, 1, feature_size), boxes=torch.zeros(1, 1, 4), objects=torch.ones(1, dtype=torch.int64)
    )


def count_answers(questions: Sequence[Question], least: int) -> tuple[str, ...]:
    """The answers that are credited in at least `least` questions, the commonest first, then by text."""
    counts: dict[str, int] = {}
    for question in questions:
        for answer in question.credits:
            counts[answer] = counts.get(answer, 0) + 1
    return tuple(sorted((answer for answer, count in counts.items() if count >= least), key=lambda a: (-counts[a], a)))


def _places(rows: Sequence[Sequence[int]]) -> Tensor:
    """int64 [Q], or [Q, P] for questions about several images."""
    places = torch.tensor([list(each) for each in rows], dtype=torch.int64)
    return places[:, 0] if places.shape[1] == 1 else places


def _pad_credits(credits: Sequence[Credits], label: Mapping[str, int]) -> tuple[Tensor, Tensor]:
    """`answers` and `credits` [Q, K], padded with label 0 at credit 0."""
    known = [[(label[answer], credit) for answer, credit in each.items() if answer in label] for each in credits]
    most = max(1, max(len(each) for each in known))
    answers, values = np.zeros((len(known), most), dtype=np.int64), np.zeros((len(known), most), dtype=np.float32)
    for row, each in enumerate(known):
        for column, (place, credit) in enumerate(each):
            answers[row, column], values[row, column] = place, credit
    return torch.from_numpy(answers), torch.from_numpy(values)


def _pad_choices(choices: Sequence[tuple[str, ...]], label: Mapping[str, int]) -> Tensor | None:
    """int64 [Q, C], padded with NO_LABEL; None where no question is multiple-choice."""
    known = [[label[choice] for choice in each if choice in label] for each in choices]
    most = max(len(each) for each in known)
    if not most:
        return None
    padded = [each + [NO_LABEL] * (most - len(each)) for each in known]
    return torch.tensor(padded, dtype=torch.int64)

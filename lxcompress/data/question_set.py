"""Functions to build a QuestionSet from question files, and checks that several data sets use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lxcompress.data.files import read_labels
from lxcompress.data.ids import name_id
from lxcompress.data.problems import Problems, few, percent, several
from lxcompress.data.questions import Credits, Question, SplitQuestions
from lxcompress.errors import DataError
from lxcompress.text import shorten

LEAST_ANSWERABLE = 0.5
"""If an answer vocabulary has an answer to no more than this fraction of a split's questions, it is an error: the
vocabulary belongs to another data set."""


def read_split(
    name: str, paths: Sequence[Path], read: Callable[[Path], Sequence[Question]], problems: Problems
) -> SplitQuestions:
    """Read the files `paths` with `read`; return their questions, in order, as a split. A repeated id is an error."""
    questions: list[Question] = []
    files: dict[int | str, Path] = {}
    repeated: dict[str, list[int | str]] = {}
    is_complete = bool(paths)
    for path in paths:
        problems.progress(f"reading {path.name}")
        found = problems.attempt(lambda: read(path))  # noqa: B023 (called at once)
        is_complete &= bool(found)
        for question in found or ():
            first = files.get(question.id)
            if first is None:
                files[question.id] = path
                questions.append(question)
            else:
                repeated.setdefault(str(path) if first == path else f"{first} and {path}", []).append(question.id)
    for where, ids in repeated.items():
        verb = "comes" if len(ids) == 1 else "come"
        problems.add(
            DataError(f"{where}: {several(ids, 'question id')} {verb} twice; give files with each question once")
        )
    problems.attempt(lambda: _check_one_type(files))
    return SplitQuestions(name, questions, tuple(paths), files, is_complete)


def check_has_answers(split: SplitQuestions, train_remedy: str, valid_remedy: str, problems: Problems) -> None:
    """Report a split without any answer: an error for train and test, a warning for the validation split.

    The remedy for the test split is `valid_remedy`.
    """
    if split.has_answers:
        return
    if split.name == "train":
        problems.add(DataError(f"{split.where}: has no answers to learn from; {train_remedy}"))
    elif split.name == "test":
        problems.add(
            DataError(
                f"{split.where}: has no answers, so nothing can be tested; {valid_remedy}, or leave data.test out"
            )
        )
    else:
        problems.warn(split.where, f"has no answers, so nothing can be scored; {valid_remedy}")


def check_splits_differ(
    train: SplitQuestions, valid: SplitQuestions, problems: Problems, *, test: SplitQuestions | None = None
) -> None:
    """Report questions that are in two splits as an error, and images that are in two as a warning."""
    _check_two_differ(train, valid, "validate on questions that are not trained on", problems)
    for split in (train, valid):
        if test is not None:
            _check_two_differ(split, test, "test on questions that nothing was trained on or picked with", problems)


def _check_two_differ(train: SplitQuestions, valid: SplitQuestions, remedy: str, problems: Problems) -> None:
    """Report questions that are in both splits as an error with `remedy`, and images that are in both as a warning."""
    train_ids = {question.id: question for question in train.questions}
    shared = [question for question in valid.questions if question.id in train_ids]
    if shared:
        ids, verb = [question.id for question in shared], "is" if len(shared) == 1 else "are"
        other = train.file_of(train_ids[ids[0]])
        problems.add(
            DataError(f"{valid.file_of(shared[0])}: {several(ids, 'question id')} {verb} in {other} too; {remedy}")
        )
        return  # a warning about their images would repeat the error
    trained = {image: question for question in train.questions for image in question.images if image}
    scored = {image: question for question in valid.questions for image in question.images if image}
    both = [image for image in scored if image in trained]
    if both:
        problems.warn(
            valid.file_of(scored[both[0]]),
            f"{len(both):,} of {len(scored):,} images are in {train.file_of(trained[both[0]])} too ({few(both)}); "
            "split by image if scores should be those of new images",
        )


def read_answer_vocabulary(
    answers: Path, splits: Sequence[SplitQuestions], problems: Problems
) -> tuple[str, ...] | None:
    """Return the labels in the file `answers`; None if it cannot be read, which is reported.

    It is an error if the labels have no answer to most questions of a split.
    """
    labels = problems.attempt(lambda: read_labels(answers))
    if labels is not None:
        _check_answerable(splits, labels, answers, problems)
    return labels


def find_labels(
    answers: Path | None,
    splits: Sequence[SplitQuestions],
    count: Callable[[], tuple[str, ...] | None],
    problems: Problems,
) -> tuple[str, ...] | None:
    """Return the labels of the file `answers`, or by default those that `count` makes of the training answers.

    The training split is the first of `splits`. Return None if it was not read whole or has no answers.
    """
    if answers is not None:
        return read_answer_vocabulary(answers, splits, problems)
    return count() if splits[0].is_complete and splits[0].has_answers else None


def _check_answerable(
    splits: Sequence[SplitQuestions], labels: Sequence[str], answers: Path, problems: Problems
) -> None:
    """Report an error if the answer vocabulary in the file `answers` has no answer to most questions of a split."""
    known, shares = frozenset(labels), {}
    for split in splits:
        credited = [question for question in split.questions if question.credits]
        if credited:
            answerable = sum(not known.isdisjoint(question.credits) for question in credited)
            shares[split.name] = answerable / len(credited)
    if shares and min(shares.values()) <= LEAST_ANSWERABLE:
        problems.add(
            DataError(
                f"{answers}: has an answer to {by_split(shares)} of the questions, expected most of them; give the "
                "answer vocabulary of this data set"
            )
        )


def by_split(shares: Mapping[str, float]) -> str:
    """Return a fraction (0-1) for each split as text: "97 % (train) and 3.5 % (valid)"."""
    return " and ".join(f"{percent(share)} ({split})" for split, share in shares.items())


def parse_credits(label: Mapping[str, Any], where: str, *, remedy: str = "download it again") -> Credits:
    """Return the credits in `label` (answer -> credit), sorted by answer.

    Raises DataError, which begins with `where`, for a credit outside 0-1.
    """
    for answer, credit in label.items():
        if type(credit) not in (int, float) or not 0 <= credit <= 1:
            raise DataError(f"{where} credits {answer!r} with {shorten(credit)}, expected a number of 0 to 1; {remedy}")
    return {sys.intern(answer): float(credit) for answer, credit in sorted(label.items())}


def _check_one_type(files: Mapping[int | str, Path]) -> None:
    """Raise DataError if some question ids are numbers and others are texts: 5 and "5" would be two questions."""
    number = next((question_id for question_id in files if isinstance(question_id, int)), None)
    text = next((question_id for question_id in files if isinstance(question_id, str)), None)
    if number is not None and text is not None:
        has_one_file = files[number] == files[text]
        where = str(files[text]) if has_one_file else f"{files[number]} and {files[text]}"
        raise DataError(
            f"{where}: question ids are of two types, numbers ({name_id(number)}) and texts ({name_id(text)}); write "
            "them all as one of the two, as the data set's evaluation has them"
        )

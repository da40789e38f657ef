"""Read VQA v1.0 and v2.0 (Antol et al. 2015, Goyal et al. 2017): the official files, or LXMERT's JSON.

The contents of a file decide which of the two it is. The official files are a questions JSON and an annotations JSON,
of real images or abstract scenes, open-ended or multiple-choice. LXMERT's JSON (Tan & Bansal 2019) is a list of
questions with the credits of their answers.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lxcompress.data.files import read_json
from lxcompress.data.ids import explain_types, is_id, name_id
from lxcompress.data.problems import Problems, several
from lxcompress.data.question_set import (
    check_has_answers,
    check_splits_differ,
    find_labels,
    parse_credits,
    read_split,
)
from lxcompress.data.questions import Question, QuestionSet, SplitQuestions, count_answers
from lxcompress.data.vqa_score import normalise
from lxcompress.errors import DataError
from lxcompress.recipe import VqaData
from lxcompress.text import shorten

LEAST_ANSWERS = 9
"""An answer gets a label if it is the most frequent one of this many questions or more (as in compute_softscore.py)."""
CREDIT = (0.0, 0.3, 0.6, 0.9, 1.0)
"""The credit of an answer; the index is the number of people who gave it (4 means 4 or more)."""
UNKNOWN_TYPE = "unknown"
_QUESTIONS = "give VQA's questions JSON as its authors publish it, or LXMERT's"
_ANNOTATIONS = "give VQA's annotations JSON as its authors publish it"


class Annotation(NamedTuple):
    """The answers that people gave to one question, and the types of the question."""

    answers: tuple[str, ...]
    image: int | str | None
    type: str
    majority: str | None
    """the most frequent of the answers"""
    family: str
    """the first words of the question; the authors group questions by them"""


Annotations = Mapping[int | str, Annotation]
"""question id -> the answers that people gave"""


def read_vqa(settings: VqaData, problems: Problems | None = None) -> QuestionSet:
    """Read the questions of the splits. The labels are those of `data.answers`, or the most frequent training answers.

    Validation questions without annotations have no credits, like those of VQA's published test split. Raises DataError
    under the strict policy, which is the default.
    """
    problems = problems or Problems.strict()
    train, annotations = _read_split(settings, "train", problems)
    valid, _ = _read_split(settings, "valid", problems)
    test = _read_split(settings, "test", problems)[0] if settings.test else None
    check_splits_differ(train, valid, problems, test=test)
    least = settings.least_answers or LEAST_ANSWERS

    def count() -> tuple[str, ...] | None:
        return problems.attempt(lambda: _make_labels(train, annotations, least=least))

    labels = find_labels(settings.answers, [train, valid, *([test] if test else [])], count, problems)
    return QuestionSet(train, valid, labels, settings.tokens, test=test)


def read_annotations(files: Iterable[Path], problems: Problems | None = None) -> dict[int | str, Annotation]:
    """Return question id -> Annotation, from VQA's annotations JSON files.

    Raises DataError under the strict policy, which is the default.
    """
    problems = problems or Problems.strict()
    annotations: dict[int | str, Annotation] = {}
    for path in files:
        problems.progress(f"reading {path.name}")
        repeated = []
        for question_id, annotation in problems.attempt(lambda: _read_annotation_file(path, problems)) or ():  # noqa: B023 (called at once)
            if question_id in annotations:
                repeated.append(question_id)
            annotations.setdefault(question_id, annotation)
        if repeated:
            problems.add(
                DataError(
                    f"{path}: annotates {several(repeated, 'question id')} twice; give files with each question once"
                )
            )
    return annotations


def soft_label(answers: Iterable[str]) -> dict[str, float]:
    """Return answer -> credit (0-1); the credit depends on how many people gave the answer.

    Answers are not normalised, as in compute_softscore.py (Hu's bottom-up-attention-vqa), which made LXMERT's labels.
    That script normalises only the most frequent answers, of which it makes the vocabulary.
    """
    return {answer: CREDIT[min(count, 4)] for answer, count in sorted(Counter(answers).items())}


def image_name(document: Mapping[str, Any], image: int | str) -> str:
    """Return the name of an image: its file name without the extension.

    The name is made of the image's number and of the header of the questions file (`document`). Without such a header
    it is the number alone, by which a store finds the image too. The images of test-dev2015 are those of test2015.
    """
    kind, subtype = document.get("data_type"), document.get("data_subtype")
    if not (isinstance(image, int) and isinstance(kind, str) and isinstance(subtype, str)):
        return str(image)
    return f"{'COCO' if kind == 'mscoco' else kind}_{subtype.replace('test-dev', 'test')}_{image:012d}"


def _read_split(settings: VqaData, name: str, problems: Problems) -> tuple[SplitQuestions, Annotations]:
    """Return the questions of the split `name`, with the credits of its annotations; and the annotations."""
    files, annotation_files = getattr(settings, name), getattr(settings, f"{name}_annotations") or ()
    errors = problems.errors
    annotations = read_annotations(annotation_files, problems)
    official: list[Path] = []

    def read(path: Path) -> list[Question]:
        document = read_json(path, remedy=f"{_QUESTIONS}, as in --set data.{name}=PATH")
        if isinstance(document, list):
            records = document
            found = problems.read_records(records, lambda record, index: _lxmert_question(record, index, path))
        elif isinstance(document, dict) and isinstance(document.get("questions"), list):
            official.append(path)
            header, records = document, document["questions"]
            found = problems.read_records(
                records, lambda record, index: _official_question(record, index, path, header, annotations)
            )
        elif isinstance(document, dict) and "annotations" in document:
            raise DataError(f"{path}: is VQA's annotations JSON; give it as data.{name}_annotations")
        else:
            raise DataError(f"{path}: is {shorten(document)}, expected a list of questions; {_QUESTIONS}")
        if not records:
            raise DataError(f"{path}: has no question; {_QUESTIONS}")
        return found

    split = read_split(name, files, read, problems)
    if annotation_files and problems.errors == errors:
        _check_annotations(split, official, annotations, annotation_files[0], problems)
    if problems.errors == errors:
        remedy = f"give them as data.{name}_annotations"
        check_has_answers(split, remedy, remedy, problems)
    return split, annotations


def _check_annotations(
    split: SplitQuestions, official: Sequence[Path], annotations: Annotations, given: Path, problems: Problems
) -> None:
    """Report questions without an annotation, and annotations without a question.

    `official` are the official question files, and `given` is the first file of annotations.
    """
    if not official:
        problems.add(
            DataError(f"{given}: has no effect, because LXMERT's JSON holds the answers too; leave the annotations out")
        )
        return
    asked = [question for question in split.questions if split.files[question.id] in official]
    if asked and not any(question.id in annotations for question in asked):
        hint = _explain_types(asked[0].id, annotations)
        problems.add(
            DataError(
                f"{given}: answers none of the questions of {official[0]}; give the annotations of the same split{hint}"
            )
        )
        return
    for path in dict.fromkeys(official):
        missing = [
            question.id for question in asked if split.files[question.id] == path and question.id not in annotations
        ]
        if missing:
            problems.add(
                DataError(
                    f"{path}: asks {several(list(map(name_id, missing)), 'question')} that {given} does not answer; "
                    f"give the annotations of the same split{_explain_types(missing[0], annotations)}"
                )
            )
    extra = [question_id for question_id in annotations if question_id not in split.files]
    if extra:
        problems.add(
            DataError(
                f"{given}: answers {several(list(map(name_id, extra)), 'question')} that {official[0]} does not ask; "
                f"give the questions of the same split{_explain_types(extra[0], split.files)}"
            )
        )


def _explain_types(question_id: int | str, others: Mapping[int | str, object]) -> str:
    """Return a hint if the ids of the other file have another type (5, or "5"); else an empty text."""
    return explain_types(question_id, next(iter(others), question_id))


def _official_question(
    record: Any, index: int, path: Path, header: Mapping[str, Any], annotations: Annotations
) -> Question:
    """Return the Question of a record of an official file, whose other fields are in `header`. Raises DataError."""
    fields = record if isinstance(record, dict) else {}
    question_id, image, words = (fields.get(name) for name in ("question_id", "image_id", "question"))
    choices = fields.get("multiple_choices") or ()
    if not (
        is_id(question_id)
        and is_id(image)
        and isinstance(words, str)
        and isinstance(choices, (list, tuple))
        and all(isinstance(choice, str) for choice in choices)
    ):
        raise DataError(
            f"{path}: question {index} is {shorten(record)}, expected a question_id, an image_id and a question; "
            f"{_QUESTIONS}"
        )
    annotation = annotations.get(question_id)
    if annotation and annotation.image not in (None, image):
        raise DataError(
            f"{path}: question id {question_id} is about image {name_id(image)}, and in its annotation about "
            f"{name_id(annotation.image)}; give files of the same split{explain_types(image, annotation.image)}"
        )
    return Question(
        id=question_id,
        images=(image_name(header, image),),
        words=words,
        credits=soft_label(annotation.answers) if annotation else {},
        type=annotation.type if annotation else UNKNOWN_TYPE,
        choices=tuple(choices),
        family=annotation.family if annotation else "",
    )


def _lxmert_question(record: Any, index: int, path: Path) -> Question:
    """Return the question of a record of LXMERT's JSON. Raises DataError."""
    fields = record if isinstance(record, dict) else {}
    question_id, image, words = (fields.get(name) for name in ("question_id", "img_id", "sent"))
    label, kind = fields.get("label", {}), fields.get("answer_type", UNKNOWN_TYPE)
    family = fields.get("question_type", "")
    if not (
        is_id(question_id)
        and isinstance(image, str)
        and isinstance(words, str)
        and isinstance(kind, str)
        and isinstance(family, str)
        and isinstance(label, dict)
    ):
        raise DataError(
            f"{path}: question {index} is {shorten(record)}, expected a question_id, an img_id, a sent and a label; "
            f"{_QUESTIONS}"
        )
    return Question(
        id=question_id,
        images=(image,),
        words=words,
        credits=parse_credits(label, f"{path}: question id {question_id}"),
        type=sys.intern(kind),
        family=sys.intern(family),
    )


def _read_annotation_file(path: Path, problems: Problems) -> list[tuple[int | str, Annotation]]:
    """Return the question id and the annotation of each record in `path`. Raises DataError."""
    document = read_json(path, remedy=_ANNOTATIONS, hook=_keep_answer)
    records = document.get("annotations") if isinstance(document, dict) else None
    if not isinstance(records, list) or not records:
        raise DataError(f"{path}: has no list of annotations; {_ANNOTATIONS}")
    return problems.read_records(records, lambda record, index: _annotation(record, index, path))


def _keep_answer(found: dict[str, Any]) -> Any:
    """Return what is kept of a JSON object; of one person's answer, only the text.

    Its number and confidence are not needed, and there are millions of answers.
    """
    answer = found.get("answer")
    return sys.intern(answer) if type(answer) is str and "answers" not in found else found


def _annotation(record: Any, index: int, path: Path) -> tuple[int | str, Annotation]:
    """Return the question id and the annotation of a record. Raises DataError."""
    fields = record if isinstance(record, dict) else {}
    question_id, answers = fields.get("question_id"), fields.get("answers")
    if not (is_id(question_id) and isinstance(answers, list) and answers):
        raise DataError(
            f"{path}: annotation {index} is {shorten(record)}, expected a question_id and answers; {_ANNOTATIONS}"
        )
    for answer in answers:
        if type(answer) is not str:
            raise DataError(
                f"{path}: question id {question_id} has {shorten(answer)} among its answers, expected a text as "
                f"answer; {_ANNOTATIONS}"
            )
    names = ("answer_type", "multiple_choice_answer", "image_id", "question_type")
    kind, majority, image, family = (fields.get(name) for name in names)
    return question_id, Annotation(
        answers=tuple(answers),
        image=image,
        type=sys.intern(kind) if isinstance(kind, str) else UNKNOWN_TYPE,
        majority=sys.intern(majority) if isinstance(majority, str) else None,
        family=sys.intern(family) if isinstance(family, str) else "",
    )


def _make_labels(train: SplitQuestions, annotations: Annotations, *, least: int) -> tuple[str, ...]:
    """Return the answers that are the most frequent answer to at least `least` training questions: the labels.

    They are sorted by the number of questions, then by text. LXMERT's JSON does not tell the most frequent answer; then
    every answer with a credit is counted. Raises DataError if no answer is common enough.
    """
    majorities = [
        annotations[question_id].majority if question_id in annotations else None for question_id in train.files
    ]
    if None in majorities:
        labels = count_answers(train.questions, least)
    else:
        counts = Counter(normalise(answer) for answer in majorities if answer is not None)
        frequent = (answer for answer, count in counts.items() if count >= least)
        labels = tuple(sorted(frequent, key=lambda answer: (-counts[answer], answer)))
    if not labels:
        raise DataError(
            f"{train.where}: no answer is the most frequent one of {least} questions or more; give "
            "data.train_annotations, a "
            "smaller data.least_answers, or an answer vocabulary as data.answers"
        )
    return labels

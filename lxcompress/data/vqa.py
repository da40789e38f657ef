"""VQA v1.0 and v2.0 (Antol et al. 2015, Goyal et al. 2017): the official files, or LXMERT's JSON, told by content.

The official questions and annotations JSON are those of real and of abstract scenes, open-ended or multiple-choice.
LXMERT's JSON (Tan & Bansal 2019) is a list of questions with the credits of their answers.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lxcompress.data.files import read_json, read_labels
from lxcompress.data.ids import explain_types, is_id, name_id
from lxcompress.data.question_set import SplitQuestions, as_credits, ask, read_part
from lxcompress.data.questions import Question, QuestionSet, count_answers
from lxcompress.data.vqa_score import normalise
from lxcompress.errors import DataError
from lxcompress.recipe import VqaData
from lxcompress.text import shorten

LEAST_ANSWERS = 9
"""Questions that an answer must be the commonest of, to get a label (compute_softscore.py, which made LXMERT's)."""
CREDIT = (0.0, 0.3, 0.6, 0.9, 1.0)
"""The credit of an answer that 0, 1, 2, 3, and 4 or more people gave."""
UNKNOWN_TYPE = "unknown"
_QUESTIONS = "give VQA's questions JSON as its authors publish it, or LXMERT's"
_ANNOTATIONS = "give VQA's annotations JSON as its authors publish it"


class Annotation(NamedTuple):
    """What people answered to one question."""

    answers: tuple[str, ...]
    image: int | str | None
    type: str
    majority: str | None
    """the commonest answer"""
    family: str
    """the question's first words, by which the authors group questions"""


Annotations = Mapping[int | str, Annotation]
"""question id -> what people answered"""


def read_vqa(settings: VqaData) -> QuestionSet:
    """The questions of both splits, and `answers` or those that are commonest in enough training questions.

    Validation questions without annotations have no credits, as a test split has none. Raises DataError.
    """
    annotations = read_annotations(settings.train_annotations or ())
    train = _read_split("train", settings.train, settings.train_annotations, annotations)
    if not any(question.credits for question in train.questions):
        raise DataError(f"{settings.train[0]}: has no answers to learn from; give them as data.train_annotations")
    if settings.answers is None:
        labels = _make_labels(train, annotations, least=settings.least_answers or LEAST_ANSWERS)
    else:
        labels = read_labels(settings.answers)
    valid = _read_split(
        "valid", settings.valid, settings.valid_annotations, read_annotations(settings.valid_annotations or ())
    )
    return ask(train, valid, labels=labels, answers=settings.answers)


def read_annotations(files: Iterable[Path]) -> dict[int | str, Annotation]:
    """question id -> what people answered, from VQA's annotations JSON. Raises DataError."""
    annotations: dict[int | str, Annotation] = {}
    for path in files:
        document = read_json(path, remedy=_ANNOTATIONS, hook=_answer_alone)
        records = document.get("annotations") if isinstance(document, dict) else None
        if not isinstance(records, list) or not records:
            raise DataError(f"{path}: has no list of annotations; {_ANNOTATIONS}")
        for place, record in enumerate(records):
            number, annotation = _annotation(record, place, path)
            if number in annotations:
                raise DataError(f"{path}: question id {number} is annotated twice; give files with each question once")
            annotations[number] = annotation
    return annotations


def soft_label(answers: Iterable[str]) -> dict[str, float]:
    """answer -> credit, 0-1, by how many people gave it.

    Answers count as they are written, as in compute_softscore.py (Hu's bottom-up-attention-vqa), which made LXMERT's
    labels: it normalises the commonest answers, which make the vocabulary, and no others.
    """
    return {answer: CREDIT[min(count, 4)] for answer, count in sorted(Counter(answers).items())}


def image_name(document: Mapping[str, Any], image: int | str) -> str:
    """The name of an image's file, less its ending, by what a questions file says of itself.

    Where it says nothing, the name is the number: a store finds images by it. Those of test-dev2015 are test2015's.
    """
    kind, subtype = document.get("data_type"), document.get("data_subtype")
    if not (isinstance(image, int) and isinstance(kind, str) and isinstance(subtype, str)):
        return str(image)
    return f"{'COCO' if kind == 'mscoco' else kind}_{subtype.replace('test-dev', 'test')}_{image:012d}"


def _read_split(
    split: str, files: Sequence[Path], annotation_files: Sequence[Path] | None, annotations: Annotations
) -> SplitQuestions:
    official: list[Path] = []

    def read(path: Path) -> list[Question]:
        document = read_json(path, remedy=f"{_QUESTIONS}, as in --set data.{split}=PATH")
        if isinstance(document, list):
            found = [_lxmert_question(record, place, path) for place, record in enumerate(document)]
        elif isinstance(document, dict) and isinstance(document.get("questions"), list):
            official.append(path)
            records = enumerate(document["questions"])
            found = [_official_question(record, place, path, document, annotations) for place, record in records]
            if annotation_files:
                _check_annotated(found, path, annotations, annotation_files[0])
        elif isinstance(document, dict) and "annotations" in document:
            raise DataError(f"{path}: is VQA's annotations JSON; give it as data.{split}_annotations")
        else:
            raise DataError(f"{path}: is {shorten(document)}, expected a list of questions; {_QUESTIONS}")
        if not found:
            raise DataError(f"{path}: has no question; {_QUESTIONS}")
        return found

    part = read_part(files, read)
    if annotation_files:
        _check_asked(part, annotations, annotation_files[0], official)
    return part


def _check_annotated(questions: Sequence[Question], path: Path, annotations: Annotations, given: Path) -> None:
    missing = [question.id for question in questions if question.id not in annotations]
    if missing:
        raise DataError(
            f"{path}: asks {len(missing)} questions that {given} does not answer (question id {name_id(missing[0])} is "
            f"the first); give the annotations of the same split{_explain(missing[0], annotations)}"
        )


def _check_asked(part: SplitQuestions, annotations: Annotations, given: Path, official: Sequence[Path]) -> None:
    if not official:
        raise DataError(f"{given}: has no effect, as LXMERT's JSON holds its answers itself; leave the annotations out")
    extra = [number for number in annotations if number not in part.files]
    if extra:
        raise DataError(
            f"{given}: answers {len(extra)} questions that {official[0]} does not ask (question id {name_id(extra[0])} "
            f"is the first); give the questions of the same split{_explain(extra[0], part.files)}"
        )


def _explain(number: int | str, others: Mapping[int | str, object]) -> str:
    """What to say where a question's id is there, but of the other type."""
    first = next(iter(others), number)
    return explain_types(number, first)


def _official_question(
    record: Any, place: int, path: Path, document: Mapping[str, Any], annotations: Annotations
) -> Question:
    fields = record if isinstance(record, dict) else {}
    number, image, words = (fields.get(name) for name in ("question_id", "image_id", "question"))
    choices = fields.get("multiple_choices") or ()
    is_sound = is_id(number) and is_id(image) and isinstance(words, str) and isinstance(choices, (list, tuple))
    if not (is_sound and all(isinstance(choice, str) for choice in choices)):
        raise DataError(
            f"{path}: question {place} is {shorten(record)}, expected a question_id, an image_id and a question; "
            f"{_QUESTIONS}"
        )
    annotation = annotations.get(number)
    if annotation and annotation.image not in (None, image):
        raise DataError(
            f"{path}: question id {number} is about image {name_id(image)}, and in its annotation about "
            f"{name_id(annotation.image)}; give files of the same split{explain_types(image, annotation.image)}"
        )
    return Question(
        id=number,
        images=(image_name(document, image),),
        words=words,
        credits=soft_label(annotation.answers) if annotation else {},
        type=annotation.type if annotation else UNKNOWN_TYPE,
        choices=tuple(choices),
        family=annotation.family if annotation else "",
    )


def _lxmert_question(record: Any, place: int, path: Path) -> Question:
    fields = record if isinstance(record, dict) else {}
    number, image, words = (fields.get(name) for name in ("question_id", "img_id", "sent"))
    label, kind = fields.get("label", {}), fields.get("answer_type", UNKNOWN_TYPE)
    family = fields.get("question_type", "")
    is_sound = is_id(number) and all(isinstance(text, str) for text in (image, words, kind, family))
    if not (is_sound and isinstance(label, dict)):
        raise DataError(
            f"{path}: question {place} is {shorten(record)}, expected a question_id, an img_id, a sent and a label; "
            f"{_QUESTIONS}"
        )
    return Question(
        id=number,
        images=(image,),
        words=words,
        credits=as_credits(label, number, path),
        type=sys.intern(kind),
        family=sys.intern(family),
    )


def _answer_alone(found: dict[str, Any]) -> Any:
    """One person's answer without its number and confidence: there are millions, and this is all that is asked."""
    answer = found.get("answer")
    return sys.intern(answer) if type(answer) is str and "answers" not in found else found


def _annotation(record: Any, place: int, path: Path) -> tuple[int | str, Annotation]:
    fields = record if isinstance(record, dict) else {}
    number, answers = fields.get("question_id"), fields.get("answers")
    if not (is_id(number) and isinstance(answers, list) and answers):
        raise DataError(
            f"{path}: annotation {place} is {shorten(record)}, expected a question_id and answers; {_ANNOTATIONS}"
        )
    for answer in answers:
        if type(answer) is not str:
            raise DataError(
                f"{path}: question id {number} has {shorten(answer)} among its answers, expected a text as answer; "
                f"{_ANNOTATIONS}"
            )
    names = ("answer_type", "multiple_choice_answer", "image_id", "question_type")
    kind, majority, image, family = (fields.get(name) for name in names)
    return number, Annotation(
        answers=tuple(answers),
        image=image,
        type=sys.intern(kind) if isinstance(kind, str) else UNKNOWN_TYPE,
        majority=sys.intern(majority) if isinstance(majority, str) else None,
        family=sys.intern(family) if isinstance(family, str) else "",
    )


def _make_labels(train: SplitQuestions, annotations: Annotations, *, least: int) -> tuple[str, ...]:
    """The answers that are the commonest of `least` training questions or more, the most frequent first, then by text.

    Where a file does not tell the commonest answer (LXMERT's), each credited answer counts.
    """
    majorities = [annotations[number].majority if number in annotations else None for number in train.files]
    if None in majorities:
        labels = count_answers(train.questions, least)
    else:
        counts = Counter(normalise(answer) for answer in majorities if answer is not None)
        frequent = (answer for answer, count in counts.items() if count >= least)
        labels = tuple(sorted(frequent, key=lambda answer: (-counts[answer], answer)))
    if not labels:
        path = next(iter(train.files.values()))
        raise DataError(
            f"{path}: no answer is the commonest one of {least} questions; give data.train_annotations, a smaller "
            "data.least_answers, or an answer vocabulary as data.answers"
        )
    return labels

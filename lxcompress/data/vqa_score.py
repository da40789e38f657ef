"""Compute the VQA accuracy. It equals that of the official code for every prediction, including its errors.

The rules are those of vqaEval.py (github.com/GT-Vision-Lab/VQA, master, under Python 3; Antol et al. 2015);
docs/score.md explains them. Accuracies are 0-1 and not rounded. The official code also averages accuracies that are
not rounded. It rounds only its results, each mean and the accuracy of each question, to a percentage with two digits
(`official_percent`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lxcompress.confidence.measures import pair_accuracy
from lxcompress.data.files import field, read_json
from lxcompress.data.ids import explain_types, is_id
from lxcompress.data.scoring import ScoreFiles, ScoreReport, doubt_partial
from lxcompress.errors import DataError
from lxcompress.text import shorten

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
Id = int | str
"""The id of a question; its type is the same in all files of a data set."""

ENOUGH = 3
"""An answer is fully right if this many other people gave it (Antol et al. 2015)."""
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
NUMBERS = {
    "none": "0",
    "zero": "0",
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
}
ARTICLES = frozenset({"a", "an", "the"})
# The official table, without the four keys that have capitals (Im, Ive, Id've, I'dve): words are lower-case, so they
# never match.
_CONTRACTIONS = """
    aint=ain't arent=aren't cant=can't couldve=could've couldnt=couldn't couldn'tve=couldn't've couldnt've=couldn't've
    didnt=didn't doesnt=doesn't dont=don't hadnt=hadn't hadnt've=hadn't've hadn'tve=hadn't've hasnt=hasn't
    havent=haven't hed=he'd hed've=he'd've he'dve=he'd've hes=he's howd=how'd howll=how'll hows=how's isnt=isn't
    itd=it'd itd've=it'd've it'dve=it'd've itll=it'll let's=let's maam=ma'am mightnt=mightn't mightnt've=mightn't've
    mightn'tve=mightn't've mightve=might've mustnt=mustn't mustve=must've neednt=needn't notve=not've oclock=o'clock
    oughtnt=oughtn't ow's'at='ow's'at 'ows'at='ow's'at 'ow'sat='ow's'at shant=shan't shed've=she'd've she'dve=she'd've
    she's=she's shouldve=should've shouldnt=shouldn't shouldnt've=shouldn't've shouldn'tve=shouldn't've
    somebody'd=somebodyd somebodyd've=somebody'd've somebody'dve=somebody'd've somebodyll=somebody'll
    somebodys=somebody's someoned=someone'd someoned've=someone'd've someone'dve=someone'd've someonell=someone'll
    someones=someone's somethingd=something'd somethingd've=something'd've something'dve=something'd've
    somethingll=something'll thats=that's thered=there'd thered've=there'd've there'dve=there'd've therere=there're
    theres=there's theyd=they'd theyd've=they'd've they'dve=they'd've theyll=they'll theyre=they're theyve=they've
    twas='twas wasnt=wasn't wed've=we'd've we'dve=we'd've weve=we've werent=weren't whatll=what'll whatre=what're
    whats=what's whatve=what've whens=when's whered=where'd wheres=where's whereve=where've whod=who'd whod've=who'd've
    who'dve=who'd've wholl=who'll whos=who's whove=who've whyll=why'll whyre=why're whys=why's wont=won't
    wouldve=would've wouldnt=wouldn't wouldnt've=wouldn't've wouldn'tve=wouldn't've yall=y'all yall'll=y'all'll
    y'allll=y'all'll yall'd've=y'all'd've y'alld've=y'all'd've y'all'dve=y'all'd've youd=you'd youd've=you'd've
    you'dve=you'd've youll=you'll youre=you're youve=you've
"""
CONTRACTIONS = dict(pair.split("=") for pair in _CONTRACTIONS.split())
# Both patterns match the digits of every script, as the official code does under Python 3.
NUMBER_COMMA = re.compile(r"\d,\d")
# The official pattern begins with (?!<=\d), a mistyped look-behind that is always true. So a full stop after a digit is
# removed too.
FULL_STOP = re.compile(r"\.(?!\d)")
MOST_FULL_STOPS = 32
"""How many full stops are removed: the official code passes re.UNICODE (32) as the number of substitutions."""
CACHED = 1 << 18
MOST_ANSWERS = 1000
"""The most answers to a question; VQA's questions have 10. The score leaves out each answer in turn, so its time is
quadratic in their number."""
MULTIPLE_CHOICE = "Multiple Choice"
NO_FILE_REMEDY = "check the path"
PAIRS_REMEDY = "give VQA v2's complementary pairs JSON as its authors publish it"
PREDICTIONS_REMEDY = 'write the evaluation server\'s format, [{"question_id": 1, "answer": "yes"}]'


@dataclass(frozen=True)
class HumanAnswers:
    """The answers that people gave to one question, and the types of the question."""

    answers: tuple[str, ...]
    answer_type: str | None = None
    question_type: str | None = None
    voters: tuple[int, ...] | None = None
    """for each answer, an index that says who gave it; None if all people differ"""


@dataclass(frozen=True)
class QuestionIndex:
    """The question ids in a questions file; for the multiple-choice task, also the choices of each question."""

    ids: frozenset[Id]
    choices: Mapping[Id, frozenset[str]] | None = None


@dataclass(frozen=True)
class TypeScore:
    """The mean accuracy (0-1) of the questions of one type, and how many questions there are."""

    accuracy: float
    questions: int


@dataclass(frozen=True)
class VqaScore:
    """The VQA accuracies, 0-1. Types are sorted by decreasing number of questions; None is no type."""

    overall: float
    per_answer_type: dict[str, TypeScore]
    per_question_type: dict[str, TypeScore]
    per_question: dict[Id, float]
    indistinct: int
    """how many questions have answer records that differ in the answer only; see `vqa_accuracy`"""


def score_vqa_files(files: ScoreFiles) -> ScoreReport:
    """Return the official scores of a file of VQA predictions. Raises DataError."""
    assert files.annotations is not None, "VQA's answers are in a separate file"
    where, among = str(files.predictions), str(files.annotations)
    predictions, questions = read_predictions(files.predictions), read_questions(files.questions)
    annotations = read_annotations(files.annotations)
    counted = keep_predicted(annotations, predictions, where=where) if files.only_predicted else annotations
    check_known(counted, questions.ids, where=among, among=str(files.questions))
    score = score_predictions(predictions, counted, where=where, among=among)
    check_choices(predictions, questions, where=where)
    doubts = doubt_partial(len(counted), len(annotations))
    if score.indistinct:
        doubts.append(
            f"{score.indistinct} of {len(counted)} questions have answers without distinct answer_ids: the official "
            "code leaves each answer out together with its equals, which lowers the accuracy"
        )
    return ScoreReport(
        overall=TypeScore(score.overall, len(counted)),
        groups={"answer type": score.per_answer_type, "question type": score.per_question_type},
        per_question={question: official_percent(share) for question, share in score.per_question.items()},
        measures=_score_pairs(files.pairs, score.per_question) if files.pairs else {},
        doubts=doubts,
    )


def read_pairs(path: Path) -> list[tuple[Id, Id]]:
    """Return the pairs of question ids in VQA v2's list of complementary pairs. Raises DataError."""
    pairs: list[tuple[Id, Id]] = []
    for index, record in enumerate(read_list(path, remedy=PAIRS_REMEDY)):
        if not (isinstance(record, list) and len(record) == 2 and all(map(is_id, record))):
            raise DataError(f"{path}: pair {index} is {shorten(record)}, expected two question ids; {PAIRS_REMEDY}")
        pairs.append((record[0], record[1]))
    return pairs


def _score_pairs(path: Path, scores: Mapping[Id, float]) -> dict[str, TypeScore]:
    """Return the share of the pairs in the file `path` of which both answers are right, over the scored questions.

    Raises DataError if no pair is scored.
    """
    pairs = [(one, other) for one, other in read_pairs(path) if one in scores and other in scores]
    if not pairs:
        raise DataError(f"{path}: none of its pairs has two scored questions; give the pairs of the same split")
    rows = {question: row for row, question in enumerate(scores)}
    index = np.array([[rows[one], rows[other]] for one, other in pairs])
    return {"pairs": TypeScore(pair_accuracy(np.array(list(scores.values())), index), len(pairs))}


def score_predictions(
    predictions: Mapping[Id, str],
    annotations: Mapping[Id, HumanAnswers],
    *,
    where: str = "the predictions",
    among: str = "the annotations",
) -> VqaScore:
    """Return the official scores of `predictions`.

    Raises DataError unless there is a prediction for each annotated question, and for no other question. The error
    names the predictions as `where` and the annotations as `among`.
    """
    check_known(predictions, annotations, where=where, among=among)
    check_complete(predictions, annotations, where=where)
    scores = {
        question: vqa_accuracy(predictions[question], given.answers, voters=given.voters)
        for question, given in annotations.items()
    }
    return VqaScore(
        overall=mean(scores.values()),
        per_answer_type=mean_by((given.answer_type, scores[question]) for question, given in annotations.items()),
        per_question_type=mean_by((given.question_type, scores[question]) for question, given in annotations.items()),
        per_question=scores,
        indistinct=sum(given.voters is not None for given in annotations.values()),
    )


def vqa_accuracy(prediction: str, answers: Sequence[str], *, voters: Sequence[int] | None = None) -> float:
    """Return the accuracy (0-1) of `prediction` for one question.

    Each of `answers` is left out once; the accuracy is the mean of min(1, right answers among the others / 3). The
    prediction and the answers are normalised only if the answers differ from each other. The official code leaves out
    equal records of answers together; `voters` has an index of who gave each answer, or None if all people differ.
    """
    assert answers, "an accuracy needs answers"
    said, given = _strip(prediction), [_strip(answer) for answer in answers]
    if len(set(given)) > 1:
        said, given = normalise(said), [normalise(answer) for answer in given]
    equal = [answer == said for answer in given]
    count = sum(equal)
    # If the answer that is left out differs from the prediction, all equal answers remain.
    others = [count - (_repeats(index, equal, voters) if is_equal else 0) for index, is_equal in enumerate(equal)]
    # As in the official code, 1 is an integer: since Python 3.12, a sum of only floats is rounded differently.
    return sum(min(1, other / ENOUGH) for other in others) / len(others)


@lru_cache(maxsize=CACHED)
def normalise(answer: str) -> str:
    """Return `answer` as it is compared: lower case, digits for numbers, apostrophes, no punctuation, no articles."""
    words = (NUMBERS.get(word, word) for word in strip_punctuation(_strip(answer)).lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def strip_punctuation(text: str) -> str:
    """Return `text` without punctuation, as the official code removes it.

    A mark of PUNCTUATION is replaced by a space; if the mark is next to a space anywhere in `text`, it is removed. If
    `text` has a comma between digits, all marks are removed. Then the first 32 full stops that are not followed by a
    digit are removed. Apostrophes, colons and all other characters stay.
    """
    has_number_comma = NUMBER_COMMA.search(text) is not None
    stripped = text
    for mark in PUNCTUATION:
        if mark in text:
            is_beside_space = f"{mark} " in text or f" {mark}" in text
            stripped = stripped.replace(mark, "" if has_number_comma or is_beside_space else " ")
    return FULL_STOP.sub("", stripped, count=MOST_FULL_STOPS)


def official_percent(accuracy: float) -> float:
    """Return an accuracy (0-1) as the official code stores it: in percent, rounded to two digits."""
    return round(100 * accuracy, 2)


def read_predictions(path: Path) -> dict[Id, str]:
    """Return question_id -> answer, from a JSON list in the evaluation server's format. Raises DataError."""
    predictions: dict[Id, str] = {}
    for index, record in enumerate(read_list(path, remedy=PREDICTIONS_REMEDY)):
        question, answer = _question_id(record), field(record, "answer", str)
        if question is None or answer is None:
            is_gqa = field(record, "questionId", str) is not None
            raise DataError(
                f"{path}: prediction {index} is {shorten(record)}, expected a number or a text as question_id and a "
                "text as answer; " + ("score GQA's predictions with --kind gqa" if is_gqa else PREDICTIONS_REMEDY)
            )
        if question in predictions:
            raise DataError(f"{path}: question_id {question} is predicted twice; keep one prediction of each question")
        predictions[question] = answer
    return predictions


def read_annotations(path: Path) -> dict[Id, HumanAnswers]:
    """Return question_id -> HumanAnswers, from VQA's annotations JSON. Raises DataError."""
    annotations: dict[Id, HumanAnswers] = {}
    for index, annotation in enumerate(_below(read_json(path, remedy=NO_FILE_REMEDY), "annotations", path=path)):
        question, records = _question_id(annotation), field(annotation, "answers", list)
        if question is None or not records:
            raise DataError(
                f"{path}: annotation {index} is {shorten(annotation)}, expected a question_id and answers; give VQA's "
                "annotations JSON of a split that has answers"
            )
        if question in annotations:
            raise DataError(f"{path}: question_id {question} is annotated twice; give a file with each question once")
        if len(records) > MOST_ANSWERS:
            raise DataError(
                f"{path}: question_id {question} has {len(records):,} answers, expected at most {MOST_ANSWERS}; give "
                "VQA's annotations JSON"
            )
        given = [field(record, "answer", str) for record in records]
        answers = tuple(answer for answer in given if answer is not None)
        if len(answers) < len(given):
            raise DataError(
                f"{path}: answer {given.index(None)} of question_id {question} is "
                f"{shorten(records[given.index(None)])}, expected a record with a text as answer, as in "
                '{"answer": "yes", "answer_id": 1}; give VQA\'s annotations JSON'
            )
        annotations[question] = HumanAnswers(
            answers=answers,
            answer_type=field(annotation, "answer_type", str),
            question_type=field(annotation, "question_type", str),
            voters=_voters(records),
        )
    return annotations


def read_questions(path: Path) -> QuestionIndex:
    """Return the question ids and the choices in VQA's questions JSON. Raises DataError."""
    document = read_json(path, remedy=NO_FILE_REMEDY)
    choices: dict[Id, frozenset[str]] = {}
    for index, record in enumerate(_below(document, "questions", path=path)):
        question = _question_id(record)
        if question is None:
            raise DataError(
                f"{path}: question {index} is {shorten(record)}, expected a question_id; give VQA's questions JSON"
            )
        offered = field(record, "multiple_choices", list) or []
        if not all(isinstance(choice, str) for choice in offered):
            raise DataError(
                f"{path}: question_id {question} has {shorten(offered)} as multiple_choices, expected texts; "
                "give VQA's questions JSON"
            )
        choices[question] = frozenset(offered)
    is_choice = document.get("task_type") == MULTIPLE_CHOICE
    return QuestionIndex(ids=frozenset(choices), choices=choices if is_choice else None)


def check_choices(predictions: Mapping[Id, str], questions: QuestionIndex, *, where: str) -> None:
    """Raise DataError if the task is multiple-choice and a prediction does not equal a choice letter by letter."""
    if questions.choices is None:
        return
    for question, answer in predictions.items():
        if answer not in questions.choices.get(question, ()):
            raise DataError(
                f"{where}: {answer!r} is not one of the multiple choices of question_id {question}; predict one of "
                "them "
                "letter by letter, or give the open-ended questions"
            )


def check_known(given: Collection[Key], known: Collection[Key], *, where: str, among: str) -> None:
    """Raise DataError if `given`, of the file `where`, has a question that `known`, of the file `among`, lacks."""
    unknown = [question for question in given if question not in known]
    if unknown:
        raise DataError(
            f"{where}: {len(unknown)} of its {len(given)} questions are not in {among} ({unknown[0]} is the first); "
            f"give files of the same split{_explain(unknown[0], known)}"
        )


def check_complete(predictions: Mapping[Key, object], asked: Collection[Key], *, where: str) -> None:
    """Raise DataError if one of the questions `asked` has no prediction."""
    missing = [question for question in asked if question not in predictions]
    if missing:
        raise DataError(
            f"{where}: has no prediction for {len(missing)} of {len(asked)} questions ({missing[0]} is the first); "
            "predict them all, or score only the others with --only-predicted"
            f"{_explain(missing[0], predictions)}"
        )


def keep_predicted(asked: Mapping[Key, Value], predictions: Mapping[Key, object], *, where: str) -> dict[Key, Value]:
    """Return the questions of `asked` that have a prediction. Raises DataError if none has."""
    kept = {question: value for question, value in asked.items() if question in predictions}
    if not kept:
        first = next(iter(asked), None)
        raise DataError(
            f"{where}: predicts none of the {len(asked)} questions; give files of the same split"
            f"{_explain(first, predictions)}"
        )
    return kept


def mean(accuracies: Collection[float]) -> float:
    """Return the mean of accuracies; there must be at least one."""
    return math.fsum(accuracies) / len(accuracies)


def mean_by(types: Iterable[tuple[str | None, float]]) -> dict[str, TypeScore]:
    """Return type -> mean accuracy, sorted by decreasing number of questions.

    `types` has a pair (type, accuracy) for each question; questions with the type None are left out.
    """
    grouped: dict[str, list[float]] = {}
    for name, accuracy in types:
        if name is not None:
            grouped.setdefault(name, []).append(accuracy)
    ordered = sorted(grouped.items(), key=lambda group: (-len(group[1]), group[0]))
    return {name: TypeScore(accuracy=mean(accuracies), questions=len(accuracies)) for name, accuracies in ordered}


def read_list(path: Path, *, remedy: str) -> list[Any]:
    """Return the list of predictions in a JSON file. Raises DataError for anything else, and for an empty list."""
    document = read_json(path, remedy=NO_FILE_REMEDY)
    if not isinstance(document, list) or not document:
        raise DataError(f"{path}: is {shorten(document)}, expected a list of one prediction or more; {remedy}")
    return document


def _question_id(record: Any) -> Id | None:
    """Return the question_id of a record if it is a number or a text; else None."""
    number = record.get("question_id") if isinstance(record, dict) else None
    return number if is_id(number) else None


def _explain(question: object, others: Collection[object]) -> str:
    """Return a hint if one file has numbers as ids and the other has texts; else an empty text."""
    return explain_types(question, next(iter(others), question))


def _strip(text: str) -> str:
    """Return `text` with line ends and tabs as spaces, and without spaces at its ends."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def _repeats(index: int, equal: Sequence[bool], voters: Sequence[int] | None) -> int:
    """Return how many right answers are left out with the answer at `index`: itself, and those of the same voter.

    `equal` says which answers equal the prediction.
    """
    if voters is None:
        return 1
    return sum(is_equal and voter == voters[index] for is_equal, voter in zip(equal, voters, strict=True))


def _voters(records: Sequence[dict[str, Any]]) -> tuple[int, ...] | None:
    """Return for each record an index of the voter; None if all voters differ.

    Records that differ only in the answer are taken as one voter.
    """
    ids = [record.get("answer_id") for record in records]
    if all(type(answer_id) is int for answer_id in ids) and len(set(ids)) == len(ids):
        return None
    rests = [{name: value for name, value in record.items() if name != "answer"} for record in records]
    voters = tuple(rests.index(rest) for rest in rests)
    return None if len(set(voters)) == len(voters) else voters


def _below(document: Any, key: str, *, path: Path) -> list[Any]:
    """Return the list in the field `key` of a document. Raises DataError."""
    found = field(document, key, list)
    if found:
        return found
    other = "questions" if key == "annotations" else "annotations"
    if field(document, other, list):
        raise DataError(f"{path}: is VQA's {other} JSON, expected its {key}; give it as --{other} instead")
    raise DataError(f"{path}: has no list of {key}; give VQA's {key} JSON as its authors publish it")

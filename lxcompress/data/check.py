"""What is missing, mismatched, duplicated or out of range in a data set, and what it holds, before anything is trained.

The readers stop at the first thing that is wrong. Here their own pieces are used one by one, so that what is checked is
what will be read: what one of them refuses becomes a Finding, and the rest goes on.

Shapes: N images, O regions of an image, F features of a region, R rows of a piece.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from lxcompress.data import clevr, gqa, nlvr, nlvr2, vqa
from lxcompress.data.files import list_files, read_json, read_labels, read_records, whole_number
from lxcompress.data.fit import DataShape, ModelShape, find_misfits, foresee_data
from lxcompress.data.objects import ANSWERS, answer_type
from lxcompress.data.question_set import SplitQuestions, check_one_type
from lxcompress.data.questions import Question, count_answers, explain_missing
from lxcompress.data.regions import store as stores
from lxcompress.data.regions.rows import strip_extension
from lxcompress.data.regions.store import BOXES, IDS, OBJECTS, RegionStore, StoreRecord
from lxcompress.data.scenes import load_scenes
from lxcompress.data.split import Split
from lxcompress.data.tokens import UNKNOWN, Vocabulary, shipped_vocabulary, tokenize
from lxcompress.errors import DataError, LxError
from lxcompress.progress import Progress
from lxcompress.recipe import AnyData, ClevrData, GqaData, Nlvr2Data, NlvrData, ScenesData, VqaData
from lxcompress.text import shorten

SPLITS = ("train", "valid")
WHOLE = "all"
"""The key of a fact that is not of a split."""

Severity = Literal["error", "warning"]
Unit = Literal["", "share", "bytes"]
Value = int | float | str
Item = TypeVar("Item")

LEAST_COVERED = 0.75
"""Of best answers that are labels: LXMERT's 3,129 have that of 94 % of VQA's questions, GQA's 1,842 of 57 %."""
MOST_CUT = 0.05
MOST_UNKNOWN = 0.01
"""BERT's vocabulary knows every word of VQA's questions."""
MOST_ALIKE = 0.95
FITTING = 0.99
"""The share of questions that a proposed data.tokens holds whole."""
LONGEST = 512
"""Tokens that are counted, as data.tokens goes no further."""
CUT_AT_ONCE = 1 << 14
NAMED = 3
PIECE_BYTES = 4 << 20
HALF_INFINITY = 0x7C00
"""Of float16, as bits without the sign: what is not less is infinite or no number."""
STORE_FILES = (stores.FEATURES, BOXES, OBJECTS, IDS)


@dataclass(frozen=True)
class Finding:
    """Something that is wrong (error: it must be mended) or doubtful (warning), with its remedy."""

    severity: Severity
    where: str
    """the file, or the setting"""
    sentence: str


@dataclass(frozen=True)
class Fact:
    """What a split, or with the key WHOLE the data set, holds; a share is 0-1."""

    name: str
    values: Mapping[str, Value]
    unit: Unit = ""


@dataclass(frozen=True)
class CheckReport:
    """What a data set holds, in reading order, and what is wrong with it, errors first."""

    facts: tuple[Fact, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """How many findings must be mended."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """How many findings are only doubtful."""
        return len(self.findings) - self.errors


@dataclass(frozen=True)
class CheckContext:
    """What data are checked against, beside themselves; None where it is not known."""

    vocabulary: Vocabulary | None
    is_fast: bool
    progress: Progress


class FindingCollector:
    """What a check has come upon so far."""

    def __init__(self) -> None:
        self.longest: int | None = None
        self.labels: tuple[str, ...] | None = None
        self._facts: list[Fact] = []
        self._findings: dict[Finding, None] = {}

    @property
    def errors(self) -> int:
        return sum(finding.severity == "error" for finding in self._findings)

    def fact(self, name: str, values: Mapping[str, Value] | Value, unit: Unit = "") -> None:
        """Keeps what each split holds, or what is not of a split."""
        given = values if isinstance(values, Mapping) else {WHOLE: values}
        if given:
            self._facts.append(Fact(name, given, unit))

    def error(self, where: object, sentence: str) -> None:
        """Keeps an error, once."""
        self._findings.setdefault(Finding("error", str(where), sentence))

    def warn(self, where: object, sentence: str) -> None:
        """Keeps a warning, once."""
        self._findings.setdefault(Finding("warning", str(where), sentence))

    def refuse(self, error: LxError, *, alike: int = 1) -> None:
        """Keeps what a reader refused, `alike` times; its sentence opens with the place."""
        finding = as_finding(error)
        more = f" (the first of {alike:,} of the kind)" if alike > 1 else ""
        self._findings.setdefault(Finding(finding.severity, finding.where, finding.sentence + more))

    def attempt(self, do: Callable[[], Item]) -> Item | None:
        """What `do` returns; None if it was refused, and that is kept."""
        try:
            return do()
        except DataError as error:
            self.refuse(error)
            return None

    def make_each(self, records: Iterable[Any], make: Callable[[Any, int], Item]) -> list[Item]:
        """What `make` makes of each record and its place; what it refuses is kept once a kind, with its number."""
        made: list[Item] = []
        first: dict[str, DataError] = {}
        counts: Counter[str] = Counter()
        for place, record in enumerate(records):
            try:
                made.append(make(record, place))
            except DataError as error:
                kind = _kind_of(str(error))
                first.setdefault(kind, error)
                counts[kind] += 1
        for kind, error in first.items():
            self.refuse(error, alike=counts[kind])
        return made

    def check(self) -> CheckReport:
        """All of it."""
        return CheckReport(tuple(self._facts), tuple(sorted(self._findings, key=lambda each: each.severity)))


def as_finding(error: LxError) -> Finding:
    """An error as a finding; the sentence of an LxError opens with the thing it is about."""
    where, _, sentence = str(error).partition(": ")
    return Finding("error", where, sentence)


def check_data(
    settings: AnyData,
    vocabulary: Vocabulary | None = None,
    *,
    model: ModelShape | None = None,
    is_fast: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> CheckReport:
    """Everything that is wrong with the data of a recipe, and what they hold; raises nothing for what a file is.

    `vocabulary` and `model` are those that are to read them; what needs one that is not given is left out. A fast check
    reads no features.
    """
    notes = FindingCollector()
    KINDS[settings.kind](settings, CheckContext(vocabulary, is_fast, progress), notes)
    if model is not None:
        tokens = None if vocabulary is None else len(vocabulary)
        shape = notes.attempt(lambda: foresee_data(settings, tokens)) or DataShape(settings.kind, tokens=tokens)
        for sentence in find_misfits(model, replace(shape, longest=notes.longest, labels=notes.labels)):
            notes.error(model.name, sentence)
    return notes.check()


def check_store(
    path: Path,
    *,
    is_fast: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> CheckReport:
    """Everything that is wrong with the store of region features in the folder `path`, and what it holds."""
    notes = FindingCollector()
    _check_store(path, CheckContext(None, is_fast, progress), notes)
    return notes.check()


# Data sets of questions over region features.


@dataclass(frozen=True)
class ReadSplit:
    """One split, as far as it could be read."""

    files: Sequence[Path]
    part: SplitQuestions
    annotations: vqa.Annotations
    is_missed: bool
    """a file could not be read at all"""


class ParsedFile(NamedTuple):
    """A file taken apart: its records, and what makes a question of one at its place."""

    records: Iterable[Any]
    make: Callable[[Any, int], Any]


def _check_asked(settings: VqaData | GqaData | Nlvr2Data, against: CheckContext, notes: FindingCollector) -> None:
    read = {split: READERS[settings.kind](settings, split, against, notes) for split in SPLITS}
    _check_apart(read, notes)
    used = _first(settings, {split: each.part.questions for split, each in read.items() if each.part.questions})
    labels = _find_labels(settings, read, notes)
    _count_questions(used, {split: len(read[split].part.questions) for split in used}, notes)
    store = _check_store(settings.features, against, notes) if settings.features else None
    if store is not None:
        _check_images(settings.features, store, used, read, notes)
    _count_answers(used, _files(read), notes)
    if labels is not None:
        _check_labels(settings, used, read, labels, notes)
    _check_choices(used, read, labels, notes)
    _check_tokens({split: _words(each) for split, each in used.items()}, settings.tokens, against, notes, _files(read))


def _read_vqa(settings: VqaData, split: str, against: CheckContext, notes: FindingCollector) -> ReadSplit:
    files, given = getattr(settings, split), getattr(settings, f"{split}_annotations") or ()
    before = notes.errors
    annotations = _read_annotations(given, against, notes)
    official: list[Path] = []

    def take_apart(path: Path) -> ParsedFile:
        document = read_json(path, remedy="")
        if isinstance(document, list):
            return ParsedFile(document, lambda record, place: vqa._lxmert_question(record, place, path))
        if not (isinstance(document, dict) and isinstance(document.get("questions"), list)):
            return ParsedFile((), _nothing)
        official.append(path)
        return ParsedFile(
            document["questions"],
            lambda record, place: vqa._official_question(record, place, path, document, annotations),
        )

    part, is_missed = _read_files(
        files, take_apart, lambda path: vqa._read_split(split, (path,), None, {}), against, notes
    )
    if given and notes.errors == before:
        _check_annotations(part, official, annotations, given[0], notes)
    is_answered = any(question.credits for question in part.questions)
    if not is_answered and notes.errors == before:
        if split == "train":
            notes.error(files[0], "has no answers to learn from; give them as data.train_annotations")
        else:
            notes.warn(files[0], "has no answers, so nothing can be scored; give them as data.valid_annotations")
    return ReadSplit(files, part, annotations, is_missed)


def _read_annotations(
    files: Sequence[Path], against: CheckContext, notes: FindingCollector
) -> dict[int | str, vqa.Annotation]:
    annotations: dict[int | str, vqa.Annotation] = {}

    def take_apart(path: Path) -> ParsedFile:
        document = read_json(path, remedy="", hook=vqa._answer_alone)
        records = document.get("annotations") if isinstance(document, dict) else ()
        is_list = isinstance(records, list)
        return ParsedFile(records if is_list else (), lambda record, place: vqa._annotation(record, place, path))

    for path in files:
        twice = []
        for number, annotation in _read_file(
            path, take_apart, lambda path: vqa.read_annotations([path]), against, notes
        ):
            if number in annotations:
                twice.append(number)
            annotations.setdefault(number, annotation)
        if twice:
            notes.error(path, f"annotates {_several(twice, 'question id')} twice; give files with each question once")
    return annotations


def _check_annotations(
    part: SplitQuestions, official: Sequence[Path], annotations: vqa.Annotations, given: Path, notes: FindingCollector
) -> None:
    """Questions and annotations that are whole, but may be of different splits."""
    asked = [question for question in part.questions if part.files[question.id] in official]
    if asked and not any(question.id in annotations for question in asked):
        notes.error(given, f"answers none of the questions of {official[0]}; give the annotations of the same split")
        return
    for path in dict.fromkeys(official):
        found = [question for question in asked if part.files[question.id] == path]
        notes.attempt(lambda: vqa._check_annotated(found, path, annotations, given))  # noqa: B023 (called at once)
    notes.attempt(lambda: vqa._check_asked(part, annotations, given, official))


def _read_gqa(settings: GqaData, split: str, against: CheckContext, notes: FindingCollector) -> ReadSplit:
    def take_apart(path: Path) -> ParsedFile:
        document = read_json(path, remedy="", hook=gqa._essentials)
        if isinstance(document, list):
            return ParsedFile(document, lambda record, place: gqa._lxmert_question(record, place, path))
        if isinstance(document, dict):
            return ParsedFile(document.items(), lambda record, place: gqa._official_question(*record, path))
        return ParsedFile((), _nothing)

    paths: list[Path] = []
    for given in getattr(settings, split):
        listed = notes.attempt(lambda: list_files(given, remedy=gqa._REMEDY))  # noqa: B023 (called at once)
        paths.extend(listed or ())
    part, is_missed = _read_files(paths, take_apart, lambda path: gqa._read_split(split, (path,)), against, notes)
    return _checked(ReadSplit(paths or getattr(settings, split), part, {}, is_missed or not paths), split, notes)


def _read_nlvr2(settings: Nlvr2Data, split: str, against: CheckContext, notes: FindingCollector) -> ReadSplit:
    files = getattr(settings, split)
    part, is_missed = _read_files(
        files,
        lambda path: ParsedFile(
            read_records(path, remedy="-"), lambda record, place: nlvr2._question(record, place, path)
        ),
        lambda path: nlvr2._read_split(split, (path,)),
        against,
        notes,
    )
    return _checked(ReadSplit(files, part, {}, is_missed), split, notes)


READERS: Mapping[str, Callable[[Any, str, CheckContext, FindingCollector], ReadSplit]] = {
    "vqa": _read_vqa,
    "gqa": _read_gqa,
    "nlvr2": _read_nlvr2,
}
"""data.kind -> what reads one split of it"""


def _checked(read: ReadSplit, split: str, notes: FindingCollector) -> ReadSplit:
    """`read`, with what is to be said where no question of it has an answer."""
    if read.part.questions and not any(question.credits for question in read.part.questions):
        if split == "train":
            notes.error(read.files[0], "has no answers to learn from; give a training split, with the answers to it")
        else:
            notes.warn(read.files[0], "has no answers, so nothing can be scored; give a split with the answers to it")
    return read


def _read_files(
    files: Sequence[Path],
    take_apart: Callable[[Path], ParsedFile],
    strict: Callable[[Path], object],
    against: CheckContext,
    notes: FindingCollector,
) -> tuple[SplitQuestions, bool]:
    """The questions of `files`, and whether one of these could not be read at all."""
    part, is_missed = SplitQuestions([], {}), False
    twice: dict[str, list[int | str]] = {}
    for path in files:
        found = _read_file(path, take_apart, strict, against, notes)
        is_missed |= not found
        for question in found:
            first = part.files.get(question.id)
            if first is None:
                part.files[question.id] = path
                part.questions.append(question)
            else:
                twice.setdefault(str(path) if first == path else f"{first} and {path}", []).append(question.id)
    for where, numbers in twice.items():
        verb = "comes" if len(numbers) == 1 else "come"
        notes.error(where, f"{_several(numbers, 'question id')} {verb} twice; give files with each question once")
    notes.attempt(lambda: check_one_type(part))
    return part, is_missed


def _read_file(
    path: Path,
    take_apart: Callable[[Path], ParsedFile],
    strict: Callable[[Path], object],
    against: CheckContext,
    notes: FindingCollector,
) -> list[Any]:
    """What is made of the records of `path`. `strict` is the reader, which has the words for a file that is no such."""
    against.progress(f"reading {path.name}", 0, 0)
    try:
        taken = take_apart(path)
    except DataError:
        taken = ParsedFile((), _nothing)
    if not taken.records:
        notes.attempt(lambda: strict(path))
    return notes.make_each(*taken)


def _check_apart(read: Mapping[str, ReadSplit], notes: FindingCollector) -> None:
    """Finds the questions, and the images, of both splits."""
    train, valid = (read[split].part for split in SPLITS)
    shared = [number for number in valid.files if number in train.files]
    if shared:
        notes.error(
            valid.files[shared[0]],
            f"{_several(shared, 'question id')} {'is' if len(shared) == 1 else 'are'} in {train.files[shared[0]]} too; "
            "validate on questions that are not trained on",
        )
        return  # whose images are shared too
    trained = {image: question for question in train.questions for image in question.images}
    scored = {image: question for question in valid.questions for image in question.images}
    both = [image for image in scored if image in trained]
    if both:
        notes.warn(
            valid.files[scored[both[0]].id],
            f"{len(both):,} of {len(scored):,} images are in {train.files[trained[both[0]].id]} too ({_few(both)}); "
            "split by image, if scores are to be those of images never seen",
        )


def _first(settings: Any, found: Mapping[str, Sequence[Item]]) -> dict[str, Sequence[Item]]:
    """What a study uses of each split: the first data.max_train and data.max_valid."""
    return {split: each[: getattr(settings, f"max_{split}")] for split, each in found.items()}


def _count_questions(used: Mapping[str, Sequence[Question]], whole: Mapping[str, int], notes: FindingCollector) -> None:
    counts = {split: len(each) for split, each in used.items()}
    notes.fact("questions", counts)
    if counts != whole:
        notes.fact("questions in the files", whole)
    notes.fact(
        "images", {split: len({image for each in asked for image in each.images}) for split, asked in used.items()}
    )
    notes.fact(
        "repeated questions",
        {split: len(asked) - len({(each.images, each.words) for each in asked}) for split, asked in used.items()},
    )


def _find_labels(
    settings: VqaData | GqaData | Nlvr2Data, read: Mapping[str, ReadSplit], notes: FindingCollector
) -> tuple[str, ...] | None:
    """The answers that a model may give; None if they cannot be told."""
    if isinstance(settings, Nlvr2Data):
        return nlvr2.LABELS
    given, train = settings.answers, read["train"]
    if given is not None:
        labels = notes.attempt(lambda: read_labels(given))
    elif train.is_missed or not any(question.credits for question in train.part.questions):
        return None
    elif isinstance(settings, GqaData):
        labels = count_answers(train.part.questions, 1)
    else:
        least = settings.least_answers or vqa.LEAST_ANSWERS
        labels = notes.attempt(lambda: vqa._make_labels(train.part, train.annotations, least=least))
    if labels is not None:
        notes.labels = tuple(labels)
        notes.fact("answers with a label", len(labels))
    return labels


def _count_answers(
    used: Mapping[str, Sequence[Question]], files: Mapping[str, object], notes: FindingCollector
) -> None:
    """What is credited in each split, to which types of question, and the score of always giving one answer."""
    answered = {split: sum(bool(each.credits) for each in asked) for split, asked in used.items()}
    notes.fact("with an answer", {split: answered[split] / len(asked) for split, asked in used.items()}, "share")
    scored = {split: asked for split, asked in used.items() if answered[split]}
    commonest, shares = {}, {}
    for split, asked in scored.items():
        total: dict[str, float] = {}
        for question in asked:
            for answer, credit in question.credits.items():
                total[answer] = total.get(answer, 0.0) + credit
        commonest[split] = max(total, key=lambda answer: total[answer])
        shares[split] = total[commonest[split]] / len(asked)
    notes.fact("commonest answer", commonest)
    notes.fact("score of giving only that", shares, "share")
    for split, share in shares.items():
        if share >= MOST_ALIKE:
            notes.warn(
                files[split],
                f"the answer {commonest[split]!r} is right for {_percent(share)} of its questions, so there is next to "
                "nothing to learn; give a file with the others too",
            )
    kinds = {split: Counter(each.type for each in asked) for split, asked in used.items()}
    every = Counter[str]()
    for each in kinds.values():
        every.update(each)
    for kind, _ in every.most_common() if len(every) > 1 else ():
        notes.fact(f"of type {kind}", {split: each[kind] for split, each in kinds.items()})


def _check_labels(
    settings: VqaData | GqaData | Nlvr2Data,
    used: Mapping[str, Sequence[Question]],
    read: Mapping[str, ReadSplit],
    labels: Sequence[str],
    notes: FindingCollector,
) -> None:
    """How well `labels` cover the answers of each split."""
    known = frozenset(labels)
    answerable, best, scores = {}, {}, {}
    for split, asked in used.items():
        credited = [each.credits for each in asked if each.credits]
        if not credited:
            continue
        highest = [
            max((credit for answer, credit in each.items() if answer in known), default=0.0) for each in credited
        ]
        answerable[split] = sum(not known.isdisjoint(each) for each in credited) / len(credited)
        best[split] = sum(
            credit >= max(each.values()) > 0 for credit, each in zip(highest, credited, strict=True)
        ) / len(credited)
        scores[split] = sum(highest) / len(asked)
    notes.fact("best answer has a label", best, "share")
    notes.fact("best possible score", scores, "share")
    given = {answer for each in used.get("train", ()) for answer in each.credits}
    if given:
        notes.fact("labels never right in train", len(known - given))
    given_file = getattr(settings, "answers", None)
    where = given_file or read["train"].files[0]
    remedy = (
        "give the answer vocabulary of this data set"
        if given_file
        else "give an answer vocabulary as data.answers, or a smaller data.least_answers"
    )
    if given_file and answerable and min(answerable.values()) <= 0.5:
        notes.error(
            where, f"has an answer to {_by_split(answerable)} of the questions, expected most of them; {remedy}"
        )
    elif best and min(best.values()) < LEAST_COVERED:
        notes.warn(
            where,
            f"has the best answer to {_by_split(best)} of the questions, so the best possible score is "
            f"{_by_split(scores)}; {remedy}",
        )


def _check_choices(
    used: Mapping[str, Sequence[Question]],
    read: Mapping[str, ReadSplit],
    labels: Sequence[str] | None,
    notes: FindingCollector,
) -> None:
    """Multiple-choice questions, and the choices that are labels."""
    offered = {split: [each for each in asked if each.choices] for split, asked in used.items()}
    offered = {split: asked for split, asked in offered.items() if asked}
    notes.fact("multiple-choice questions", {split: len(asked) for split, asked in offered.items()})
    if labels is None:
        return
    known, shares = frozenset(labels), {}
    for split, asked in offered.items():
        choices = [choice for each in asked for choice in each.choices]
        shares[split] = sum(choice in known for choice in choices) / len(choices)
        without = [each.id for each in asked if known.isdisjoint(each.choices)]
        if without:
            notes.warn(
                read[split].part.files[without[0]],
                f"{_several(without, 'question id')} {'offers' if len(without) == 1 else 'offer'} no choice with a "
                "label, so the best of all labels is taken; give a larger answer vocabulary",
            )
    notes.fact("choices with a label", shares, "share")


def _check_images(
    path: Path,
    store: RegionStore,
    used: Mapping[str, Sequence[Question]],
    read: Mapping[str, ReadSplit],
    notes: FindingCollector,
) -> None:
    """Images that are asked about and not in the store, by the file that asks, and those that nobody asks about."""
    seen: set[int] = set()
    counts: dict[str, Value] = {}
    for split, asked in used.items():
        missing: dict[str, Path] = {}
        shortened: dict[str, str] = {}
        for image, question in {image: each for each in reversed(asked) for image in each.images}.items():
            try:
                row = store.row(image)
                seen.add(row)
                if store.ids[row] != image and strip_extension(image) != image:
                    shortened[image] = store.ids[row]
            except KeyError:
                missing[image] = read[split].part.files[question.id]
        counts[split] = len(missing)
        if shortened:
            image, stored = min(shortened.items())
            notes.warn(
                f"data.{split}",
                f"names {_several(sorted(shortened), 'image')} with the ending of a file, and {path} without: "
                f"{shorten(image)} is taken for {shorten(stored)}",
            )
        for file in dict.fromkeys(missing.values()):
            images = sorted(image for image, where in missing.items() if where == file)
            notes.error(
                file,
                f"asks about {_several(images, 'image')} that {path} lacks; {explain_missing(images, store)}",
            )
    notes.fact("images not in the store", counts)
    if len(counts) == len(SPLITS):
        notes.fact("images not asked about", len(store) - len(seen))


def _files(read: Mapping[str, ReadSplit]) -> dict[str, Path]:
    return {split: each.files[0] for split, each in read.items()}


def _words(asked: Iterable[Question]) -> list[str]:
    return [question.words for question in asked]


# What all data sets have in common: the words of questions, and features for a model.


def _check_tokens(
    words: Mapping[str, Sequence[str]],
    limit: int,
    against: CheckContext,
    notes: FindingCollector,
    files: Mapping[str, Path],
    setting: str = "data.tokens",
) -> None:
    """Empty questions, and those that `limit` tokens do not hold or that have words unknown to the vocabulary."""
    for split, asked in words.items():
        empty = sum(not each.strip() for each in asked)
        if empty:
            notes.warn(files[split], f"{_some(empty, 'question')} without a word; take them out of the file")
    if against.vocabulary is None:
        return
    counted = {split: _count_tokens(asked, limit, against) for split, asked in words.items()}
    notes.longest = max((min(limit, each.longest) for each in counted.values()), default=None)
    notes.fact("tokens of the longest question", {split: each.longest for split, each in counted.items()})
    notes.fact(f"longer than {limit} tokens", {split: each.cut for split, each in counted.items()}, "share")
    notes.fact("unknown tokens", {split: each.unknown for split, each in counted.items()}, "share")
    for split, each in counted.items():
        if each.cut > MOST_CUT:
            fits = f"--set data.tokens={each.fitting} holds {_percent(FITTING)} of them whole"
            remedy = fits if setting == "data.tokens" else "start from a model whose vocabulary knows their words"
            notes.warn(
                files[split], f"{_percent(each.cut)} of its questions are cut at {limit} tokens ({setting}); {remedy}"
            )
        if each.unknown > MOST_UNKNOWN:
            notes.warn(
                files[split],
                f"{_percent(each.unknown)} of its tokens are unknown to the vocabulary; give the one that the model "
                "was pre-trained with as model.vocabulary",
            )


class TokenCounts(NamedTuple):
    """What becomes of questions when they are cut into tokens; shares are 0-1."""

    longest: int
    cut: float
    unknown: float
    fitting: int
    """tokens that hold FITTING of the questions whole"""


def _count_tokens(words: Iterable[str], limit: int, against: CheckContext) -> TokenCounts:
    assert against.vocabulary is not None
    distinct = Counter(words)
    texts, times = list(distinct), np.fromiter(distinct.values(), dtype=np.int64)
    lengths = np.zeros(LONGEST + 1, dtype=np.int64)
    unknown, number = 0, against.vocabulary.index(UNKNOWN)
    for start in range(0, len(texts), CUT_AT_ONCE):
        against.progress("cutting questions into tokens", start, len(texts))
        ids = tokenize(texts[start : start + CUT_AT_ONCE], against.vocabulary, LONGEST)
        count = times[start : start + CUT_AT_ONCE]
        sizes = ((ids != 0) * np.arange(1, ids.shape[1] + 1)).max(1)  # as Split.lengths
        lengths += np.bincount(sizes, weights=count, minlength=LONGEST + 1).astype(np.int64)
        unknown += int(((ids == number).sum(1) * count).sum())
    tokens = int((lengths * np.arange(LONGEST + 1)).sum()) - 2 * int(lengths.sum())  # less [CLS] and [SEP]
    whole = lengths.cumsum() / lengths.sum()
    return TokenCounts(
        longest=int(np.flatnonzero(lengths).max()),
        cut=float(lengths[limit + 1 :].sum() / lengths.sum()),
        unknown=unknown / max(1, tokens),
        fitting=int(np.argmax(whole >= FITTING)),
    )


# Stores of region features.


def _check_store(path: Path, against: CheckContext, notes: FindingCollector) -> RegionStore | None:
    """Checks the store in the folder `path`; returns it if its ids can be trusted, whatever its arrays hold."""
    record = notes.attempt(lambda: stores.read_store_record(path))
    if record is None:
        return None
    shape = (record.images, record.objects)
    wanted = {
        stores.FEATURES: ((*shape, record.features), np.float16),
        BOXES: ((*shape, 4), np.float32),
        OBJECTS: (shape[:1], np.int32),
    }
    arrays = {}
    for name, (size, kind) in wanted.items():
        array = notes.attempt(lambda: stores._map(path / name, size, kind))  # noqa: B023 (called at once)
        if array is not None:
            arrays[name] = array
    ids = notes.attempt(lambda: stores._read_ids(path / IDS))
    if ids is not None and len(ids) != record.images and len(arrays) == len(wanted):
        notes.attempt(lambda: stores.open_store(path))
    is_named = ids is not None and len(ids) == record.images
    if not (arrays or is_named):
        return None  # nothing bears out how many images store.json tells of
    names = ids if ids is not None and is_named else [f"row {row}" for row in range(record.images)]
    _tell_store(record, arrays, against, notes)
    _check_ids(path, ids or (), notes)
    objects = _check_counts(path, record, arrays, names, notes)
    _check_boxes(path, arrays, objects, names, notes)
    _check_bytes(path, record, arrays, objects, names, against, notes)
    if record.skipped:
        notes.warn(
            path,
            f"{_some(record.skipped, 'row')} of its sources were left out, as bad_rows.json tells; mend the sources "
            "and convert them again, if these images are asked about",
        )
    if not is_named:
        return None
    nothing = np.empty(0)
    return RegionStore(path, tuple(names), *(arrays.get(name, nothing) for name in wanted))


def _tell_store(
    record: StoreRecord, arrays: Mapping[str, np.ndarray], against: CheckContext, notes: FindingCollector
) -> None:
    notes.fact("images in the store", record.images)
    objects = arrays.get(OBJECTS)
    if objects is not None and len(objects):
        notes.fact("regions of an image, fewest", int(objects.min()))
        notes.fact("regions of an image, mean", float(objects.mean()))
        notes.fact("regions of an image, most", int(objects.max()))
    notes.fact("features of a region", record.features)
    notes.fact("largest feature", record.largest_feature)
    notes.fact("size of the store", sum(file.size_bytes for file in record.files.values()), "bytes")
    notes.fact("checksums", "not looked at" if against.is_fast else "compared")


def _check_ids(path: Path, ids: Sequence[str], notes: FindingCollector) -> None:
    twice = [image for image, count in Counter(ids).items() if count > 1]
    if twice:
        notes.error(path / IDS, f"has {_several(twice, 'id')} twice; {stores._remedy(path)}")


def _check_counts(
    path: Path, record: StoreRecord, arrays: Mapping[str, np.ndarray], names: Sequence[str], notes: FindingCollector
) -> np.ndarray:
    """How many regions each image has, int [N], and where that cannot be told, all of them."""
    objects = arrays.get(OBJECTS)
    if objects is None:
        return np.full(record.images, record.objects)
    wrong = np.flatnonzero((objects < 1) | (objects > record.objects))
    if len(wrong):
        notes.error(
            path / OBJECTS,
            f"has {_at(wrong, names)} with a number of regions that is not 1 to {record.objects}; "
            f"{stores._remedy(path)}",
        )
    return np.clip(objects, 0, record.objects)


def _check_boxes(
    path: Path, arrays: Mapping[str, np.ndarray], objects: np.ndarray, names: Sequence[str], notes: FindingCollector
) -> None:
    if BOXES not in arrays:
        return
    outside, turned = [], []
    for start in range(0, len(objects), stores.PIECE_ROWS):
        boxes = arrays[BOXES][start : start + stores.PIECE_ROWS]
        present = np.arange(boxes.shape[1]) < objects[start : start + len(boxes), None]
        is_inside = ((boxes >= 0) & (boxes <= 1)).all(-1)  # NaN is neither
        is_turned = (boxes[..., 2:] < boxes[..., :2]).any(-1)
        outside.extend(start + np.flatnonzero((present & ~is_inside).any(1)))
        turned.extend(start + np.flatnonzero((present & is_inside & is_turned).any(1)))
    for rows, problem in ((outside, "outside 0-1"), (turned, "that ends before it begins (x1 y1 x2 y2)")):
        if rows:
            notes.error(path / BOXES, f"has {_at(rows, names)} with a box {problem}; {stores._remedy(path)}")
    doubt = None if outside else stores.find_box_doubt(arrays[BOXES])
    if doubt:
        notes.warn(path / BOXES, doubt)


def _check_bytes(
    path: Path,
    record: StoreRecord,
    arrays: Mapping[str, np.ndarray],
    objects: np.ndarray,
    names: Sequence[str],
    against: CheckContext,
    notes: FindingCollector,
) -> None:
    """Sizes and checksums of the files, and on the way every feature; a fast check looks at the sizes alone."""
    total, done = sum(file.size_bytes for file in record.files.values()), 0
    for name in STORE_FILES:
        file, expected = path / name, record.files.get(name)
        if expected is None:
            notes.error(path / stores.RECORD, f"names no checksum of {name}; {stores._remedy(path)}")
        elif not file.is_file() or (name != IDS and name not in arrays):
            continue  # said already
        elif file.stat().st_size != expected.size_bytes:
            size = file.stat().st_size
            notes.error(file, f"is not what was written (it has {size:,} bytes); {stores._remedy(path)}")
        elif not against.is_fast:
            digest = hashlib.sha256()
            pieces = stores.data_pieces(file)
            if name == stores.FEATURES:
                pieces = _look_at_features(path, arrays, objects, names, notes)
            for piece in pieces:
                digest.update(piece)
                done += len(piece)
                against.progress(f"checking {name}", done, total)
            if digest.hexdigest() != expected.sha256:
                notes.error(file, f"is not what was written (its checksum differs); {stores._remedy(path)}")


def _look_at_features(
    path: Path, arrays: Mapping[str, np.ndarray], objects: np.ndarray, names: Sequence[str], notes: FindingCollector
) -> Iterator[memoryview]:
    """The bytes of the features, in pieces that are looked at before they pass: numbers, and regions of zeros only."""
    file, shape = path / stores.FEATURES, arrays[stores.FEATURES].shape
    rows = max(1, PIECE_BYTES // (2 * shape[1] * shape[2]))
    bits = np.empty((rows, *shape[1:]), dtype="<u2")
    infinite: list[int] = []
    blank: list[int] = []
    blank_regions = start = 0
    with file.open("rb") as stream:
        stream.seek(stores.HEADER_BYTES)
        view = memoryview(bits).cast("B")
        while got := stream.readinto(view):
            yield view[:got]
            seen = bits[: got // (2 * shape[1] * shape[2])]
            largest = np.bitwise_and(seen, 0x7FFF, out=seen).max(-1)
            present = np.arange(shape[1]) < objects[start : start + len(seen), None]
            infinite.extend(start + np.flatnonzero((present & (largest >= HALF_INFINITY)).any(1)))
            empty = present & (largest == 0)
            blank.extend(start + np.flatnonzero(empty.any(1)))
            blank_regions += int(empty.sum())
            start += len(seen)
    if infinite:
        notes.error(
            file, f"has {_at(infinite, names)} with a feature that is infinite or no number; {stores._remedy(path)}"
        )
    if blank and OBJECTS in arrays:  # else padding, which is zeros, cannot be told from regions
        notes.warn(
            file,
            f"{_some(blank_regions, 'region')} of {_at(blank, names)} {'has' if blank_regions == 1 else 'have'} no "
            "feature but zeros; look at what they were made of",
        )


def _at(rows: Sequence[int] | np.ndarray, names: Sequence[str]) -> str:
    return _several([names[row] for row in rows], "image")


# Data sets that know their scenes.


def _check_scenes(settings: ScenesData, against: CheckContext, notes: FindingCollector) -> None:
    against.progress("drawing scenes", 0, 0)
    task = load_scenes(settings, against.vocabulary or shipped_vocabulary())
    splits = {"train": task.train, "valid": task.valid}
    used = {split: _as_questions(each, task.labels) for split, each in splits.items()}
    notes.fact("questions", {split: len(each) for split, each in used.items()})
    notes.fact("scenes", {split: len(each.regions.features) for split, each in splits.items()})
    _count_answers(used, dict.fromkeys(splits, f"data.kind={settings.kind}"), notes)
    if against.vocabulary is not None:
        notes.longest = max(each.input_ids.shape[1] for each in splits.values())
    unknown = task.vocabulary.index(UNKNOWN)
    shares = {split: float((each.input_ids == unknown).sum() / each.lengths.sum()) for split, each in splits.items()}
    notes.fact("unknown tokens", shares, "share")
    for split, share in shares.items():
        if share > MOST_UNKNOWN:
            notes.warn(
                "model.vocabulary",
                f"does not know {_percent(share)} of the tokens of {split}; give the vocabulary of the start model",
            )


def _as_questions(split: Split, labels: Sequence[str]) -> list[Question]:
    """Questions without their words, which were made into tokens as they were drawn."""
    answers, places = split.answers[:, 0].tolist(), split.scene.tolist()
    return [
        Question(row, (str(place),), "", {labels[answer]: 1.0}, kind)
        for row, (place, answer, kind) in enumerate(zip(places, answers, split.types, strict=True))
    ]


Scenes = dict[int, list[dict[str, Any]]]
"""image_index -> objects"""


def _check_clevr(settings: ClevrData, against: CheckContext, notes: FindingCollector) -> None:
    files = {"train": (settings.questions, settings.scenes)}
    if settings.valid_questions and settings.valid_scenes:
        files["valid"] = (settings.valid_questions, settings.valid_scenes)
    scenes: dict[str, Scenes] = {}
    asked: dict[str, list[Question]] = {}
    for split, (questions_path, scenes_path) in files.items():
        found = _read_clevr_scenes(scenes_path, against, notes)
        questions = _read_clevr_questions(questions_path, against, notes)
        if found is not None:
            scenes[split] = found
        if questions is not None:
            asked[split] = questions
        if found is not None and questions is not None:
            _check_known(questions, found, questions_path, scenes_path, notes)
    if "valid" not in files:
        files["valid"] = files["train"]
        _hold_out(settings, scenes, asked, notes)
    elif len(scenes) == len(SPLITS):
        _check_seen(scenes, files, notes)
    for split in asked:
        if not asked[split]:
            notes.error(files[split][0], f"no question is left for {split}; give more, or change data.holdout")
    whole = {split: len(each) for split, each in asked.items() if each}
    used = _first(settings, {split: asked[split] for split in whole})
    _count_questions(used, whole, notes)
    _count_scenes(scenes, used, files, notes)
    paths = {split: each[0] for split, each in files.items()}
    _count_answers(used, paths, notes)
    words = {split: _words(each) for split, each in used.items()}
    _check_tokens(words, clevr.TOKEN_LIMIT, against, notes, paths, "CLEVR's longest questions have fewer")


def _read_clevr_scenes(path: Path, against: CheckContext, notes: FindingCollector) -> Scenes | None:
    """The scenes that can be used; None if the file cannot be read at all."""
    against.progress(f"reading {path.name}", 0, 0)
    try:
        return clevr.read_scenes(path)
    except DataError as error:
        records = _list(path, "scenes")
        scenes: Scenes = {}
        for record in records:
            fields = record if isinstance(record, dict) else {}
            image, objects = whole_number(fields.get("image_index")), fields.get("objects")
            is_list = isinstance(objects, list) and 0 < len(objects) <= clevr.MOST_OBJECTS
            if image is not None and image not in scenes and is_list:
                scenes[image] = objects
        notes.refuse(error, alike=len(records) - len(scenes))
        return scenes or None


def _read_clevr_questions(path: Path, against: CheckContext, notes: FindingCollector) -> list[Question] | None:
    """The questions that can be used; None if the file cannot be read at all."""
    against.progress(f"reading {path.name}", 0, 0)
    try:
        return [_clevr_question(record, place) for place, record in enumerate(clevr.read_questions(path))]
    except DataError as error:
        records = _list(path, "questions")
        sound = [
            {**record, "image_index": whole_number(record.get("image_index"))}
            for record in records
            if isinstance(record, dict)
            and isinstance(record.get("question"), str)
            and whole_number(record.get("image_index")) is not None
            and clevr.answer_text(record.get("answer")) in ANSWERS
        ]
        notes.refuse(error, alike=len(records) - len(sound))
        found = [_clevr_question(record, place) for place, record in enumerate(sound)]
        return found or None


def _clevr_question(record: Mapping[str, Any], place: int) -> Question:
    answer = clevr.answer_text(record["answer"])
    return Question(place, (str(record["image_index"]),), record["question"], {answer: 1.0}, answer_type(answer))


def _list(path: Path, key: str) -> list[Any]:
    """The list below `key` of a file that was refused; nothing if that is why."""
    try:
        return clevr._read_list(path, key)
    except DataError:
        return []


def _check_known(
    questions: Iterable[Question], scenes: Scenes, questions_path: Path, scenes_path: Path, notes: FindingCollector
) -> None:
    missing = sorted({int(each.images[0]) for each in questions} - set(scenes))
    if missing:
        notes.error(
            questions_path,
            f"asks about {_several(missing, 'image_index')} that {scenes_path} lacks; give the scenes file of the same "
            "split",
        )


def _hold_out(
    settings: ClevrData, scenes: dict[str, Scenes], asked: dict[str, list[Question]], notes: FindingCollector
) -> None:
    """Moves the last scenes, and the questions about them, to the validation split, as load_clevr does."""
    holdout, every = settings.holdout or clevr.HOLDOUT, scenes.get("train")
    if every is None:
        return
    if len(every) <= holdout:
        notes.error(
            settings.scenes,
            f"has {len(every)} scenes, too few to hold {holdout} out for validation; give "
            f"--set data.holdout={max(1, len(every) // 5)} or validation files",
        )
        return
    last = set(sorted(every)[-holdout:])
    scenes["train"] = {image: objects for image, objects in every.items() if image not in last}
    scenes["valid"] = {image: every[image] for image in last}
    questions = asked.get("train")
    if questions is not None:
        asked["train"] = [each for each in questions if int(each.images[0]) not in last]
        asked["valid"] = [each for each in questions if int(each.images[0]) in last]


def _check_seen(scenes: Mapping[str, Scenes], files: Mapping[str, tuple[Path, Path]], notes: FindingCollector) -> None:
    """Finds scenes of both splits by what is in them: CLEVR numbers each split's scenes from 0."""
    train, valid = (
        {hashlib.sha256(repr(objects).encode()).digest(): image for image, objects in scenes[split].items()}
        for split in SPLITS
    )
    both = [image for key, image in valid.items() if key in train]
    if both:
        notes.warn(
            files["valid"][1],
            f"{len(both):,} of its {len(valid):,} scenes are in {files['train'][1]} too (image_index {_few(both)}); "
            "validate on scenes that are not trained on",
        )


def _count_scenes(
    scenes: Mapping[str, Scenes],
    asked: Mapping[str, Sequence[Question]],
    files: Mapping[str, tuple[Path, Path]],
    notes: FindingCollector,
) -> None:
    """Counts scenes and objects, and looks at each object of the scenes that are asked about."""
    notes.fact("scenes", {split: len(each) for split, each in scenes.items()})
    unused = {}
    for split in (each for each in SPLITS if each in scenes and each in asked):
        used = {int(each.images[0]) for each in asked[split]}
        unused[split] = len(scenes[split].keys() - used)
        path = files[split][1]
        notes.make_each(
            ((image, objects) for image, objects in scenes[split].items() if image in used),
            lambda scene, place: clevr._see([scene[1]], [scene[0]], path),  # noqa: B023 (called at once)
        )
    notes.fact("scenes not asked about", unused)
    means = {split: float(np.mean([len(objects) for objects in each.values()])) for split, each in scenes.items()}
    notes.fact("objects of a scene, mean", means)


def _check_nlvr(settings: NlvrData, against: CheckContext, notes: FindingCollector) -> None:
    train, weak = _read_nlvr(settings, "train", against, notes), _read_nlvr(settings, "weak", against, notes)
    if settings.valid:
        valid, path = _read_nlvr(settings, "valid", against, notes), settings.valid[0]
        _check_groups(train, valid, settings, notes)
    else:
        groups, share, path = {each.group for each in train}, settings.holdout or nlvr.HOLDOUT, settings.train[0]
        held = notes.attempt(lambda: nlvr.held_out(groups, share, str(path))) if train else None
        valid = [each for each in train if held and each.group in held]
        train = [each for each in train if not (held and each.group in held)]
    scored = {each.group for each in valid}
    kept = [each for each in weak if each.group not in scored]
    twice = [number for number, count in Counter(each.question.id for each in [*train, *kept]).items() if count > 1]
    if twice and settings.weak:
        notes.error(
            " and ".join(map(str, (*settings.train, *settings.weak))),
            f"{_several(twice, 'example')} {'comes' if len(twice) == 1 else 'come'} twice; give files with each "
            "example once",
        )
    whole = {"train": [*train, *kept], "valid": valid}
    used = _first(settings, {split: each for split, each in whole.items() if each})
    _count_nlvr(used, whole, notes)
    if settings.weak:
        notes.fact("weak questions", {"train": len(kept)})
        notes.fact("weak questions dropped", {"train": len(weak) - len(kept)})
    asked = {split: [each.question for each in found] for split, found in used.items()}
    files = {"train": settings.train[0], "valid": path}
    _count_answers(asked, files, notes)
    words = {split: _words(each) for split, each in asked.items()}
    _check_tokens(words, nlvr.TOKEN_LIMIT, against, notes, files, "NLVR's longest sentences have fewer")


def _read_nlvr(settings: NlvrData, name: str, against: CheckContext, notes: FindingCollector) -> list[nlvr.Example]:
    key = "weak_label" if name == "weak" else "label"
    found: dict[int | str, nlvr.Example] = {}

    def take_apart(path: Path) -> ParsedFile:
        return ParsedFile(
            read_records(path, remedy="-"), lambda record, place: keep(nlvr._example(record, place, path, key))
        )

    def keep(example: nlvr.Example) -> Question:
        found.setdefault(example.question.id, example)
        return example.question

    files = getattr(settings, name) or ()
    part, _ = _read_files(files, take_apart, lambda path: nlvr._read(name, (path,), key), against, notes)
    return [found[question.id] for question in part.questions]


def _check_groups(
    train: Iterable[nlvr.Example], valid: Iterable[nlvr.Example], settings: NlvrData, notes: FindingCollector
) -> None:
    assert settings.valid is not None
    shared = sorted({each.group for each in train} & {each.group for each in valid})
    if shared:
        notes.error(
            settings.valid[0],
            f"{_several(shared, 'group')} {'is' if len(shared) == 1 else 'are'} in {settings.train[0]} too, so their "
            "sentences would be known; give files without a group in common, or leave data.valid out",
        )


def _count_nlvr(
    used: Mapping[str, Sequence[nlvr.Example]], whole: Mapping[str, Sequence[nlvr.Example]], notes: FindingCollector
) -> None:
    counts, files = {split: len(each) for split, each in used.items()}, {split: len(whole[split]) for split in used}
    notes.fact("questions", counts)
    if counts != files:
        notes.fact("questions in the files", files)
    notes.fact("groups", {split: len({each.group for each in found}) for split, found in used.items()})
    objects = {split: [len(each.features) for each in found] for split, found in used.items()}
    notes.fact("objects of a scene, mean", {split: float(np.mean(each)) for split, each in objects.items()})
    notes.fact("scenes without an object", {split: each.count(0) for split, each in objects.items()})


KINDS: Mapping[str, Callable[[Any, CheckContext, FindingCollector], None]] = {
    "scenes": _check_scenes,
    "clevr": _check_clevr,
    "vqa": _check_asked,
    "gqa": _check_asked,
    "nlvr2": _check_asked,
    "nlvr": _check_nlvr,
}
"""data.kind -> what checks it"""


# Words.


def _nothing(record: Any, place: int) -> Any:
    raise AssertionError("there is no record to make something of")


def _kind_of(sentence: str) -> str:
    """What a refused record has in common with others refused for the same: what was expected, or the remedy."""
    _, is_there, expected = sentence.rpartition(", expected ")
    return re.sub(r"\d+", "#", expected if is_there else sentence.rpartition("; ")[2])


def _few(names: Iterable[object]) -> str:
    """The first few of `names`."""
    every = list(map(str, names))
    more = len(every) - NAMED
    return ", ".join(every[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _several(names: Sequence[object], noun: str) -> str:
    """`names` of a noun: 'image 7', or '5 images (7, 8, 9 and 2 more)'."""
    return f"{noun} {names[0]}" if len(names) == 1 else f"{_some(len(names), noun)} ({_few(names)})"


def _some(count: int, noun: str) -> str:
    plural = "es" if noun.endswith("x") else "s"
    return f"{count:,} {noun}" + (plural if count != 1 else "")


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _by_split(shares: Mapping[str, float]) -> str:
    return " and ".join(f"{_percent(share)} ({split})" for split, share in shares.items())

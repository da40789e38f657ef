"""Check a data set before training: find missing, mismatched, repeated or impossible values, and count its contents.

A check reads the data with the same readers as `load_task`, but collects all their errors instead of raising the first.
This module adds statistics of the data, and warnings that follow from the statistics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lxcompress.catalog.data_kinds import find_data_kind
from lxcompress.catalog.extensions import resolve
from lxcompress.data.bert_rules import UNKNOWN
from lxcompress.data.check_context import CheckContext
from lxcompress.data.facts import SPLITS, WHOLE, Fact, FactSheet, Unit, Value
from lxcompress.data.fit import DataShape, ModelShape, find_misfits, foresee_data
from lxcompress.data.images import StoreImages
from lxcompress.data.problems import Finding, Problems, as_finding, count_of, percent, several
from lxcompress.data.question_set import LEAST_ANSWERABLE, by_split
from lxcompress.data.regions.store import OBJECTS
from lxcompress.data.regions.verify import StoreContents, verify_store
from lxcompress.data.tasks import apply_language, read_question_set
from lxcompress.data.tokens import Vocabulary, tokenize
from lxcompress.errors import DataError
from lxcompress.progress import Progress, no_progress
from lxcompress.recipe import AnyData

__all__ = [
    "SPLITS",
    "WHOLE",
    "CheckReport",
    "Fact",
    "Finding",
    "Unit",
    "Value",
    "as_finding",
    "check_data",
    "check_store",
]

LEAST_COVERED = 0.75
"""A check warns if the best answer has a label for a smaller fraction of the questions than this. LXMERT's 3,129 labels
cover 94 % of VQA's questions, and its 1,842 labels 57 % of GQA's."""
MOST_CUT = 0.05
"""A check warns if a larger fraction of the questions is cut at the token limit."""
MOST_UNKNOWN = 0.01
"""A check warns if a larger fraction of the tokens is unknown. BERT's vocabulary knows all words of VQA's questions."""
MOST_ALIKE = 0.95
"""A check warns if one answer is right for at least this fraction of the questions."""
FITTING = 0.99
"""The fraction of the questions that are not cut with the value of data.tokens that a warning proposes."""
LONGEST = 512
"""Questions are tokenized up to this many tokens; data.tokens cannot be larger."""
TOKENIZED_AT_ONCE = 1 << 14
"""How many questions are tokenized in one call."""


@dataclass(frozen=True)
class CheckReport:
    """The result of a check: the facts of a data set, in reading order, and its problems, errors first."""

    facts: tuple[Fact, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """Return the number of findings that are errors."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """Return the number of findings that are warnings."""
        return len(self.findings) - self.errors


def check_data(
    settings: AnyData,
    vocabulary: Vocabulary | None = None,
    *,
    model: ModelShape | None = None,
    is_fast: bool = False,
    progress: Progress = no_progress,
) -> CheckReport:
    """Return the facts and the problems of the data that `settings` describe. Never raises because of file contents.

    `vocabulary` and `model` are those of the model that will read the data. Without them, tokens and the fit of model
    and data are not checked. A fast check reads no features.
    """
    problems, sheet = Problems.collect(progress), FactSheet()
    question_set = read_question_set(settings, problems)
    context = CheckContext(settings, question_set, question_set.first(settings), sheet, problems)
    _count_questions(context)
    spec = find_data_kind(settings.kind)
    if spec.check:
        resolve(spec.check)(context)
    for fact in question_set.facts:
        sheet.add(fact.name, fact.values, fact.unit)
    _check_images(context, is_fast=is_fast)
    _count_answers(context)
    _check_labels(context)
    _check_choices(context)
    longest = _check_tokens(context, vocabulary)
    if model is not None:
        tokens = None if vocabulary is None else len(vocabulary)
        shape = problems.attempt(lambda: foresee_data(settings, tokens)) or DataShape(settings.kind, tokens=tokens)
        for sentence in find_misfits(model, replace(shape, longest=longest, labels=question_set.labels)):
            problems.add(DataError(f"{model.name}: {sentence}"))
    return CheckReport(sheet.facts, problems.findings)


def check_store(path: Path, *, is_fast: bool = False, progress: Progress = no_progress) -> CheckReport:
    """Return the facts and the problems of the store of region features in the folder `path`."""
    problems, sheet = Problems.collect(progress), FactSheet()
    contents = verify_store(path, problems, is_fast=is_fast)
    if contents is not None:
        _describe_store(contents, sheet, is_fast=is_fast)
    return CheckReport(sheet.facts, problems.findings)


def _count_questions(context: CheckContext) -> None:
    """Add facts: the number of questions, images and repeated questions of each split."""
    used = context.used
    counts = {name: len(asked) for name, asked in used.items()}
    whole = {name: len(context.question_set.splits[name].questions) for name in used}
    context.sheet.add("questions", counts)
    if counts != whole:
        context.sheet.add("questions in the files", whole)
    images = {name: {image for question in asked for image in question.images if image} for name, asked in used.items()}
    context.sheet.add("images", {name: len(found) for name, found in images.items()})
    distinct = {name: {(question.images, question.words) for question in asked} for name, asked in used.items()}
    context.sheet.add("repeated questions", {name: counts[name] - len(found) for name, found in distinct.items()})


def _check_images(context: CheckContext, *, is_fast: bool) -> None:
    """Verify the store of region features, and look for the image of each question, in the store or in the data set."""
    features, sheet = getattr(context.settings, "features", None), context.sheet
    contents = verify_store(features, context.problems, is_fast=is_fast) if features is not None else None
    if contents is not None:
        _describe_store(contents, sheet, is_fast=is_fast)
    store = contents.store if contents is not None else None
    missing: dict[str, Value] = {}
    rows_used: set[int] = set()
    for name, asked in context.used.items():
        split = context.question_set.splits[name]
        images = split.images or (StoreImages(store) if store is not None else None)
        if images is None:
            continue
        _, rows = images.find(asked, split, context.problems)
        found = [
            pair for question, row in zip(asked, rows, strict=True) for pair in zip(question.images, row, strict=True)
        ]
        missing[name] = len({image for image, row in found if row < 0})
        rows_used.update(row for _, row in found if row >= 0)
    if store is not None:
        sheet.add("images not in the store", missing)
        if len(missing) == len(context.question_set.splits):
            sheet.add("images not asked about", len(store) - len(rows_used))


def _describe_store(contents: StoreContents, sheet: FactSheet, *, is_fast: bool) -> None:
    """Add the facts of a store: its images, regions, features and size."""
    record, objects = contents.record, contents.arrays.get(OBJECTS)
    sheet.add("images in the store", record.images)
    if objects is not None and len(objects):
        sheet.add("regions of an image, fewest", int(objects.min()))
        sheet.add("regions of an image, mean", float(objects.mean()))
        sheet.add("regions of an image, most", int(objects.max()))
    sheet.add("features of a region", record.features)
    sheet.add("largest feature", record.largest_feature)
    if record.reading:
        sheet.add("made with", record.reading)
    sheet.add("size of the store", sum(file.size_bytes for file in record.files.values()), "bytes")
    sheet.add("checksums", "not looked at" if is_fast else "compared")


def _count_answers(context: CheckContext) -> None:
    """Add facts about the answers and the question types of each split.

    One of them is the score that is reached by always giving the most frequent answer.
    """
    used, sheet = context.used, context.sheet
    answered = {name: sum(bool(question.credits) for question in asked) for name, asked in used.items()}
    sheet.add("with an answer", {name: answered[name] / len(asked) for name, asked in used.items()}, "share")
    commonest, shares = {}, {}
    for name, asked in used.items():
        if answered[name]:
            total: dict[str, float] = {}
            for question in asked:
                for answer, credit in question.credits.items():
                    total[answer] = total.get(answer, 0.0) + credit
            commonest[name] = max(total, key=lambda answer: total[answer])
            shares[name] = total[commonest[name]] / len(asked)
    sheet.add("commonest answer", commonest)
    sheet.add("score of giving only that", shares, "share")
    for name, share in shares.items():
        if share >= MOST_ALIKE:
            context.problems.warn(
                context.question_set.splits[name].where,
                f"the answer {commonest[name]!r} is right for {percent(share)} of its questions, so there is almost "
                "nothing to learn; give a file with the others too",
            )
    types = {name: Counter(question.type for question in asked) for name, asked in used.items()}
    every = Counter[str]()
    for counts in types.values():
        every.update(counts)
    for kind, _ in every.most_common() if len(every) > 1 else ():
        sheet.add(f"of type {kind}", {name: counts[kind] for name, counts in types.items()})


def _check_labels(context: CheckContext) -> None:
    """Add how many answers of each split have a label; warn if the best answers of many questions have none."""
    labels, sheet = context.question_set.labels, context.sheet
    if labels is None:
        return
    sheet.add("answers with a label", len(labels))
    known = frozenset(labels)
    answerable, best, scores = {}, {}, {}
    for name, asked in context.used.items():
        credited = [question.credits for question in asked if question.credits]
        if not credited:
            continue
        highest = [
            max((credit for answer, credit in credits.items() if answer in known), default=0.0) for credits in credited
        ]
        answerable[name] = sum(not known.isdisjoint(credits) for credits in credited) / len(credited)
        is_best = [most >= max(credits.values()) > 0 for most, credits in zip(highest, credited, strict=True)]
        best[name] = sum(is_best) / len(credited)
        scores[name] = sum(highest) / len(asked)
    sheet.add("best answer has a label", best, "share")
    sheet.add("best possible score", scores, "share")
    given = {answer for question in context.used.get("train", ()) for answer in question.credits}
    if given:
        sheet.add("labels never right in train", len(known - given))
    answers = getattr(context.settings, "answers", None)
    if answers and answerable and min(answerable.values()) <= LEAST_ANSWERABLE:
        return  # the reader has reported this as an error
    if best and min(best.values()) < LEAST_COVERED:
        remedy = (
            "give the answer vocabulary of this data set"
            if answers
            else "give an answer vocabulary as data.answers, or a smaller data.least_answers"
        )
        context.problems.warn(
            answers or context.question_set.train.where,
            f"has the best answer to {by_split(best)} of the questions, so the best possible score is "
            f"{by_split(scores)}; {remedy}",
        )


def _check_choices(context: CheckContext) -> None:
    """Add the number of multiple-choice questions; warn of questions that offer no choice with a label."""
    offered = {name: [question for question in asked if question.choices] for name, asked in context.used.items()}
    offered = {name: asked for name, asked in offered.items() if asked}
    context.sheet.add("multiple-choice questions", {name: len(asked) for name, asked in offered.items()})
    if context.question_set.labels is None:
        return
    known, shares = frozenset(context.question_set.labels), {}
    for name, asked in offered.items():
        choices = [choice for question in asked for choice in question.choices]
        shares[name] = sum(choice in known for choice in choices) / len(choices)
        without = [question for question in asked if known.isdisjoint(question.choices)]
        if without:
            ids = [question.id for question in without]
            context.problems.warn(
                context.question_set.splits[name].file_of(without[0]),
                f"{several(ids, 'question id')} {'offers' if len(ids) == 1 else 'offer'} no choice with a label, so "
                "the best of all labels is taken; give a larger answer vocabulary",
            )
    context.sheet.add("choices with a label", shares, "share")


def _check_tokens(context: CheckContext, vocabulary: Vocabulary | None) -> int | None:
    """Warn of empty questions, cut questions and unknown words.

    Return the number of tokens of the longest question, after cutting; None without a vocabulary.
    """
    splits, sheet, limit = context.question_set.splits, context.sheet, context.question_set.token_limit
    for name, asked in context.used.items():
        empty = sum(not question.words.strip() for question in asked)
        if empty and getattr(context.settings, "has_texts", True):
            context.problems.warn(
                splits[name].where, f"{count_of(empty, 'question')} without a word; take them out of the file"
            )
    if vocabulary is None:
        return None
    vocabulary = apply_language(vocabulary, context.settings)
    counted = {
        name: _count_tokens((question.words for question in asked), limit, vocabulary, context.problems.progress)
        for name, asked in context.used.items()
    }
    sheet.add("tokens of the longest question", {name: counts.longest for name, counts in counted.items()})
    sheet.add(f"longer than {limit} tokens", {name: counts.cut for name, counts in counted.items()}, "share")
    sheet.add("unknown tokens", {name: counts.unknown for name, counts in counted.items()}, "share")
    for name, counts in counted.items():
        if counts.cut > MOST_CUT:
            remedy = (
                f"--set data.tokens={counts.fitting} cuts only {percent(1 - FITTING)} of them"
                if hasattr(context.settings, "tokens")
                else "start from a model whose vocabulary knows their words"
            )
            context.problems.warn(
                splits[name].where, f"{percent(counts.cut)} of its questions are cut at {limit} tokens; {remedy}"
            )
        if counts.unknown > MOST_UNKNOWN:
            context.problems.warn(
                splits[name].where,
                f"{percent(counts.unknown)} of its tokens are unknown to the vocabulary; give the vocabulary that the "
                "model was pre-trained with as model.vocabulary",
            )
    return max((min(limit, counts.longest) for counts in counted.values()), default=None)


class TokenCounts(NamedTuple):
    """Statistics of the tokens of a split's questions."""

    longest: int
    """number of tokens of the longest question"""
    cut: float
    """fraction (0-1) of the questions that are longer than the limit"""
    unknown: float
    """fraction (0-1) of the tokens that are unknown"""
    fitting: int
    """the smallest limit that leaves the fraction FITTING of the questions whole"""


def _count_tokens(words: Iterable[str], limit: int, vocabulary: Vocabulary, progress: Progress) -> TokenCounts:
    """Tokenize the questions, without cutting them at `limit`; return the statistics of their tokens."""
    distinct = Counter(words)
    texts, times = list(distinct), np.fromiter(distinct.values(), dtype=np.int64)
    lengths = np.zeros(LONGEST + 1, dtype=np.int64)
    unknown, unknown_id = 0, vocabulary.index(UNKNOWN)
    for start in range(0, len(texts), TOKENIZED_AT_ONCE):
        progress("tokenizing questions", start, len(texts))
        ids = tokenize(texts[start : start + TOKENIZED_AT_ONCE], vocabulary, LONGEST)
        count = times[start : start + TOKENIZED_AT_ONCE]
        sizes = ((ids != 0) * np.arange(1, ids.shape[1] + 1)).max(1)  # as in Split.lengths
        lengths += np.bincount(sizes, weights=count, minlength=LONGEST + 1).astype(np.int64)
        unknown += int(((ids == unknown_id).sum(1) * count).sum())
    tokens = int((lengths * np.arange(LONGEST + 1)).sum()) - 2 * int(lengths.sum())  # without [CLS] and [SEP]
    whole = lengths.cumsum() / lengths.sum()
    return TokenCounts(
        longest=int(np.flatnonzero(lengths).max()),
        cut=float(lengths[limit + 1 :].sum() / lengths.sum()),
        unknown=unknown / max(1, tokens),
        fitting=int(np.argmax(whole >= FITTING)),
    )

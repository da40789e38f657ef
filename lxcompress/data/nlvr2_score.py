"""Compute accuracy and consistency of NLVR2 (Suhr et al. 2019) and NLVR v1 (Suhr et al. 2017), as their scripts do.

Accuracy is the fraction of examples whose prediction is right. Consistency is the fraction of sentences for which all
predictions are right: those for all its pairs of images in NLVR2, or for all its scenes in NLVR v1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lxcompress.data.files import field, read_records, read_text
from lxcompress.data.scoring import ScoreFiles, ScoreReport, doubt_partial, doubt_unused
from lxcompress.data.vqa_score import (
    NO_FILE_REMEDY,
    TypeScore,
    check_complete,
    check_known,
    keep_predicted,
    mean,
    official_percent,
)
from lxcompress.errors import DataError
from lxcompress.text import shorten

EXAMPLES_REMEDY = "give the official JSON lines"
TRUTH = {"true": True, "false": False}


@dataclass(frozen=True)
class NlvrScore:
    """The accuracy of all examples and the consistency, both 0-1, and the accuracy of each example."""

    overall: float
    consistency: float
    sentences: int
    per_question: dict[str, float]


def score_nlvr2_files(files: ScoreFiles) -> ScoreReport:
    """Return the official scores of a file of NLVR2 predictions; predictions for other examples are ignored.

    Raises DataError.
    """
    return _score_files(files, nlvr2_sentence, read_nlvr_predictions(files.predictions))


def score_nlvr_files(files: ScoreFiles) -> ScoreReport:
    """Return the official scores of a file of NLVR v1 predictions. Raises DataError, also if it has other examples."""
    predictions, labels = read_nlvr_predictions(files.predictions), read_nlvr_labels(files.questions)
    check_known(predictions, labels, where=str(files.predictions), among=str(files.questions))
    return _score_files(files, nlvr_sentence, predictions)


def _score_files(files: ScoreFiles, sentence: Callable[[str], str], predictions: dict[str, bool]) -> ScoreReport:
    """Return the scores of `predictions`, which were read from `files.predictions`. Raises DataError."""
    where, labels = str(files.predictions), read_nlvr_labels(files.questions)
    counted = keep_predicted(labels, predictions, where=where) if files.only_predicted else labels
    score = score_nlvr(predictions, counted, sentence=sentence, where=where)
    return ScoreReport(
        overall=TypeScore(score.overall, len(counted)),
        groups={},
        per_question={example: official_percent(share) for example, share in score.per_question.items()},
        consistency=TypeScore(score.consistency, score.sentences),
        doubts=doubt_partial(len(counted), len(labels)) + doubt_unused(len(predictions), len(counted)),
    )


def score_nlvr(
    predictions: Mapping[str, bool],
    labels: Mapping[str, bool],
    *,
    sentence: Callable[[str], str],
    where: str = "the predictions",
) -> NlvrScore:
    """Return the official scores of `predictions`; `sentence` maps the identifier of an example to its sentence.

    Predictions for other examples are ignored. Raises DataError, which names `where`, if an example has no prediction.
    """
    check_complete(predictions, labels, where=where)
    scores = {example: float(predictions[example] == label) for example, label in labels.items()}
    consistent: dict[str, float] = {}
    for example, score in scores.items():
        asked = sentence(example)
        consistent[asked] = min(score, consistent.get(asked, 1.0))
    return NlvrScore(
        overall=mean(scores.values()),
        consistency=mean(consistent.values()),
        sentences=len(consistent),
        per_question=scores,
    )


def nlvr2_sentence(identifier: str) -> str:
    """Return the id of the sentence of a NLVR2 example: its identifier split-set-pair-sentence without the pair.

    Raises DataError for an identifier of another form.
    """
    parts = identifier.split("-")
    if len(parts) != 4:
        raise DataError(
            f"identifier {identifier}: is not NLVR2's split-set-pair-sentence; score NLVR v1 with --kind nlvr"
        )
    split, group, _, number = parts
    return f"{split}-{group}--{number}"


def nlvr_sentence(identifier: str) -> str:
    """Return the id of the sentence of a NLVR v1 example: the part of its identifier before the hyphen.

    Raises DataError for an identifier of another form.
    """
    group, _, scene = identifier.partition("-")
    if not scene or "-" in scene:
        raise DataError(f"identifier {identifier}: is not NLVR v1's sentence-scene; score NLVR2 with --kind nlvr2")
    return group


def read_nlvr_predictions(path: Path) -> dict[str, bool]:
    """Return identifier -> prediction, from a file with lines of identifier,True or identifier,False. Raises DataError.

    Columns after the second are ignored, as in the official code, and empty lines are skipped.
    """
    predictions: dict[str, bool] = {}
    # str.splitlines would also split at other separators, which are part of an identifier in the official code.
    text = read_text(path, remedy=NO_FILE_REMEDY, kind="CSV")
    for number, line in enumerate((raw.strip() for raw in text.split("\n")), 1):
        if not line:
            continue
        identifier, _, rest = line.partition(",")
        truth = TRUTH.get(rest.partition(",")[0].lower())
        if truth is None:
            raise DataError(
                f"{path}: line {number} is {shorten(line)}, expected an identifier, a comma and True or False; write "
                "the official format, without a header"
            )
        if identifier in predictions:
            raise DataError(f"{path}: line {number} predicts {identifier} again; keep one prediction of each example")
        predictions[identifier] = truth
    if not predictions:
        raise DataError(f"{path}: has no prediction; write lines of identifier,True or identifier,False")
    return predictions


def read_nlvr_labels(path: Path) -> dict[str, bool]:
    """Return identifier -> label, from the official JSON lines or a JSON list of the same records. Raises DataError."""
    labels: dict[str, bool] = {}
    for index, record in enumerate(read_records(path, remedy=EXAMPLES_REMEDY)):
        identifier, label = field(record, "identifier", str), TRUTH.get((field(record, "label", str) or "").lower())
        if identifier is None or label is None:
            raise DataError(
                f"{path}: record {index} is {shorten(record)}, expected an identifier and a label, True or False; "
                f"{EXAMPLES_REMEDY} of a split that has labels"
            )
        if identifier in labels:
            raise DataError(f"{path}: {identifier} is labelled twice; give a file with each example once")
        labels[identifier] = label
    return labels

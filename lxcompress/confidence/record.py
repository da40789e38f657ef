"""ConfidenceRecord: the confidence and the credit of a model's answers, beside the model as reliability.json.

`find_scale` gives what a program that answers needs of it: the temperature and the threshold.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from lxcompress.confidence.measures import (
    RISKS,
    ChangedAnswers,
    calibration_error,
    count_changes,
    majority_rate,
    risk_curve,
    widest_coverage,
)
from lxcompress.confidence.temperature import LIMIT, softmax
from lxcompress.errors import RunError
from lxcompress.filenames import RELIABILITY_FILE
from lxcompress.records import IS_NUMBER, Count, FileRecord, Fraction, Positive, read_record

REMEDY = "delete it, and measure again with lxcompress reliability"
Packed = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]*={0,2}$")]
"""An array of one number for each question: base64 of its zlib-compressed little-endian bytes."""


class ConfidenceRecord(FileRecord):
    """The confidence of a model's answers to the validation questions, in the order of the split.

    `temperature` divides the model's scores before the softmax. `thresholds` maps a risk, such as "0.05", to the
    smallest confidence at which the model may answer so that the mean credit it misses is at most the risk; None if no
    threshold does. `labels` are the answers (uint32), `confidences` their probabilities at `temperature` and
    `raw_confidences` those at temperature 1 (float32), `credits` their credits in hundredths (uint8), and `types` the
    index of each question's type in `type_names` (uint16). `majority` maps a type to the label with the most credit.
    """

    questions: Positive
    temperature: Annotated[float, IS_NUMBER, Field(ge=0.99 / LIMIT, le=1.01 * LIMIT)]
    thresholds: dict[str, Fraction | None]
    type_names: Annotated[list[str], Field(min_length=1, max_length=65_536)]
    majority: dict[str, Count]
    labels: Packed
    confidences: Packed
    raw_confidences: Packed
    credits: Packed
    types: Packed


@dataclass(frozen=True)
class AnswerConfidence:
    """The answers of a model to Q questions: their labels, confidences, credits and types.

    `confidences` are those at the fitted `temperature`, and `raw` those at temperature 1. All arrays are [Q].
    `majority` maps a type to the label with the most credit.
    """

    temperature: float
    labels: np.ndarray
    confidences: np.ndarray
    raw: np.ndarray
    credits: np.ndarray
    types: tuple[str, ...]
    majority: Mapping[str, int]

    @cached_property
    def calibration_error(self) -> float:
        """The expected calibration error at the fitted temperature, 0-1."""
        return calibration_error(self.confidences, self.credits)

    @cached_property
    def raw_calibration_error(self) -> float:
        """The expected calibration error at temperature 1, 0-1."""
        return calibration_error(self.raw, self.credits)

    @cached_property
    def majority_rate(self) -> float:
        """The share of questions (0-1) that get the most frequent right answer of their type."""
        return majority_rate(self.labels, self.types, self.majority)

    def threshold(self, risk: float) -> float | None:
        """Return the smallest confidence at which the risk is at most `risk`; None if no threshold does that."""
        point = widest_coverage(risk_curve(self.confidences, self.credits), risk)
        return None if point is None else point.threshold

    def coverage(self, risk: float) -> float:
        """Return the share of questions (0-1) that can be answered so that the risk is at most `risk`."""
        point = widest_coverage(risk_curve(self.confidences, self.credits), risk)
        return 0.0 if point is None else point.coverage

    def changes_from(self, before: AnswerConfidence) -> dict[str, ChangedAnswers] | None:
        """Return by type of question how many answers became wrong or right; None if the questions differ."""
        if before.types != self.types:
            return None
        return count_changes(before.credits, self.credits, self.types)


@dataclass(frozen=True)
class ConfidenceScale:
    """The numbers that turn a model's scores into probabilities, and say when the model is sure enough to answer.

    `thresholds` maps a risk (0.01, 0.05 or 0.1) to the smallest confidence to answer at; None if no threshold keeps the
    risk. The risk was measured on the validation questions of the model's study.
    """

    temperature: float
    thresholds: Mapping[float, float | None]

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Return the probability of each answer, 0-1, float64 [Q, A], for the model's scores [Q, A]."""
        return softmax(scores, self.temperature)

    def is_sure(self, probability: float, risk: float = 0.05) -> bool:
        """Return whether an answer of this probability may be given at `risk`, one of the keys of `thresholds`."""
        threshold = self.thresholds[risk]
        return threshold is not None and probability >= threshold


def find_scale(folder: Path) -> ConfidenceScale | None:
    """Return the temperature and the thresholds of the model in `folder`; None if they were not measured.

    `folder` is a ticket, an artifact, or the folder of a dense run. Raises RunError for a damaged file.
    """
    path = folder / RELIABILITY_FILE
    if not path.is_file():
        return None
    record = read_record(path, ConfidenceRecord, remedy=REMEDY)
    return ConfidenceScale(
        temperature=record.temperature,
        thresholds={risk: record.thresholds.get(str(risk)) for risk in RISKS},
    )


def make_record(answers: AnswerConfidence) -> ConfidenceRecord:
    """Return the record of a model's answers."""
    names = sorted(set(answers.types))
    index = {name: number for number, name in enumerate(names)}
    return ConfidenceRecord(
        questions=len(answers.labels),
        temperature=answers.temperature,
        thresholds={str(risk): answers.threshold(risk) for risk in RISKS},
        type_names=names,
        majority=dict(answers.majority),
        labels=_pack(answers.labels, "<u4"),
        confidences=_pack(answers.confidences, "<f4"),
        raw_confidences=_pack(answers.raw, "<f4"),
        credits=_pack(np.round(100 * answers.credits), "u1"),
        types=_pack(np.array([index[name] for name in answers.types]), "<u2"),
    )


def read_confidence(folder: Path) -> AnswerConfidence | None:
    """Return the answers that were recorded beside the model in `folder`; None if they were not measured.

    Raises RunError for a damaged file.
    """
    path = folder / RELIABILITY_FILE
    if not path.is_file():
        return None
    record = read_record(path, ConfidenceRecord, remedy=REMEDY)
    arrays = {name: _unpack(path, record, name, kind) for name, kind in _ARRAYS.items()}
    _check_range(path, "credits", arrays["credits"], 100)
    _check_range(path, "types", arrays["types"], len(record.type_names) - 1)
    for name in ("confidences", "raw_confidences"):
        _check_range(path, name, arrays[name], 1)
    if set(record.type_names) - set(record.majority):
        raise RunError(f"{path}: majority lacks a type of type_names; {REMEDY}")
    return AnswerConfidence(
        temperature=record.temperature,
        labels=arrays["labels"].astype(np.int64),
        confidences=arrays["confidences"].astype(np.float64),
        raw=arrays["raw_confidences"].astype(np.float64),
        credits=arrays["credits"] / 100,
        types=tuple(record.type_names[index] for index in arrays["types"]),
        majority=record.majority,
    )


_ARRAYS = {"labels": "<u4", "confidences": "<f4", "raw_confidences": "<f4", "credits": "u1", "types": "<u2"}


def _pack(values: np.ndarray, kind: str) -> str:
    """Return an array as text, stored as numbers of the numpy type `kind`."""
    return base64.b64encode(zlib.compress(values.astype(kind).tobytes(), 9)).decode()


def _unpack(path: Path, record: ConfidenceRecord, name: str, kind: str) -> np.ndarray:
    """Return the array `name` of a record. Raises RunError unless it has one number for each question."""
    size = record.questions * np.dtype(kind).itemsize
    try:
        data = zlib.decompressobj().decompress(base64.b64decode(getattr(record, name), validate=True), size + 1)
    except (ValueError, zlib.error) as problem:
        raise RunError(f"{path}: {name} are no compressed bytes ({problem}); {REMEDY}") from None
    if len(data) != size:
        raise RunError(f"{path}: expected {size} bytes of {name}, got {len(data)} or more; {REMEDY}")
    return np.frombuffer(data, dtype=kind)


def _check_range(path: Path, name: str, values: np.ndarray, most: float) -> None:
    """Raise RunError unless all values are from 0 to `most`."""
    if not bool(((values >= 0) & (values <= most)).all()):
        raise RunError(f"{path}: {name} has a number that is not from 0 to {most}; {REMEDY}")

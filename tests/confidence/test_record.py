"""Laws of the record of confidences: what is written is read, damage is named, and the scale is that of the answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lxcompress.confidence.record import AnswerConfidence, find_scale, make_record, read_confidence
from lxcompress.confidence.temperature import softmax
from lxcompress.errors import RunError
from lxcompress.filenames import RELIABILITY_FILE
from lxcompress.records import dump_sealed
from lxcompress.rundir import write_record


def make_answers(count: int = 50) -> AnswerConfidence:
    random = np.random.default_rng(0)
    confidences = random.random(count).astype(np.float32).astype(np.float64)
    return AnswerConfidence(
        temperature=1.5,
        labels=random.integers(4000, size=count),
        confidences=confidences,
        raw=confidences.astype(np.float32).astype(np.float64) ** 0,
        credits=(random.random(count) < confidences).astype(float),
        types=tuple(random.choice(["number", "other", "yes/no"], size=count).tolist()),
        majority={"number": 3, "other": 70, "yes/no": 3000},
    )


def test_the_answers_come_back_as_they_were_written(tmp_path: Path) -> None:
    answers = make_answers()
    assert read_confidence(tmp_path) is None
    write_record(tmp_path / RELIABILITY_FILE, make_record(answers))
    found = read_confidence(tmp_path)
    assert found is not None
    for name in ("labels", "confidences", "raw", "credits"):
        assert np.array_equal(getattr(found, name), getattr(answers, name)), name
    assert (found.types, found.majority, found.temperature) == (answers.types, answers.majority, 1.5)


def test_the_scale_lets_the_model_answer_within_the_risk(tmp_path: Path) -> None:
    answers = make_answers(2000)
    assert find_scale(tmp_path) is None
    write_record(tmp_path / RELIABILITY_FILE, make_record(answers))
    scale = find_scale(tmp_path)
    assert scale is not None
    for risk in (0.05, 0.1):
        sure = np.array([scale.is_sure(confidence, risk) for confidence in answers.confidences])
        assert sure.mean() == pytest.approx(answers.coverage(risk))
        assert 1 - answers.credits[sure].mean() <= risk
    scores = np.array([[1.0, 2.0, 4.0]])
    assert np.array_equal(scale.probabilities(scores), softmax(scores, 1.5))


def test_a_model_that_is_never_right_is_never_sure(tmp_path: Path) -> None:
    answers = make_answers(20)
    wrong = AnswerConfidence(**{**vars(answers), "credits": np.zeros(20)})
    write_record(tmp_path / RELIABILITY_FILE, make_record(wrong))
    scale = find_scale(tmp_path)
    assert scale is not None
    assert set(scale.thresholds.values()) == {None}
    assert not scale.is_sure(1.0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("credits", "AAAA", "credits are no compressed bytes"),
        ("labels", "eJwDAAAAAAE=", "expected 200 bytes of labels, got 0"),
        ("majority", {"number": 3}, "majority lacks a type"),
    ],
)
def test_damage_is_named(tmp_path: Path, name: str, value: object, message: str) -> None:
    record = make_record(make_answers()).model_copy(update={name: value})
    (tmp_path / RELIABILITY_FILE).write_text(dump_sealed(record))
    with pytest.raises(RunError, match=message):
        read_confidence(tmp_path)


def test_a_changed_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / RELIABILITY_FILE
    write_record(path, make_record(make_answers()))
    tree = json.loads(path.read_text())
    path.write_text(json.dumps({**tree, "temperature": 2.0}))
    with pytest.raises(RunError, match="was changed"):
        find_scale(tmp_path)

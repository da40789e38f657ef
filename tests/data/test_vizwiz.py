"""Laws of VizWiz-VQA: its questions are read as published, and its measures equal slow, obvious versions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lxcompress.data.predictions import format_predictions
from lxcompress.data.problems import Problems
from lxcompress.data.scoring import ScoreFiles
from lxcompress.data.tasks import load_task, read_question_set
from lxcompress.data.vizwiz import UNANSWERABLE
from lxcompress.data.vizwiz_score import average_precision, f1_score, score_vizwiz_files, vizwiz_accuracy
from lxcompress.errors import DataError
from lxcompress.recipe import VizwizData
from tests.real import real


def record(number: int, words: str, answers: dict[str, int], *, kind: str = "other") -> dict[str, Any]:
    given = [answer for answer, count in answers.items() for _ in range(count)]
    return {
        "image": f"VizWiz_{kind}_{number:08d}.jpg",
        "question": words,
        "answers": [{"answer": answer, "answer_confidence": "yes"} for answer in given],
        "answer_type": "unanswerable" if given[0] in UNANSWERABLE else "other",
        "answerable": int(given[0] not in UNANSWERABLE),
    }


def documents(grey: int = 6, blue: int = 3) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    train = [record(n, "What colour is it?", {"blue": 8, "grey": 2}) for n in range(3)]
    train += [record(n, "What does this say?", {"unanswerable": 7, "soup": 3}) for n in range(3, 7)]
    valid = [record(0, "What colour is it?", {"grey": grey, "blue": blue, "teal": 1}, kind="val")]
    valid += [record(1, "What is this?", {"unsuitable": 5, "unanswerable": 5, "blue": 1}, kind="val")]
    return train, valid


def settings(folder: Path, train: Any, valid: Any, **more: Any) -> VizwizData:
    for name, document in (("train", train), ("valid", valid)):
        (folder / f"{name}.json").write_text(json.dumps(document))
    return VizwizData(kind="vizwiz", train=folder / "train.json", valid=folder / "valid.json", **more)


def test_questions_are_named_by_their_photograph(tmp_path: Path) -> None:
    task = load_task(settings(tmp_path, *documents()))
    assert task.labels == ("unanswerable", "blue")
    assert task.valid.ids == ("VizWiz_val_00000000.jpg", "VizWiz_val_00000001.jpg")
    assert task.valid.types == ("other", "unanswerable")
    # The credit of VQA: three people are worth 0.9, four or more 1, and one 0.3.
    assert task.valid.targets(torch.arange(2), 2).tolist() == [pytest.approx([0, 0.9]), pytest.approx([1, 0.3])]
    found = read_question_set(settings(tmp_path, *documents()), Problems.strict())
    assert found.valid.questions[0].images == ("VizWiz_val_00000000",)


def test_labels_need_enough_questions(tmp_path: Path) -> None:
    assert load_task(settings(tmp_path, *documents(), least_answers=4)).labels == ("unanswerable",)
    with pytest.raises(DataError, match=r"no answer is the most frequent one of 5 questions or more"):
        load_task(settings(tmp_path, *documents(), least_answers=5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.pop("image"), "expected the name of an image and a question"),
        (lambda record: record.update(answers=[]), "has .* as answers, expected 1 to 1000 records"),
        (lambda record: record.update(answers=[{"answer": 3}]), "expected 1 to 1000 records with a text"),
        (lambda record: record.update(answerable=2), "has 2 as answerable, expected 0 or 1"),
        (lambda record: record.update(image="VizWiz_val_00000001.jpg"), "comes twice"),
    ],
)
def test_a_broken_question_is_named(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    train, valid = documents()
    change(valid[0])
    with pytest.raises(DataError, match=message):
        load_task(settings(tmp_path, train, valid))


def test_the_accuracy_leaves_each_answer_out_once() -> None:
    answers = ["blue"] * 3 + ["grey"] * 2 + ["a cat"] * 5
    assert vizwiz_accuracy("blue", answers) == pytest.approx((3 * 2 / 3 + 7 * 1) / 10)
    assert vizwiz_accuracy("The Grey.", answers) == pytest.approx((2 * 1 / 3 + 8 * 2 / 3) / 10)
    assert vizwiz_accuracy("a cat", answers) == 0  # the prediction loses its article, the people's answers keep it
    assert vizwiz_accuracy("yes", ["yes"] * 11) == 1


def slow_average_precision(is_positive: np.ndarray, confidence: np.ndarray) -> float:
    total, before = 0.0, 0.0
    for threshold in sorted(set(confidence.tolist()), reverse=True):
        said = confidence >= threshold
        recall = (said & is_positive).sum() / is_positive.sum()
        total += (recall - before) * (said & is_positive).sum() / said.sum()
        before = recall
    return float(total)


def test_average_precision_is_the_sum_over_thresholds() -> None:
    random = np.random.default_rng(0)
    for levels in (3, 1000):
        is_positive, confidence = random.random(60) < 0.4, random.integers(levels, size=60) / levels
        expected = slow_average_precision(is_positive, confidence)
        assert average_precision(is_positive, confidence) == pytest.approx(expected)
    assert average_precision(np.array([True, True, False]), np.array([3, 2, 1])) == 1
    assert average_precision(np.array([True, False]), np.ones(2)) == 0.5
    assert average_precision(np.zeros(2, bool), np.ones(2)) == 0


def test_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    is_positive, said = np.array([1, 1, 1, 0, 0], bool), np.array([1, 0, 1, 1, 0], bool)
    precision, recall = 2 / 3, 2 / 3
    assert f1_score(is_positive, said) == pytest.approx(2 * precision * recall / (precision + recall))
    assert f1_score(is_positive, ~is_positive) == 0


def test_predictions_are_scored_as_the_challenge_does(tmp_path: Path) -> None:
    _, valid = documents()
    data = settings(tmp_path, *documents())
    given = [(valid[0]["image"], "grey"), (valid[1]["image"], "unanswerable")]
    (tmp_path / "said.json").write_text(format_predictions("vizwiz", given, [0.9, 0.2]))
    report = score_vizwiz_files(ScoreFiles(tmp_path / "said.json", data.valid[0]))
    assert report.overall.accuracy == 1
    assert {name: score.accuracy for name, score in report.measures.items()} == {
        "unanswerable, average precision": 1,
        "unanswerable, F1": 1,
    }
    (tmp_path / "said.json").write_text(format_predictions("vizwiz", given))
    report = score_vizwiz_files(ScoreFiles(tmp_path / "said.json", data.valid[0]))
    assert not report.measures
    assert "answerability is not scored: 2 of 2" in report.doubts[0]
    (tmp_path / "said.json").write_text(format_predictions("vizwiz", given[:1]))
    with pytest.raises(DataError, match="has no prediction for 1 of 2"):
        score_vizwiz_files(ScoreFiles(tmp_path / "said.json", data.valid[0]))


def test_the_real_questions_are_read(tmp_path: Path) -> None:
    records = json.loads(real("vizwiz", "train.json").read_text())
    task = load_task(settings(tmp_path, records[:300], records[300:]))
    assert (len(task.train), len(task.valid)) == (300, 100)
    assert task.labels[0] == "unanswerable"
    said = [{"image": found["image"], "answer": "unanswerable", "answerable": 0} for found in records[300:]]
    (tmp_path / "said.json").write_text(json.dumps(said))
    report = score_vizwiz_files(ScoreFiles(tmp_path / "said.json", tmp_path / "valid.json"))
    share = np.mean([not found["answerable"] for found in records[300:]])
    assert report.measures["unanswerable, average precision"].accuracy == pytest.approx(share)
    assert report.measures["unanswerable, F1"].accuracy == pytest.approx(2 * share / (1 + share))

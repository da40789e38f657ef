"""Laws of the GQA accuracy: exact match over the balanced questions, by every grouping."""

from __future__ import annotations

import gzip
import json
import random
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lxcompress.data.gqa_score import (
    GqaQuestion,
    read_gqa_predictions,
    read_gqa_questions,
    score_gqa,
    score_gqa_files,
)
from lxcompress.data.scoring import ScoreFiles
from lxcompress.data.vqa_score import TypeScore
from lxcompress.errors import DataError
from tests.real import real

STRUCTURAL = ["verify", "query", "choose", "logical", "compare"]
SEMANTIC = ["obj", "attr", "cat", "rel", "global"]
ANSWERS = ["yes", "no", "left", "white"]


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def official(count: int) -> dict[str, dict[str, Any]]:
    """Questions as GQA writes them, some of them not balanced."""
    rng = random.Random(count)
    return {
        str(100 + number): {
            "question": "Is it so?",
            "answer": rng.choice(ANSWERS),
            "isBalanced": rng.random() < 0.7,
            "types": {
                "structural": rng.choice(STRUCTURAL),
                "semantic": rng.choice(SEMANTIC),
                "detailed": "existC",
            },
        }
        for number in range(count)
    }


def slow_scores(questions: dict[str, dict[str, Any]], said: dict[str, str]) -> dict[str, dict[str, list[float]]]:
    """What the official script gathers before it averages: grouping -> group -> points."""
    points: dict[str, dict[str, list[float]]] = {"form": {}, "structural": {}, "semantic": {}, "all": {}}
    for key, each in questions.items():
        if each["isBalanced"]:
            point = 1.0 if said[key] == each["answer"] else 0.0
            form = "open" if each["types"]["structural"] == "query" else "binary"
            groups = {"form": form, "all": "all"} | {kind: each["types"][kind] for kind in ("structural", "semantic")}
            for kind, name in groups.items():
                points[kind].setdefault(name, []).append(point)
    return points


def test_scores_are_those_of_the_slow_script(tmp_path) -> None:
    questions = official(400)
    rng = random.Random(1)
    said = {key: each["answer"] if rng.random() < 0.6 else rng.choice(ANSWERS) for key, each in questions.items()}
    score = score_gqa(said, read_gqa_questions(write(tmp_path / "q.json", questions)))
    slow = slow_scores(questions, said)
    assert score.overall == pytest.approx(sum(slow["all"]["all"]) / len(slow["all"]["all"]), abs=1e-12)
    tables = {
        "form": score.per_answer_form,
        "structural": score.per_structural_type,
        "semantic": score.per_semantic_type,
    }
    for kind, table in tables.items():
        assert set(table) == set(slow[kind])
        for name, group in table.items():
            points = slow[kind][name]
            assert (group.questions, group.accuracy) == (len(points), pytest.approx(sum(points) / len(points)))
    assert sum(score.per_question.values()) / len(score.per_question) == pytest.approx(score.overall)


def test_only_the_balanced_count_and_no_other_needs_a_prediction(tmp_path) -> None:
    questions = official(50)
    said = {key: each["answer"] for key, each in questions.items() if each["isBalanced"]}
    assert score_gqa(said, read_gqa_questions(write(tmp_path / "q.json", questions))).overall == 1
    wrong = {key: said.get(key, "never said") for key in questions}
    assert score_gqa(wrong, read_gqa_questions(tmp_path / "q.json")).overall == 1


@pytest.mark.parametrize("said", ["Yes", "yes.", " yes", "yes ", ""])
def test_an_answer_is_right_letter_by_letter(said) -> None:
    assert score_gqa({"1": said}, {"1": GqaQuestion("yes")}).overall == 0
    assert score_gqa({"1": "yes"}, {"1": GqaQuestion("yes")}).overall == 1


def test_a_question_without_types_is_in_the_whole_alone() -> None:
    questions = {"1": GqaQuestion("yes"), "2": GqaQuestion("no", structural="verify", semantic="obj")}
    score = score_gqa({"1": "yes", "2": "yes"}, questions)
    assert score.overall == 0.5
    assert {name: group.accuracy for name, group in score.per_structural_type.items()} == {"verify": 0}


def test_a_question_without_a_prediction_is_named() -> None:
    with pytest.raises(DataError, match=r"p\.json: has no prediction for 1 of 2 questions \(2 is the first\)"):
        score_gqa({"1": "yes"}, {"1": GqaQuestion("yes"), "2": GqaQuestion("no")}, where="p.json")


def test_a_file_is_scored_whole_or_only_where_it_answers(tmp_path) -> None:
    """A question that does not say whether it is balanced is one that counts."""
    asked = {"1": {"answer": "yes"}, "2": {"answer": "no"}, "3": {"answer": "no", "isBalanced": False}}
    said = [{"questionId": "1", "prediction": "yes"}, {"questionId": "9", "prediction": "no"}]
    files = ScoreFiles(write(tmp_path / "p.json", said), write(tmp_path / "q.json", asked))
    with pytest.raises(DataError, match="no prediction for 1 of 2"):
        score_gqa_files(files)
    report = score_gqa_files(replace(files, only_predicted=True))
    assert (report.overall, report.per_question) == (TypeScore(1.0, 1), {"1": 100.0})
    assert [doubt[:23] for doubt in report.doubts] == ["only 1 of 2 questions h", "1 of 2 predictions are "]


def test_files_are_read_plain_gzip_or_zip(tmp_path) -> None:
    plain = write(tmp_path / "q.json", official(20))
    packed = tmp_path / "q.json.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    archive = tmp_path / "questions1.2.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.write(plain, "val_balanced_questions.json")
    assert read_gqa_questions(plain) == read_gqa_questions(packed) == read_gqa_questions(archive)
    said = write(tmp_path / "p.json", [{"questionId": "7", "prediction": "yes"}])
    assert read_gqa_predictions(said) == {"7": "yes"}


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"7": "yes"}, 'is {"7": "yes"}, expected a list of one prediction or more'),
        ([{"questionId": 7, "prediction": "yes"}], "expected a text as questionId"),
        ([{"questionId": "7", "prediction": None}], "prediction 0 is"),
        ([{"question_id": 7, "answer": "yes"}], "--kind vqa"),
        ([{"questionId": "7", "prediction": "yes"}] * 2, "questionId 7 is predicted twice"),
    ],
)
def test_bad_predictions_are_told_what_is_bad(document, named, tmp_path) -> None:
    with pytest.raises(DataError) as caught:
        read_gqa_predictions(write(tmp_path / "p.json", document))
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ([{"answer": "yes"}], "does not hold questions by their id"),
        ({}, "does not hold questions by their id"),
        ({"7": {"question": "Is it so?"}}, "question 7 is"),
        ({"questions": [{"question_id": 7}]}, "question questions is"),
        ({"7": {"answer": "yes", "isBalanced": False}}, "none of its 1 questions is balanced"),
    ],
)
def test_bad_questions_are_told_what_is_bad(document, named, tmp_path) -> None:
    with pytest.raises(DataError) as caught:
        read_gqa_questions(write(tmp_path / "q.json", document))
    assert named in str(caught.value)


def test_published_questions_are_read() -> None:
    questions = read_gqa_questions(real("gqa", "questions.json"))
    assert questions == {"202218649": GqaQuestion("picture", structural="query", semantic="rel")}

"""`lxcompress score`: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from lxcompress.cli.score import score_cli
from lxcompress.errors import DataError

app = typer.Typer()
app.command()(score_cli)
# A program of its own: the console reads its width when it starts.
PROGRAM = "import sys, typer; from lxcompress.cli.score import score_cli; typer.run(score_cli)"
ANSWERED = [
    (1, ["yes"] * 10, "yes/no", "is the"),
    (2, ["red"] * 3 + ["Dark-red"] * 7, "other", "what color is the very first thing that you see in this"),
    (3, ["2"] * 10, "number", "how many"),
    (4, ["no"] * 9 + ["No."], "yes/no", "is the"),
]
SAID = {1: "yes", 2: "red", 3: "two", 4: "NO"}
"""100, 90, 0 and 100 %"""


@dataclass(frozen=True)
class Files:
    """The three files of VQA."""

    predictions: Path
    questions: Path
    annotations: Path

    @property
    def options(self) -> list[str]:
        return [str(self.predictions), "--questions", str(self.questions), "--annotations", str(self.annotations)]


@pytest.fixture
def files(tmp_path) -> Files:
    return vqa(tmp_path, SAID)


def vqa(folder: Path, said: dict[int, str], task: str = "Open-Ended") -> Files:
    annotations = [
        {
            "question_id": question,
            "answers": [{"answer": answer, "answer_id": number} for number, answer in enumerate(answers, 1)],
            "answer_type": answer_type,
            "question_type": question_type,
        }
        for question, answers, answer_type, question_type in ANSWERED
    ]
    questions = [{"question_id": question, "multiple_choices": ["yes", "red", "2", "NO"]} for question, *_ in ANSWERED]
    return Files(
        predictions=write(folder / "p.json", [{"question_id": key, "answer": text} for key, text in said.items()]),
        questions=write(folder / "q.json", {"task_type": task, "questions": questions}),
        annotations=write(folder / "a.json", {"annotations": annotations}),
    )


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def score(*options: str) -> Any:
    return CliRunner().invoke(app, list(options))


def test_json_is_all_that_standard_output_gets(files) -> None:
    result = score(*files.options, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "overall": pytest.approx(72.5),
        "per_answer_type": {"yes/no": 100, "number": 0, "other": pytest.approx(90)},
        "per_question_type": {"is the": 100, "how many": 0, ANSWERED[1][3]: pytest.approx(90)},
        "questions": 4,
    }


def test_the_file_of_questions_has_the_mean_that_is_printed(files, tmp_path) -> None:
    kept = tmp_path / "new" / "each.json"
    result = score(*files.options, "--json", "--per-question", str(kept))
    each = json.loads(kept.read_text(encoding="utf-8"))
    assert each == {"1": 100, "2": 90, "3": 0, "4": 100}
    assert sum(each.values()) / len(each) == pytest.approx(json.loads(result.stdout)["overall"])
    assert str(kept) in score(*files.options, "--per-question", str(kept)).stdout


@pytest.mark.parametrize("width", [60, 100])
def test_the_table_fits_and_says_all(files, width) -> None:
    environment = {**os.environ, "COLUMNS": str(width), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *files.options], capture_output=True, env=environment, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in done.stdout
    assert [line.split() for line in lines if line.split()[:1] in (["overall"], ["yes/no"], ["number"])] == [
        ["overall", "72.50", "4"],
        ["yes/no", "100.00", "2"],
        ["number", "0.00", "1"],
    ]
    assert done.stdout.index("  is the") < done.stdout.index("  how many") < done.stdout.index("  what color")


def test_a_part_is_scored_only_if_that_is_asked_for_and_then_it_is_said(tmp_path) -> None:
    files = vqa(tmp_path, {1: "yes", 3: "two"})
    refused = score(*files.options)
    assert isinstance(refused.exception, DataError)
    assert "has no prediction for 2 of 4 questions (2 is the first)" in str(refused.exception)
    assert "--only-predicted" in str(refused.exception)
    result = score(*files.options, "--only-predicted", "--json")
    assert (json.loads(result.stdout)["overall"], json.loads(result.stdout)["questions"]) == (50, 2)
    assert "only 2 of 4 questions have a prediction" in " ".join(result.stderr.split())


def test_files_of_another_split_are_told_apart(files, tmp_path) -> None:
    write(files.questions, {"questions": [{"question_id": 1}]})
    assert "a.json: 3 of its 4 questions are not in" in str(score(*files.options).exception)
    others = vqa(tmp_path, SAID | {9: "yes"})
    assert "p.json: 1 of its 5 questions are not in" in str(score(*others.options, "--only-predicted").exception)


def test_multiple_choice_predictions_are_held_to_the_choices(tmp_path) -> None:
    files = vqa(tmp_path, SAID, task="Multiple Choice")
    assert "'two' is not one of the multiple choices of question_id 3" in str(score(*files.options).exception)
    assert score(*vqa(tmp_path, SAID | {3: "2"}, task="Multiple Choice").options).exit_code == 0


def test_answers_that_nothing_tells_apart_are_a_doubt(files) -> None:
    document = json.loads(files.annotations.read_text(encoding="utf-8"))
    for answer in document["annotations"][0]["answers"]:
        del answer["answer_id"]
    write(files.annotations, document)
    result = score(*files.options, "--json")
    assert json.loads(result.stdout)["overall"] == pytest.approx(47.5)
    assert "warning: 1 of 4 questions have answers without distinct answer_ids" in " ".join(result.stderr.split())


def test_gqa_is_scored_by_its_types(tmp_path) -> None:
    asked = {
        "7": {"answer": "yes", "isBalanced": True, "types": {"structural": "verify", "semantic": "obj"}},
        "8": {"answer": "red", "isBalanced": True, "types": {"structural": "query", "semantic": "attr"}},
        "9": {"answer": "no", "isBalanced": False, "types": {"structural": "verify", "semantic": "obj"}},
    }
    said = [{"questionId": key, "prediction": "yes"} for key in asked]
    options = [str(write(tmp_path / "p.json", said)), "--questions", str(write(tmp_path / "q.json", asked))]
    result = score(*options, "--kind", "gqa", "--json")
    assert json.loads(result.stdout) == {
        "overall": 50,
        "per_answer_form": {"binary": 100, "open": 0},
        "per_structural_type": {"query": 0, "verify": 100},
        "per_semantic_type": {"attr": 0, "obj": 100},
        "questions": 2,
    }
    assert "1 of 3 predictions are for other questions" in " ".join(result.stderr.split())
    assert "--kind gqa" in str(score(*options, "--annotations", options[2]).exception)


@pytest.mark.parametrize(
    ("kind", "names"), [("nlvr2", ["dev-1-0-0", "dev-1-1-0", "dev-1-0-1"]), ("nlvr", ["5-0", "5-1", "6-0"])]
)
def test_nlvr_is_scored_by_its_sentences(kind, names, tmp_path) -> None:
    asked, said = tmp_path / "q.json", tmp_path / "p.csv"
    asked.write_text("".join(json.dumps({"identifier": name, "label": "True"}) + "\n" for name in names))
    said.write_text(f"{names[0]},true\n{names[1]},False\n{names[2]},True\n")
    options = [str(said), "--questions", str(asked), "--kind", kind]
    assert json.loads(score(*options, "--json").stdout) == {
        "overall": pytest.approx(200 / 3),
        "consistency": 50,
        "sentences": 2,
        "questions": 3,
    }
    assert "consistency" in score(*options).stdout
    said.write_text(f"{said.read_text()}{names[0]}9,true\n")
    beyond = score(*options)
    assert (beyond.exit_code == 0) == (kind == "nlvr2")  # as each of the official scripts has it


def test_pairs_are_right_if_both_answers_are(files, tmp_path) -> None:
    """Questions 1, 2 and 4 are right; 3 is wrong, and 9 is not scored."""
    pairs = tmp_path / "pairs.json"
    pairs.write_text("[[1, 2], [2, 3], [4, 1], [1, 9]]")
    options = [*files.options, "--pairs", str(pairs)]
    assert json.loads(score(*options, "--json").stdout)["pairs"] == pytest.approx(200 / 3)
    pairs.write_text("[[1, 9]]")
    assert "none of its pairs has two scored questions" in str(score(*options).exception)
    pairs.write_text("[[1]]")
    assert "pair 0 is" in str(score(*options).exception)


@pytest.mark.parametrize(
    ("without", "more", "said"),
    [
        ("--annotations", [], "give --annotations"),
        (None, ["--kind", "gqa"], "leave --annotations out"),
        (None, ["--kind", "nlvr2"], "leave --annotations out"),
        (None, ["--kind", "clevr"], "clevr"),
    ],
)
def test_a_wrong_combination_is_wrong_usage_with_its_remedy(files, without, more, said) -> None:
    options = files.options[:3] if without else files.options
    result = score(*options, *more)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())


def test_a_file_that_is_read_is_never_written(files) -> None:
    before = files.predictions.read_bytes()
    result = score(*files.options, "--per-question", str(files.predictions))
    assert result.exit_code == 1
    assert files.predictions.read_bytes() == before

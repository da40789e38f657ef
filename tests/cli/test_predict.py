"""Predictions: every question is answered, in the form that its evaluation takes, and scored as the study scored it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from lxcompress.cli.main import app
from lxcompress.data.predictions import format_predictions
from lxcompress.errors import DataError, RecipeError
from lxcompress.recipe import load_recipe
from lxcompress.rundir import read_run
from lxcompress.study.run import run_study
from lxcompress.training.predict import predict

ASKED = [
    ("is there a red cube?", "yes/no", "yes", 7),
    ("is there a blue thing?", "yes/no", "no", 10),
    ("what color is the small sphere?", "other", "red", 4),
    ("how many cubes are there?", "number", "2", 9),
    ("how many things are there?", "number", "3", 3),
    ("what is the large thing made of?", "other", "metal", 6),
]


def write_vqa(folder: Path, split: str, count: int, first: int) -> tuple[Path, Path]:
    """`count` questions in the official form, each with ten answers of which some are right."""
    questions, annotations = [], []
    for place in range(count):
        words, kind, answer, right = ASKED[place % len(ASKED)]
        number = first + place
        questions.append({"question_id": number, "image_id": number // 10, "question": words})
        given = [answer] * right + [f"else {index}" for index in range(10 - right)]
        annotations.append(
            {
                "question_id": number,
                "image_id": number // 10,
                "answer_type": kind,
                "question_type": " ".join(words.split()[:2]),
                "multiple_choice_answer": answer,
                "answers": [
                    {"answer": each, "answer_confidence": "yes", "answer_id": at} for at, each in enumerate(given, 1)
                ],
            }
        )
    paths = folder / f"{split}_questions.json", folder / f"{split}_annotations.json"
    paths[0].write_text(json.dumps({"questions": questions}), encoding="utf-8")
    paths[1].write_text(json.dumps({"annotations": annotations}), encoding="utf-8")
    return paths


@pytest.fixture(scope="module")
def blind_run(tiny_start, tmp_path_factory) -> Path:
    """A blind VQA study of the toy, from official files."""
    folder = tmp_path_factory.mktemp("vqa")
    train, valid = write_vqa(folder, "train", 120, 1000), write_vqa(folder, "valid", 36, 5000)
    recipe = {
        "name": "blind",
        "seeds": [0],
        "device": "cpu",
        "data": {
            "kind": "vqa",
            "train": str(train[0]),
            "train_annotations": str(train[1]),
            "valid": str(valid[0]),
            "valid_annotations": str(valid[1]),
            "least_answers": 1,
            "max_valid": 30,
        },
        "model": {"start": str(tiny_start)},
        "train": {"epochs": 3, "batch_size": 8, "learning_rate": 5e-3},
        "prune": {"criteria": ["low-magnitude"], "sparsities": [0.5]},
    }
    path = folder / "blind.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    run_study(load_recipe(path), folder / "run")
    return folder / "run"


@pytest.fixture
def scenes_run(tiny_run) -> Path:
    """A study of the toy on scenes."""
    return tiny_run


def test_predictions_score_as_the_study_scored(blind_run, tmp_path) -> None:
    """No answer here is changed by the official normalisation, so soft labels and the official measure agree."""
    out = tmp_path / "predictions.json"
    folder = blind_run.parent
    runner = CliRunner()
    ticket = blind_run / "tickets" / "low-magnitude-weight-50-seed0"
    said = runner.invoke(app, ["predict", str(ticket), str(blind_run), "--out", str(out)])
    assert said.exit_code == 0, said.output
    given = json.loads(out.read_text())
    assert [each["question_id"] for each in given] == list(range(5000, 5036))
    arguments = ["score", str(out), "--questions", str(folder / "valid_questions.json")]
    arguments += ["--annotations", str(folder / "valid_annotations.json"), "--json"]
    scored = runner.invoke(app, arguments)
    official = json.loads(scored.stdout)
    result = read_run(blind_run).results["low-magnitude-weight-50-seed0"]
    assert result.retrained.questions == 30
    assert result.retrained.accuracy > 0.3
    whole = 100 * result.retrained.accuracy * 30 / 36
    assert official["overall"] >= whole - 1e-6
    recipe = load_recipe(blind_run / "recipe.yaml", ["data.max_valid=null"])
    predict(str(ticket), recipe, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == out.read_bytes()


def test_a_test_split_needs_no_annotations(blind_run, tmp_path) -> None:
    questions, _ = write_vqa(tmp_path, "test", 12, 9000)
    out = tmp_path / "test.json"
    recipe = load_recipe(blind_run / "recipe.yaml")
    assert predict(str(blind_run / "seeds/0/dense"), recipe, out, [questions]) == 12
    assert [each["question_id"] for each in json.loads(out.read_text())] == list(range(9000, 9012))


def test_a_model_of_other_answers_is_refused(blind_run, tmp_path) -> None:
    recipe = load_recipe(blind_run / "recipe.yaml", ["data.least_answers=60"])
    with pytest.raises((RecipeError, DataError)):
        predict(str(blind_run / "seeds/0/dense"), recipe, tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_scenes_are_numbered_in_their_order(scenes_run, tmp_path) -> None:
    """Their predictions have VQA's form: data.kind=scenes has no file of questions, and makes the same ones anew."""
    out = tmp_path / "out.json"
    recipe = load_recipe(scenes_run / "recipe.yaml")
    assert predict(str(scenes_run / "seeds/0/dense"), recipe, out) == 64
    assert [each["question_id"] for each in json.loads(out.read_text())] == list(range(64))
    scored = CliRunner().invoke(app, ["score", str(out), "--recipe", str(scenes_run), "--json"])
    assert scored.exit_code == 0, f"{scored.output} {scored.exception!r}"
    found = json.loads(scored.stdout)
    wanted = read_run(scenes_run).dense[0].trained
    assert found["overall"] == pytest.approx(100 * wanted.accuracy)
    assert found["per_answer_type"] == pytest.approx({kind: 100 * each for kind, each in wanted.by_type.items()})
    assert found["questions"] == 64


def test_text_ids_are_scored_as_they_were_predicted_and_types_are_named(blind_run, tmp_path) -> None:
    """All files with texts as question ids give the score of numbers; of files that differ the types are named."""
    folder, answers = blind_run.parent, tmp_path / "numbers.json"
    recipe = load_recipe(blind_run / "recipe.yaml")
    predict(str(blind_run / "seeds/0/dense"), recipe, answers)

    def as_texts(path: Path, name: str) -> Path:
        document = json.loads(path.read_text())
        records = document if isinstance(document, list) else next(iter(document.values()))
        for record in records:
            record["question_id"] = str(record["question_id"])
        (tmp_path / name).write_text(json.dumps(document))
        return tmp_path / name

    numbers = (answers, folder / "valid_questions.json", folder / "valid_annotations.json")
    texts = tuple(as_texts(path, f"texts-{index}.json") for index, path in enumerate(numbers))
    data = recipe.data.model_copy(update={"valid": (texts[1],), "valid_annotations": (texts[2],)})
    predict(str(blind_run / "seeds/0/dense"), recipe.model_copy(update={"data": data}), tmp_path / "said.json")
    assert json.loads((tmp_path / "said.json").read_text()) == json.loads(texts[0].read_text())

    def score(said: Path, questions: Path, annotations: Path):
        words = ["score", said, "--questions", questions, "--annotations", annotations, "--json"]
        return CliRunner().invoke(app, [str(word) for word in words])

    assert json.loads(score(*texts).stdout) == json.loads(score(*numbers).stdout)
    for mixed in ((answers, *texts[1:]), (texts[0], *numbers[1:]), (*numbers[:2], texts[2])):
        error = score(*mixed).exception
        assert isinstance(error, DataError)
        assert "is a number" in str(error)
        assert "is a text" in str(error)
        assert len(str(error)) < 500


def test_questions_have_no_place_beside_scenes(tmp_path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: n\ndata: {kind: nlvr, train: t.json}\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="has no question files"):
        predict("mini", load_recipe(path), tmp_path / "out.json", [tmp_path / "q.json"])


def test_each_evaluation_has_its_form() -> None:
    given = [(3, "yes"), (4, "it's")]
    assert json.loads(format_predictions("vqa", given)) == [
        {"question_id": 3, "answer": "yes"},
        {"question_id": 4, "answer": "it's"},
    ]
    assert json.loads(format_predictions("gqa", given))[0] == {"questionId": "3", "prediction": "yes"}
    assert format_predictions("nlvr2", [("dev-1-0-1", "True")]) == "dev-1-0-1,True\n"

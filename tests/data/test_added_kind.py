"""The data kind that tests/extension adds: read, checked, studied, predicted and scored as a built-in one."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
import yaml
from typer.testing import CliRunner

from lxcompress.catalog import extensions
from lxcompress.catalog.data_kinds import DATA_KINDS, data_kind_names, find_data_kind
from lxcompress.catalog.extensions import load_added, resolve
from lxcompress.cli.data_check import check_cli
from lxcompress.cli.main import app as lxcompress
from lxcompress.data.predictions import format_predictions
from lxcompress.data.tasks import load_task
from lxcompress.errors import DataError, RecipeError
from lxcompress.recipe import dump_recipe, load_recipe
from lxcompress.rundir import read_run
from lxcompress.study.run import run_study
from lxcompress.workflow.score import OfficialFiles, score_file

EXTENSION = Path(__file__).parents[1] / "extension"
ANSWERS = ("yes", "no", "red")


@pytest.fixture(autouse=True)
def package(monkeypatch):
    """Install the example package for one test."""
    monkeypatch.syspath_prepend(str(EXTENSION))
    for cached in (extensions._entry_points, load_added):
        cached.cache_clear()
    yield
    for cached in (extensions._entry_points, load_added):
        cached.cache_clear()


def write_csv(path: Path, header: list[str], rows: list[list[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture
def recipe_file(tmp_path, toy_start) -> Path:
    """A recipe over two CSV files: 24 training and 12 validation questions about 18 images."""
    draw = np.random.default_rng(0)
    questions = [
        ["train" if n < 24 else "valid", f"q{n}", f"image{n // 2}", f"is thing {n} red?", ANSWERS[n % 3]]
        for n in range(36)
    ]
    regions = [
        [f"image{image}", 0.1, 0.2, 0.5, 0.9, *draw.normal(size=18).round(3)] for image in range(18) for _ in range(3)
    ]
    write_csv(tmp_path / "questions.csv", ["split", "id", "image", "question", "answer"], questions)
    write_csv(
        tmp_path / "regions.csv", ["image", "x1", "y1", "x2", "y2", *(f"f{column}" for column in range(18))], regions
    )
    recipe = {
        "name": "added",
        "seeds": [0],
        "device": "cpu",
        "data": {
            "kind": "csv",
            "questions": str(tmp_path / "questions.csv"),
            "regions": str(tmp_path / "regions.csv"),
            "tokens": 40,
        },
        "model": {"start": str(toy_start)},
        "train": {"epochs": 1, "batch_size": 8},
        "prune": {"criteria": ["low-magnitude"], "sparsities": [0.5]},
        "export": {"twins": False},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def test_an_added_kind_is_listed_and_is_no_built_in_one() -> None:
    assert data_kind_names() == (*DATA_KINDS, "csv")
    assert find_data_kind("csv").name == "csv"
    with pytest.raises(RecipeError, match=r"expected one of scenes, .*, nlvr, examples, csv"):
        find_data_kind("cvs")


def test_every_name_in_the_table_is_there() -> None:
    for spec in DATA_KINDS.values():
        for path in (spec.settings, spec.read, spec.check, spec.score, spec.write_predictions):
            assert path is None or callable(resolve(path))
        assert spec.name in str(resolve(spec.settings).model_fields["kind"].annotation)


def test_a_recipe_reads_the_settings_of_an_added_kind(recipe_file) -> None:
    recipe = load_recipe(recipe_file)
    assert (recipe.data.kind, recipe.data.tokens) == ("csv", 40)
    recipe_file.write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(recipe_file) == recipe
    with pytest.raises(RecipeError, match=r"data\.token: unknown key; did you mean data\.tokens\?"):
        load_recipe(recipe_file, ["data.token=3"])
    with pytest.raises(RecipeError, match=r"should be one of .*examples, csv, got 'cvs'; did you mean csv\?"):
        load_recipe(recipe_file, ["data.kind=cvs"])


def test_an_added_kind_gives_a_task_and_its_errors_are_collected(recipe_file, tmp_path) -> None:
    data = load_recipe(recipe_file).data
    task = load_task(data)
    assert (len(task.train), len(task.valid), task.labels) == (24, 12, ("no", "red", "yes"))
    assert task.train.regions.features.shape == (12, 3, 18)
    torch.testing.assert_close(task.valid.regions.boxes[5, 2], torch.tensor([0.1, 0.2, 0.5, 0.9]))
    app = typer.Typer()
    app.command()(check_cli)
    found = json.loads(CliRunner().invoke(app, [str(recipe_file), "--json"]).stdout)
    assert (found["errors"], {fact["name"]: fact["values"] for fact in found["facts"]}["regions"]["train"]) == (0, 36)
    text = data.questions.read_text(encoding="utf-8").replace("q3,image1", "q3,").replace("q5,image2", "q5,")
    data.questions.write_text(text + "valid,q0,image17,is it?,no\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"row 3 has no id or no image"):
        load_task(data)
    result = CliRunner().invoke(app, [str(recipe_file), "--json"])
    said = [finding["sentence"] for finding in json.loads(result.stdout)["findings"]]
    assert "(the first of 2 such problems)" in said[0]
    assert "question id q0 is in" in said[1]


def test_an_added_kind_is_studied_predicted_and_scored(recipe_file, tmp_path) -> None:
    recipe = load_recipe(recipe_file)
    run_study(recipe, tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert run.recipe == recipe
    assert len(run.results) == 1
    words = ["predict", str(run.dir.ticket(recipe.cells()[0])), str(recipe_file), "--out", str(tmp_path / "said.csv")]
    assert CliRunner().invoke(lxcompress, words).exit_code == 0
    words = ["score", str(tmp_path / "said.csv"), "--kind", "csv", "--questions", str(recipe.data.questions)]
    done = CliRunner().invoke(lxcompress, [*words, "--only-predicted", "--json"])
    (result,) = run.results.values()
    assert json.loads(done.stdout)["overall"] == pytest.approx(100 * result.retrained.accuracy)
    task = load_task(recipe.data)
    given = [(name, "red") for name in task.valid.ids]
    predictions = tmp_path / "predictions.csv"
    predictions.write_text(format_predictions("csv", given), encoding="utf-8")
    files = OfficialFiles(recipe.data.questions, kind="csv")
    report = score_file(predictions, files, only_predicted=True)
    assert (report.overall.accuracy, report.overall.questions) == (pytest.approx(1 / 3), 12)
    with pytest.raises(DataError, match=r"has no prediction for 24 of 36 questions"):
        score_file(predictions, files)


def test_the_guide_shows_the_code_of_the_package() -> None:
    guide = (EXTENSION.parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
    assert (EXTENSION / "lxcompress_example" / "csv_questions.py").read_text(encoding="utf-8") in guide

"""Laws of the test split: it changes no other number, it may come later, and nothing but its own key says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lxcompress.cli.main import app as lxcompress
from lxcompress.errors import RecipeError, RunError
from lxcompress.measure.evaluate import evaluate
from lxcompress.recipe import Recipe, dump_recipe, load_recipe
from lxcompress.records import Dense, read_record
from lxcompress.rundir import RunDir, read_run
from lxcompress.study.agreement import cell_defining_fields, load_start_task
from lxcompress.study.plan import plan_study
from lxcompress.study.run import run_study
from tests.study.test_run import without_times

SMALL = ("seeds=[0]", "prune.criteria=[low-magnitude]", "prune.sparsities=[0.5]", "train.epochs=1")


def read_records(root: Path) -> dict[str, dict]:
    paths = sorted([*root.rglob("result.json"), *root.rglob("dense.json")])
    assert len(paths) == 2
    return {path.name: json.loads(path.read_text("utf-8")) for path in paths}


@pytest.fixture(scope="module")
def recipes(tiny_recipe_file) -> tuple[Recipe, Recipe]:
    """A study of one cell, without and with a test split."""
    return load_recipe(tiny_recipe_file, SMALL), load_recipe(tiny_recipe_file, [*SMALL, "data.test=48"])


@pytest.fixture(scope="module")
def runs(recipes, tmp_path_factory) -> tuple[Path, Path]:
    """The run folders of both."""
    roots = tmp_path_factory.mktemp("without"), tmp_path_factory.mktemp("with")
    for recipe, root in zip(recipes, roots, strict=True):
        run_study(recipe, root)
    return roots


def test_a_recipe_without_a_test_split_says_nothing_of_one(recipes) -> None:
    without, with_test = recipes
    assert "test" not in without.data.model_dump()
    assert "data.test" not in cell_defining_fields(without)
    assert "test: 48" in dump_recipe(with_test)
    assert dump_recipe(without) == dump_recipe(with_test).replace("  test: 48\n", "")


def test_a_test_split_adds_its_key_and_changes_nothing_else(runs) -> None:
    without, with_test = map(read_records, runs)
    for name, record in with_test.items():
        assert record.pop("test")["questions"] == 48
        assert without_times(record) == without_times(without[name])


def test_the_credits_of_the_questions_are_those_of_the_score(runs, recipes) -> None:
    run = read_run(runs[1])
    task = load_start_task(recipes[1])
    for record in (*run.dense.values(), *run.results.values()):
        assert record.test is not None
        credits = record.test.credit_of_each()
        assert len(credits) == len(task.test)
        assert sum(credits) / len(credits) == pytest.approx(record.test.accuracy)
    (result,) = run.results.values()
    assert result.test.accuracy != result.retrained.accuracy


def test_a_finished_study_is_scored_on_a_test_split_that_comes_later(runs, recipes, tmp_path) -> None:
    run_study(recipes[0], tmp_path)
    weights = {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    assert run_study(recipes[1], tmp_path) == 0
    assert all(path.read_bytes() == data for path, data in weights.items())
    later, at_once = read_records(tmp_path), read_records(runs[1])
    assert without_times(later) == without_times(at_once)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert run_study(recipes[1], tmp_path) == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_another_test_split_than_the_one_of_before_is_refused(runs, recipes) -> None:
    for other in (recipes[0], recipes[1].model_copy(update={"data": recipes[1].data.model_copy(update={"test": 50})})):
        with pytest.raises(RunError, match="=48, but now data"):
            run_study(other, runs[1])


def test_a_plan_counts_the_questions_of_the_test_split(runs, recipes, tmp_path) -> None:
    assert plan_study(recipes[1], tmp_path).test_questions == 48
    assert plan_study(recipes[0], tmp_path).test_questions == 0


def test_eval_scores_the_split_that_is_asked_for(runs, recipes) -> None:
    folder, record = str(runs[1] / "seeds/0/dense"), read_record(RunDir(runs[1]).dense_result(0), Dense)
    valid, test = (evaluate(folder, recipes[1], split=split) for split in ("valid", "test"))
    assert (valid.score, valid.split) == (record.trained, "valid")
    assert (test.score.accuracy, test.score.questions) == (record.test.accuracy, 48)
    with pytest.raises(RecipeError, match="has no test split"):
        evaluate(folder, recipes[0], split="test")


def test_status_of_a_finished_study_tells_of_the_test_split(runs) -> None:
    without, with_test = (CliRunner().invoke(lxcompress, ["status", str(root), "--json"]).stdout for root in runs)
    assert "test" not in json.loads(without)
    assert json.loads(with_test)["test"][0]["label"] == "dense"
    assert "On the test split (48 questions" in CliRunner().invoke(lxcompress, ["status", str(runs[1])]).stdout


def test_damaged_credits_are_an_error(runs) -> None:
    path = RunDir(runs[1]).dense_result(0)
    score = read_record(path, Dense).test
    for credits in ("", "AAAA", score.credits[:-8], score.credits[::-1]):
        with pytest.raises(RunError, match="credits of a test score"):
            score.model_copy(update={"credits": credits}).credit_of_each()
    assert read_record(path, Dense).test.credit_of_each()

"""Laws of plans without data: published counts, every run counted, and the same in JSON."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from lxcompress.cli.main import app
from lxcompress.recipe import load_recipe
from lxcompress.study.plan import estimate_study, find_absent


def test_the_thesis_is_estimated_without_its_data_and_says_so(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(Path("thesis"), ["device=cpu"])
    absent = find_absent(recipe)
    assert absent == Path("data/lxmert-vqa/train.json")
    plan = estimate_study(recipe, tmp_path / "run", absent)
    assert plan is not None
    assert (plan.train_questions, plan.valid_questions) == (632_117, 25_994)
    assert (plan.dense_runs, plan.cells) == (3, 81)
    assert plan.steps_a_run == 4 * -(-632_117 // 32)
    assert plan.duration_s > 0
    assert plan.disk_bytes > 84 * 4 * 200_000_000
    few = estimate_study(load_recipe(Path("thesis"), ["data.max_train=3200", "seeds=[0]"]), tmp_path / "run", absent)
    assert few is not None
    assert (few.train_questions, few.steps_a_run, few.dense_runs, few.cells) == (3200, 400, 1, 27)
    done = CliRunner().invoke(app, ["study", "gqa", "--dry-run", "--set", "device=cpu"])
    assert "is missing: counts as published" in done.stdout
    assert "1,075,062 training and 12,578 validation" in done.stdout


def test_other_start_models_and_own_files_are_not_estimated(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for sets in (["model.start=mini"], ["data.train=mine.json"]):
        recipe = load_recipe(Path("thesis"), sets)
        absent = find_absent(recipe)
        assert absent is not None
        assert estimate_study(recipe, tmp_path / "run", absent) is None


def test_a_plan_is_one_json_document(toy_recipe_file) -> None:
    done = CliRunner().invoke(app, ["study", str(toy_recipe_file), "--dry-run", "--json"])
    plan = json.loads(done.stdout)["plan"]
    assert (plan["dense_runs"], plan["cells"], plan["absent"]) == (2, 12, None)

"""Laws of an export's doubts: what a precision explains is silent, and any larger drop is said wherever the file is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lxcompress.analysis.pick import pick_ticket
from lxcompress.analysis.rule import Rule
from lxcompress.analysis.summary import summarise
from lxcompress.cli.main import app
from lxcompress.exporters.parity import doubt, explained_drop
from lxcompress.recipe import load_recipe
from lxcompress.records import Artifact, Parity, Score, read_record
from lxcompress.rundir import read_run
from lxcompress.study.run import run_study
from tests.report.synthetic import recipe, write_artifact, write_run

CELL = "low-magnitude-weight-50-seed0"


def parity(changed: int, questions: int = 512) -> Parity:
    return Parity(
        questions=questions,
        inputs="validation questions",
        max_abs_difference=0.0,
        changed_answers=changed,
        tolerance=None,
    )


def score(accuracy: float, questions: int = 1000) -> Score:
    return Score(accuracy=accuracy, by_type={}, questions=questions)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8", "int8-static"])
@pytest.mark.parametrize("questions", [64, 1000, 200_000])
def test_just_the_bound_is_silent_and_more_is_a_doubt(precision, questions) -> None:
    bound = explained_drop(parity(1), questions, precision)
    inside, beyond = (score(0.738 - drop, questions) for drop in (bound - 1e-6, bound + 1e-6))
    assert doubt(parity(1), inside, score(0.738, questions), precision) == []
    (said,) = doubt(parity(1), beyond, score(0.738, questions), precision)
    assert precision in said
    assert "73.80 %" in said


def test_a_relu_in_place_of_a_gelu_is_a_doubt_in_every_precision() -> None:
    """As it once passed: the exported file answered as the changed ticket did, and lost 11.8 points."""
    for precision in ("fp32", "fp16", "bf16", "int8", "int8-static"):
        assert doubt(parity(0), score(0.62), score(0.738), precision)


def test_what_int8_costs_the_shipped_model_is_no_doubt() -> None:
    """Of the quickstart: 8 of 512 answers changed, 0.8 points lost; and a gain is none."""
    assert doubt(parity(8), score(0.730), score(0.738), "int8") == []
    assert doubt(parity(5), score(0.740), score(0.726), "int8") == []
    assert doubt(parity(8), score(0.720), score(0.738), "int8")


def test_the_bound_of_int8_grows_with_the_changes_and_falls_with_the_questions() -> None:
    bounds = [explained_drop(parity(changed), 1000, "int8") for changed in (0, 8, 64, 512)]
    assert bounds == sorted(bounds)
    assert explained_drop(parity(8), 4000, "int8") == pytest.approx(bounds[1] / 2)


def test_answers_that_change_for_no_reason_are_a_doubt() -> None:
    assert doubt(parity(30), None, None, "fp32")
    assert doubt(parity(1), None, None, "fp32") == []
    assert doubt(parity(30), None, None, "int8") == []


def test_other_questions_than_the_ticket_was_scored_on_are_a_doubt() -> None:
    (said,) = doubt(parity(0), score(0.7, 900), score(0.7), "fp32")
    assert "the data changed" in said


def test_a_ticket_of_an_earlier_version_that_was_edited_is_exported_with_a_warning(tiny_recipe_file, tmp_path) -> None:
    """No checksum of its config.json is known: its accuracy tells."""
    run_study(load_recipe(tiny_recipe_file, ["seeds=[0]", "train.epochs=1"]), tmp_path / "run", only=CELL)
    ticket = tmp_path / "run" / "tickets" / CELL
    tree = json.loads((ticket / "ticket.json").read_text("utf-8"))
    tree["accuracy"]["accuracy"] = min(1.0, tree["accuracy"]["accuracy"] + 0.5)
    del tree["seal"], tree["files"]
    (ticket / "ticket.json").write_text(json.dumps(tree), encoding="utf-8")
    config = (ticket / "config.json").read_text("utf-8").replace('"gelu"', '"relu"')
    (ticket / "config.json").write_text(config, encoding="utf-8")
    out = tmp_path / "out"
    made = CliRunner().invoke(app, ["export", str(ticket), "--format", "bitmask", "--out", str(out)])
    assert made.exit_code == 0, made.output
    record = read_record(out / "artifact.json", Artifact)
    assert len(record.doubts) == 1
    assert "warning" in made.output
    assert "points below" in " ".join(made.output.split())
    shutil.rmtree(out)


def test_pick_and_report_show_an_artifacts_doubt(tmp_path: Path) -> None:
    run = write_run(tmp_path, recipe(criteria=("low-magnitude",), sparsities=(0.5,)))
    folder = write_artifact(run, f"{CELL}-onnx", cell=CELL)
    tree = json.loads((folder / "artifact.json").read_text("utf-8")) | {"doubts": ["it lost 11.80 points"]}
    del tree["seal"]
    (folder / "artifact.json").write_text(json.dumps(tree), encoding="utf-8")
    summary = summarise(read_run(run.root))
    assert any("it lost 11.80 points" in each for cost in summary.artifacts for each in cost.warnings)
    choice = pick_ticket(summary, Rule(retain=0.5))
    if choice.picked and choice.picked.exported:
        assert any("it lost 11.80 points" in each for each in choice.warnings)
    shown = CliRunner().invoke(app, ["report", str(run.root)])
    assert shown.exit_code == 0, shown.output
    assert "it lost 11.80 points" in (run.root / "report.html").read_text("utf-8")

"""`lxcompress status`: done, running, interrupted, missing, and the time left."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from lxcompress.cli.status import status_cli
from lxcompress.errors import RunError
from lxcompress.rundir import RunDir, locked, write_text
from tests.report.synthetic import curve, recipe, write_run

app = typer.Typer()
app.command()(status_cli)


@pytest.fixture
def half(tmp_path) -> RunDir:
    """Seed 0 is done; of seed 1 the dense run is, and the folder of its first cell is there."""
    run = write_run(
        tmp_path / "run",
        recipe(seeds=(0, 1)),
        score=lambda cell: curve(cell) if cell.seed == 0 else None,
    )
    run.ticket(recipe(seeds=(1,)).cells()[0]).mkdir(parents=True)
    return run


def test_each_step_has_a_state_and_they_add_up(half):
    tree = _json(half)
    assert tree["counts"] == {"done": 11, "running": 0, "interrupted": 1, "missing": 8}
    assert sum(tree["counts"].values()) == len(tree["steps"]) == 2 + 18
    assert [step["id"] for step in tree["steps"][:2]] == ["dense-seed0", "dense-seed1"]
    assert not tree["complete"]


def test_the_run_that_a_study_is_at_is_running(half):
    with locked(half):
        write_text(half.current, "low-magnitude-weight-50-seed1")
        tree = _json(half)
    assert tree["busy"]
    assert tree["counts"]["running"] == 1
    assert [step["id"] for step in tree["steps"] if step["state"] == "running"] == ["low-magnitude-weight-50-seed1"]


def test_the_time_left_is_the_mean_of_what_is_done_for_each_left(half):
    assert _json(half)["left_s"] == pytest.approx(9 * 63.0)


def test_dense_runs_stand_in_until_a_cell_is_done(tmp_path):
    run = write_run(tmp_path, recipe(seeds=(0,)), score=lambda cell: None)
    assert _json(run)["left_s"] == pytest.approx(9 * 61.0)


def test_with_nothing_done_the_time_left_is_not_guessed(tmp_path):
    run = write_run(tmp_path, recipe(), score=lambda cell: None, dense=lambda seed: None)
    assert _json(run)["left_s"] is None
    assert "the time left is known when" in " ".join(_status(run).stdout.split())


def test_the_screen_says_how_to_go_on(half):
    text = _status(half).stdout
    assert "low-magnitude at 50 %" in text
    assert "11 of 20" in text
    assert f"resume with: lxcompress study {half.recipe} --out {half.root}" in text


def test_a_finished_study_points_to_its_report(tmp_path):
    run = write_run(tmp_path / "run", recipe())
    text = _status(run).stdout
    assert "all 30 runs are done" in text
    assert f"lxcompress report {run.root}" in text
    assert _json(run)["left_s"] == 0


def test_looking_does_not_change_the_run(half):
    before = sorted(path for path in half.root.rglob("*"))
    _status(half)
    assert sorted(path for path in half.root.rglob("*")) == before


def test_a_folder_that_is_no_run_is_an_error(tmp_path):
    assert isinstance(CliRunner().invoke(app, [str(tmp_path)]).exception, RunError)


def test_help_has_an_example():
    assert "Example: lxcompress status" in CliRunner().invoke(app, ["--help"]).output


def _status(run: RunDir):
    result = CliRunner().invoke(app, [str(run.root)])
    assert result.exit_code == 0, result.output
    return result


def _json(run: RunDir):
    result = CliRunner().invoke(app, [str(run.root), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)

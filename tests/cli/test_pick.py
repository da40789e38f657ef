"""`lxcompress pick`: what it prints, and how it ends."""

from __future__ import annotations

import json
import re

import pytest
import typer
from typer.testing import CliRunner

from lxcompress.cli.pick import pick_cli
from lxcompress.errors import RunError
from lxcompress.rundir import RunDir
from tests.report.synthetic import curve, many, recipe, write_artifact, write_bench, write_run, write_twins

app = typer.Typer()
app.command()(pick_cli)


@pytest.fixture
def run(tmp_path) -> RunDir:
    return write_run(tmp_path / "run", recipe())


def test_the_pick_its_path_and_the_next_command(run):
    result = _pick(run)
    assert result.exit_code == 0, result.output
    cell = json.loads(_pick(run, "--json").stdout)["picked"]["cell"]
    ticket = run.root / "tickets" / cell
    assert ticket.is_dir()
    assert f"ticket: {ticket}\n" in result.stdout
    assert f"next: lxcompress export {ticket} --twins\n" in result.stdout
    assert f"next: lxcompress bench {run.artifacts}/*\n" in result.stdout
    assert "chosen on the same questions, so expect the average" in " ".join(result.stdout.split())


def test_without_options_the_recipe_rules(tmp_path):
    strict = write_run(tmp_path / "strict", recipe(retain=0.99))
    loose = write_run(tmp_path / "loose", recipe(retain=0.8))
    assert json.loads(_pick(strict, "--json").stdout)["rule"]["retain"] == 0.99
    assert json.loads(_pick(loose, "--json").stdout)["picked"]["target"] == 0.9


def test_why_each_other_was_not_picked(run):
    text = _pick(run, "--all").stdout
    assert text.count(" is below") == 8
    assert "8 groups not picked" in _pick(run).stdout
    assert "high-magnitude at 90 %" in text


def test_an_exported_and_measured_ticket_is_ready_to_ship(run):
    cell = json.loads(_pick(run, "--json").stdout)["picked"]["cell"]
    folder = write_artifact(run, "ready", cell=cell)
    assert f"next: lxcompress bench {folder}" in _pick(run).stdout
    write_bench(run, "bench", [folder])
    text = _pick(run, "--max-size-mb", "10", "--max-latency-ms", "5", "--max-memory-mb", "200").stdout
    assert f"ship: {folder}\n" in text
    assert "file: onnx fp32, 9.00 MB, p90 4.00 ms, 120 MB of memory, 80.00 % accuracy" in " ".join(text.split())
    ticket = run.root / "tickets" / cell
    assert text.count("next:") == 1
    assert f"next: lxcompress export {ticket} --twins --format onnx\n" in text


def test_the_answer_has_15_lines_at_80_columns(tmp_path, monkeypatch):
    """At every stage of a study with much to say: nothing exported, exported, measured."""
    monkeypatch.setattr("lxcompress.cli.screen.out._width", 80)
    monkeypatch.setattr("lxcompress.cli.screen.remarks._width", 80)
    run = write_run(tmp_path / "run", many())
    cell = json.loads(_pick(run, "--json").stdout)["picked"]["cell"]
    assert len(_pick(run).output.splitlines()) <= 15
    folders = write_twins(run, cell)
    assert len(_pick(run).output.splitlines()) <= 15
    write_bench(run, "all", folders, doubts={folder.name: ["busy machine", "drift", "long tail"] for folder in folders})
    assert len(_pick(run).output.splitlines()) <= 15
    assert len(_pick(run, "--max-latency-ms", "1").stdout.splitlines()) <= 15
    assert len(_pick(run, "--all").output.splitlines()) > 60


def test_controls_are_named_apart_and_never_picked(tmp_path):
    given = recipe(methods=[{"control": "dense-longer"}, {"control": "shuffled"}])
    run = write_run(tmp_path / "run", given)
    text = _pick(run, "--all").stdout
    assert "controls are never picked: dense-longer, low-magnitude-shuffled" in " ".join(text.split())
    assert "Dense trained twice as long scores 81." in " ".join(text.split())
    assert "shuffled at" not in text


def test_a_ticket_is_never_shown_without_the_alternative_that_costs_nothing(run):
    """First the command that makes it, then, where it is as good in everything, that it is what to ship."""
    tree = json.loads(_pick(run, "--json").stdout)["picked"]
    make = f"make them with: lxcompress export {tree['ticket']} --twins"
    assert f"next: lxcompress export {tree['ticket']} --twins\n" in _pick(run).stdout
    ticket = write_artifact(run, "ticket", cell=tree["cell"])
    free = write_artifact(run, "free", cell=None, size_bytes=3_000_000, precision="int8")
    assert f"next: lxcompress bench {ticket} {free}\n" in _pick(run).stdout
    write_bench(run, "bench", [ticket, free])
    text = _pick(run).stdout
    begins = "Ship dense int8, which needs no pruning: same speed and memory; smaller (3.00 against 9.00 MB); same"
    headline, _, verdict = " ".join(text.split()).partition(". ")
    assert headline.startswith("At >= 99 % of dense accuracy, nothing beats dense int8: ")
    assert verdict.startswith(begins)
    assert f"ship: {free}\n" in text
    assert f"not exported: dense, structured; {make}" in text
    assert re.search(r"dense int8 +onnx int8 +80\.00 +3\.00 +4\.00 +120", _pick(run, "--all").stdout)


def test_dense_int8_that_is_beaten_is_compared_in_words(run):
    cell = json.loads(_pick(run, "--json").stdout)["picked"]["cell"]
    ticket = write_artifact(run, "ticket", cell=cell, accuracy=0.802)
    free = write_artifact(run, "free", cell=None, size_bytes=3_000_000, precision="int8")
    write_bench(run, "bench", [ticket, free])
    text = " ".join(_pick(run).stdout.split())
    assert text.startswith("At >= 99 % of dense accuracy, nothing beats dense int8: ")
    assert ". Ship low-magnitude" in text
    assert (
        "Compared with dense int8 (no pruning needed): same speed and memory; larger (9.00 against 3.00 MB); "
        "0.20 points more accurate (3 of 1,500 questions)." in text
    )


def test_what_nothing_beats_is_listed(run):
    assert "Pareto-optimal in accuracy and sparsity: dense (" in " ".join(_pick(run, "--all").stdout.split())
    folder = write_artifact(run, "one", cell=json.loads(_pick(run, "--json").stdout)["picked"]["cell"])
    write_bench(run, "bench", [folder])
    assert "Pareto-optimal files" in _pick(run, "--all").stdout
    assert [file["artifact"] for file in json.loads(_pick(run, "--json").stdout)["files"]] == [folder.as_posix()]


def test_the_interval_of_the_accuracy_is_said_or_that_there_is_none(run, tmp_path):
    assert "95 % interval of the mean" in " ".join(_pick(run).stdout.split())
    alone = write_run(tmp_path / "alone", recipe(seeds=(0,)))
    assert "with seed 0 only, so there is no interval" in " ".join(_pick(alone, "--retain", "0.9").stdout.split())


def test_many_that_were_not_picked_are_counted_by_what_they_broke(tmp_path):
    run = write_run(tmp_path / "run", many())
    text, rows = _pick(run, "--retain", "1").stdout, _pick(run, "--retain", "1", "--all").stdout
    rejected = json.loads(_pick(run, "--retain", "1", "--json").stdout)["rejected"]
    tickets = [group for group in rejected if group["broken"] != ["a control"] and "control" not in group["broken"]]
    low = [ticket for ticket in tickets if "accuracy" in ticket["broken"]]
    said = " ".join(text.split())
    assert f"not picked: {len(tickets)} groups" in said
    assert f"{len(low)} keep too little accuracy; nearest: " in said
    assert len(text.splitlines()) < 30 < len(rows.splitlines())
    assert len(rows.splitlines()) > len(tickets)


def test_groups_without_a_cell_are_counted(tmp_path):
    run = write_run(tmp_path / "run", recipe(), score=lambda cell: curve(cell) if cell.sparsity == 0.5 else None)
    text = " ".join(_pick(run, "--all").stdout.split())
    assert "not started: 6 more groups have no finished run" in text


def test_retain_and_max_drop_together_are_wrong_usage(run):
    assert _pick(run, "--retain", "0.9", "--max-drop", "0.1").exit_code == 2


@pytest.mark.parametrize("option", [("--retain", "99"), ("--max-drop", "1"), ("--max-size-mb", "-1")])
def test_a_value_out_of_range_is_wrong_usage(run, option):
    assert _pick(run, *option).exit_code == 2


def test_no_ticket_is_an_error_that_names_the_nearest_miss(run):
    result = _pick(run, "--retain", "1")
    assert isinstance(result.exception, RunError)
    assert "No ticket keeps at least 100 %" in str(result.exception)
    assert "Nearest: low-magnitude at 50 %" in str(result.exception)


def test_a_limit_on_what_is_not_measured_ends_in_the_commands_that_measure_it(run):
    error = str(_pick(run, "--max-latency-ms", "5").exception)
    assert "&& lxcompress bench" in error


@pytest.mark.parametrize("retain", ["0.9", "1"])
def test_json_stands_alone_on_standard_output(run, retain):
    result = _pick(run, "--retain", retain, "--json")
    tree = json.loads(result.stdout)
    assert (tree["picked"] is None) == (retain == "1")
    assert isinstance(result.exception, RunError) == (retain == "1")
    assert len(tree["rejected"]) == (9 if retain == "1" else 8)


def test_an_unfinished_study_points_to_its_status(tmp_path):
    run = write_run(tmp_path / "run", recipe(), dense=lambda seed: None)
    assert f"lxcompress status {run.root}" in str(_pick(run).exception)


def test_help_has_an_example():
    assert "Example: lxcompress pick" in CliRunner().invoke(app, ["--help"]).output


def _pick(run: RunDir, *options: str):
    return CliRunner().invoke(app, [str(run.root), *options])

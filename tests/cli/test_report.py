"""`lxcompress report` at the widths of real terminals."""

from __future__ import annotations

import io
import json
import os
import subprocess

import pytest
import typer
from typer.testing import CliRunner

from lxcompress.analysis.groups import GroupKey
from lxcompress.analysis.pick import pick_ticket
from lxcompress.analysis.rule import default_rule
from lxcompress.analysis.summary import RunSummary, summarise
from lxcompress.cli.report import report_cli, show_tables
from lxcompress.cli.screen import Screen
from lxcompress.errors import RunError
from lxcompress.recipe import Method
from lxcompress.rundir import read_run
from tests import children
from tests.report.synthetic import METHODS, curve, gpu_usage, many, recipe, write_run, write_twins

app = typer.Typer()
app.command()(report_cli)
BEGUN = ("low-magnitude-weight-50-seed0", "dense-longer-0-seed0")
# The example of the docstring, as a program of its own.
PROGRAM = "import sys, typer; from lxcompress.cli.report import report_cli; typer.run(report_cli)"


def test_it_writes_three_files_and_names_them(tmp_path):
    run = write_run(tmp_path / "run", recipe())
    result = CliRunner().invoke(app, [str(run.root)])
    assert result.exit_code == 0, result.output
    for path in (run.report, run.results_csv, run.results_json):
        assert path.is_file()
        assert str(path) in result.stdout
    assert json.loads(run.results_json.read_text(encoding="utf-8"))["pick"]["picked"]["target"] == 0.5


@pytest.fixture(scope="module")
def summary(tmp_path_factory) -> RunSummary:
    return summarise(read_run(write_run(tmp_path_factory.mktemp("run"), recipe()).root))


@pytest.fixture(scope="module")
def many_summary(tmp_path_factory) -> RunSummary:
    return summarise(read_run(write_run(tmp_path_factory.mktemp("many"), many()).root))


def shown(summary: RunSummary, width: int) -> str:
    """Return the tables of a run as a terminal of this width shows them, without running the command."""
    terminal = Screen(width=width, file=io.StringIO(), highlight=False)
    show_tables(summary, pick_ticket(summary, default_rule(summary)), terminal)
    return terminal.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_and_nothing_is_cut(summary, width):
    text = shown(summary, width)
    table = text.split("in %")[0]
    assert "…" not in text
    assert max(map(len, table.splitlines())) <= width
    assert "low-magnitude <" in table
    assert "floor: question-only" in table
    assert "79.7" in table
    assert ("vs dense" in table) == (width > 60)


@pytest.mark.parametrize("width", [60, 120])  # of a program of its own, whose console reads its width when it starts
def test_the_faults_of_a_run_are_said_before_its_numbers(tmp_path, width):
    run = write_run(tmp_path / "run", recipe(protocol="published"))
    text = " ".join(_program([str(run.root)], COLUMNS=str(width)).stdout.split())
    assert text.startswith("The published protocol: its five faults are reproduced here on purpose")
    assert text.index("mask-applied-once: the mask is applied before retraining") < text.index(
        "retrained vs dense" if width > 60 else "retrained kept"
    )
    assert "none of them is a ticket to ship" in text
    assert "Ship" not in text
    assert "low-magnitude <" not in text


def test_what_the_study_took_and_what_grew_back_are_said(summary, tmp_path):
    run = write_run(tmp_path / "run", recipe(protocol="published"), usage=gpu_usage, regrown=lambda cell: 1_000)
    text = " ".join(shown(summarise(read_run(run.root)), 60).split())
    assert "took 29 min 22 s for 28 runs, 0.489 GPU hours (Toy GPU 80GB)" in text
    assert "0.1 % of the removed weights grew back" in text
    plain = " ".join(shown(summary, 80).split())
    assert "took 31 min 24 s for 30 runs" in plain
    assert not any(word in plain for word in ("GPU", "Wh", "grew back"))


@pytest.mark.parametrize("width", [60, 80, 120, 160])
def test_many_methods_fit_and_each_has_its_row(many_summary, width):
    text = shown(many_summary, width)
    table = text.split("took ")[0]
    assert "…" not in text
    assert max(map(len, table.splitlines())) <= width
    names = "".join(line.partition(" ")[0] for line in table.split("Share of dense")[0].splitlines())
    assert all(GroupKey(Method(**method), 0).series in names for method in METHODS)
    assert ("time/run" in table) == (width >= 120)
    assert ("±" in table.split("Share of dense")[0]) == (width >= 120)
    assert "dense-longer: no pruning, twice the training" in table
    assert "1.22 M" in table


def test_a_study_that_has_just_begun_is_said_in_few_words(tmp_path):
    run = write_run(tmp_path / "run", many(), score=lambda cell: curve(cell) if cell.id in BEGUN else None)
    text = " ".join(shown(summarise(read_run(run.root)), 120).split())
    assert "92 of 94 groups have no finished run" in text
    assert "± standard deviation over seeds" not in text
    assert len(text) < 7000


def test_markdown_is_printed_as_it_is_and_nothing_is_written(tmp_path):
    run = write_run(tmp_path / "run", recipe())
    write_twins(run, "low-magnitude-weight-50-seed0")
    text = _program([str(run.root), "--markdown"], COLUMNS="40").stdout
    assert text.startswith("### synthetic\n\n**Nothing beats dense int8: no exported ticket keeps &gt;= 99 %")
    assert "\n\n**Ship low-magnitude at 50 %" in text
    assert max(map(len, text.splitlines())) > 100
    assert not run.report.exists()
    result = CliRunner().invoke(app, [str(run.root), "--markdown", "--open"])
    assert result.exit_code == 2


def test_open_gives_the_report_to_the_browser(tmp_path):
    run = write_run(tmp_path / "run", recipe())
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{seen}"\n', encoding="utf-8")
    browser.chmod(0o755)
    _program([str(run.root), "--open"], BROWSER=f"{browser} %s")
    assert seen.read_text(encoding="utf-8").strip() == run.report.resolve().as_uri()


def test_a_folder_that_is_no_run_is_an_error(tmp_path):
    result = CliRunner().invoke(app, [str(tmp_path)])
    assert isinstance(result.exception, RunError)
    assert "lxcompress study" in str(result.exception)


def test_help_has_an_example():
    assert "Example: lxcompress report" in CliRunner().invoke(app, ["--help"]).output


def _program(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    done = children.run(PROGRAM, *arguments, env={**os.environ, **environment}, libraries=children.CHARTS)
    assert done.returncode == 0, done.stderr
    return done

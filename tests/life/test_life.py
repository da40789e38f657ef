"""The whole life of a ticket on the toy, through the commands a person types."""

from __future__ import annotations

import csv
import glob
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import typer.core
from typer.testing import CliRunner

from lxcompress.cli.main import app
from lxcompress.engine.library import is_built
from lxcompress.errors import LxError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def home(tiny_recipe_file, tmp_path_factory):
    """A folder in which the toy study was run, reported, exported and measured by the commands alone."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        say("study", str(tiny_recipe_file), "--out", "run")
        say("export", "run/tickets/low-magnitude-weight-50-seed0", "--onnx")
        say("export", "run/seeds/0/dense", "--format", "engine" if is_built() else "onnx")
        artifacts = sorted(str(path) for path in Path("run/artifacts").iterdir())
        say("bench", *artifacts, "--runs", "5")
        say("report", "run")
        yield folder


def say(*arguments: str) -> str:
    """Return what a command prints; it must succeed."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, f"{arguments}: {result.output} {result.exception!r}"
    return result.output


def fail(*arguments: str) -> str:
    """Return the sentence that a command fails with."""
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, LxError), f"{arguments}: {result.output} {result.exception!r}"
    return str(result.exception)


def test_the_report_holds_every_cell(home) -> None:
    with (home / "run/results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len([row for row in rows if row["kind"] != "artifact"]) == 14
    page = (home / "run/report.html").read_text("utf-8")
    assert "low-magnitude" in page
    assert "high-magnitude" in page
    assert json.loads((home / "run/results.json").read_text("utf-8"))


def test_status_counts(home) -> None:
    found = json.loads(say("status", str(home / "run"), "--json"))
    assert found["counts"] == {"done": 14, "running": 0, "interrupted": 0, "missing": 0}


def test_pick_speaks_json_whether_or_not_there_is_a_ticket(home) -> None:
    result = CliRunner().invoke(app, ["pick", str(home / "run"), "--json"])
    assert json.loads(result.stdout)["version"] == 1


def test_pick_says_why_each_was_rejected_when_none_is_left(home) -> None:
    result = CliRunner().invoke(app, ["pick", str(home / "run"), "--max-size-mb", "0", "--retain", "1", "--all"])
    assert isinstance(result.exception, LxError)
    for criterion in ("low-magnitude", "random", "high-magnitude"):
        assert criterion in result.output


def test_a_model_is_pruned_exported_and_pruned_again(home) -> None:
    pruned = str(home / "pruned")
    say("prune", str(home / "run/seeds/0/dense"), "--criterion", "low-magnitude", "--sparsity", "0.5", "--out", pruned)
    say("prune", pruned, "--sparsity", "0.8", "--out", str(home / "again"))
    assert "no data" in say("export", pruned, "--format", "transformers", "--out", str(home / "file"))
    assert json.loads((home / "file/artifact.json").read_text("utf-8"))["accuracy"] is None


def test_dry_run_writes_nothing(home, tiny_recipe_file) -> None:
    printed = say("study", str(tiny_recipe_file), "--out", str(home / "other"), "--dry-run")
    assert "2 dense runs and 12 ticket runs" in printed
    assert not (home / "other").exists()


def test_every_command_has_help_with_an_example() -> None:
    for name, command in typer.main.get_command(app).commands.items():
        inner = [[name, each] for each in getattr(command, "commands", ())]
        for words in inner or [[name]]:
            printed = say(*words, "--help")
            assert f"Example: lxcompress {' '.join(words)}" in re.sub(r"\s+", " ", printed)


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    check = (
        "import sys; sys.argv = ['lxcompress', '--help']\n"
        "from lxcompress.cli.main import run\n"
        "try: run()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'onnxruntime', 'onnx', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    command = [sys.executable, "-m", "lxcompress.cli.main", "--help"]
    cpu_s = []  # not the time on the clock: other programs of the machine are no fault of this one
    for _ in range(5):
        before = os.times()
        subprocess.run(command, capture_output=True, check=True)
        after = os.times()
        cpu_s.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(cpu_s) < 0.3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["study", "none.yaml"], "none.yaml: no such recipe"),
        (["study", "{recipe}", "--set", "train.epoch=2"], "did you mean train.epochs?"),
        (["study", "{recipe}", "--set", "train.epochs=none"], "train.epochs"),
        (["study", "{recipe}", "--set", "version=99"], "upgrade it with"),
        (["study", "{recipe}", "--set", "device=cuda"], "device cuda: not available"),
        (["study", "{recipe}", "--set", "model.start=nowhere/at/all"], "no such folder"),
        (["report", "nowhere"], "is not a run folder"),
        (["status", "nowhere"], "is not a run folder"),
        (["pick", "nowhere"], "is not a run folder"),
        (["prune", "nowhere/at/all", "--sparsity", "0.5", "--out", "{home}/x"], "no such folder"),
        (["prune", "{home}/run/seeds/0/dense", "--sparsity", "1.5", "--out", "{home}/x"], "between 0 and 1"),
        (["prune", "{home}/run/seeds/0/dense", "--sparsity", "0.5", "--out", "{home}/run"], "not an empty folder"),
        (
            ["prune", "{home}/run/seeds/0/dense", "--criterion", "x", "--sparsity", "0.5", "--out", "{home}/x"],
            "unknown",
        ),
        (["export", "nowhere/at/all", "--onnx"], "no such folder"),
        (["export", "{home}/run/seeds/0/dense", "--format", "x", "--out", "{home}/x"], "--format x: is unknown"),
        (["bench", "nowhere"], "nowhere"),
        (["study", "{recipe}", "--set", "version='2'"], "upgrade it with"),
        (["study", "{recipe}", "--set", "name=[2020"], "not valid YAML"),
        (["study", "{recipe}", "--set", "train.learning_rate=.inf"], "train.learning_rate"),
        (["study", "{recipe}", "--set", "seeds=[99999999999999]"], "seeds"),
        (["export", "{home}/run/seeds/0/dense", "--onnx", "--out", "{recipe}"], "is a file"),
        (["pretrain", "pretrain-mini", "--out", "{start}"], "holds a model already"),
        (["bench", "{home}/run/tickets/low-magnitude-weight-50-seed0"], "export"),
    ],
)
def test_what_a_user_gets_wrong_is_one_sentence(home, tiny_recipe_file, toy_start, arguments, sentence) -> None:
    given = [each.format(home=home, recipe=tiny_recipe_file, start=toy_start) for each in arguments]
    said = fail(*given)
    assert sentence in said
    assert "\n" not in said


def test_the_command_itself_exits_with_one_and_no_traceback() -> None:
    command = [sys.executable, "-m", "lxcompress.cli.main", "report", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    file = subprocess.run(
        [*command[:3], "study", "quickstart", "--out", __file__], capture_output=True, text=True, check=False
    )
    assert file.returncode == 1
    assert file.stderr.startswith("error: ")
    assert "Traceback" not in file.stderr
    assert done.stderr.startswith("error: nowhere: is not a run folder")
    usage = subprocess.run([*command[:3], "nothing"], capture_output=True, text=True, check=False)
    assert usage.returncode == 2
    assert "Traceback" not in done.stderr + usage.stderr


def documented_commands() -> list[str]:
    """Every line of the README and the how-to pages that calls lxcompress, as a person would type it."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    blocks = [
        block for page in pages for block in re.findall(r"```(?:sh|console)\n(.*?)```", page.read_text("utf-8"), re.S)
    ]
    lines = (line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines())
    commands = (command for line in lines if line.startswith("lxcompress ") for command in line.split("&&"))
    return sorted({command.split("#")[0].strip() for command in commands})


def test_every_documented_command_is_one_that_parses() -> None:
    """Its command exists, and so does each of its options."""
    commands = typer.main.get_command(app).commands
    assert len(documented_commands()) >= 5
    for line in documented_commands():
        _, name, *arguments = shlex.split(line)
        if name.startswith("--"):
            continue
        command = commands[name]
        if isinstance(command, typer.core.TyperGroup):
            command = command.commands[arguments[0]]
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert {each for each in arguments if each.startswith("--")} <= known, line


ELSEWHERE = (
    "--max-size-mb",
    "clevr",
    "pretrain",
    "RUN",
    "RECIPE",
    "lxcompress data ",
    "lxcompress features ",
    "predict",
    "score",
    "recipes/thesis",
    "runs/thesis",
    "runs/photos",
    "runs/published",
    "vqa-blind",
    "A B",
    "$T",
    "export TICKET",
    "adb",
    "RETRAINED",
    "column-norm",
    "scenes-fa",
    "daquar",
    "doctor",
    "lxcompress serve ",
    "--photos",
    "--rivals",
    "pruned-50",
    "hub:",
)
"""Parts of commands that need published files or a phone, or that other tests run: tests/export, tests/cli,
tests/extractors."""


def as_the_shell_would(line: str) -> list[str]:
    """The words of a command, names of files for patterns, without where its output goes."""
    words = shlex.split(line.partition(" > ")[0])
    return [each for word in words for each in (sorted(glob.glob(word)) or [word])]


def test_every_documented_command_runs(home, tiny_recipe_file, monkeypatch) -> None:
    """Return a command of the docs with the toy's recipe, run folder and ticket."""
    monkeypatch.chdir(home)
    stand_ins = {
        "recipes/quickstart.yaml": str(tiny_recipe_file),
        "runs/quickstart": "run",
        "low-magnitude-weight-50-seed2": "low-magnitude-weight-50-seed0",
        "MODEL": "run/seeds/0/dense",
        "TICKET": "documented",
        " --open": "",
    }
    ran = 0
    for line in documented_commands():
        if any(each in line for each in ELSEWHERE):
            continue
        for given, stand_in in stand_ins.items():
            line = line.replace(given, stand_in)
        result = CliRunner().invoke(app, as_the_shell_would(line)[1:])
        nothing_to_pick = "pick" in line and isinstance(result.exception, LxError)  # the toy learns nothing
        assert result.exit_code == 0 or nothing_to_pick, f"{line}: {result.output} {result.exception!r}"
        ran += 1
    assert ran >= 6

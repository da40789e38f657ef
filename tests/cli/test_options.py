"""Laws of the command line itself: usage errors, the options of every command, JSON, completion, recipes."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lxcompress.cli.main import COMMANDS, app
from lxcompress.cli.options import Tee, output, reset_options, set_options, take_options
from lxcompress.errors import LxError
from lxcompress.recipe import load_recipe, shipped_recipes

VERBS = [command.__name__.rpartition(".")[2] for command in COMMANDS]


def run(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The whole command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "lxcompress", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "100", "HF_HUB_OFFLINE": "1"},
    )


@pytest.fixture
def options():
    yield
    reset_options()


@pytest.mark.parametrize("words", [("stdy",), ("--nothing",), *((verb, "--nothing") for verb in (*VERBS[:3], "data"))])
def test_wrong_usage_is_one_line_and_exit_code_2(words) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert done.stderr.rstrip().endswith("--help")


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_command_names_the_options_that_all_have(verb) -> None:
    done = CliRunner().invoke(app, [verb, "--help"])
    assert done.exit_code == 0
    assert "--quiet, --verbose and --log" in " ".join(done.stdout.split())


def test_help_is_fast() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(3):
        assert run("--help").returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 3 < 0.3


def test_the_options_of_every_command_stand_anywhere_and_leave_the_other_words(options, tmp_path) -> None:
    log = str(tmp_path / "a.log")
    assert take_options(["--quiet", "study", "x", "--log", log, "--set", "a=b"]) == ["study", "x", "--set", "a=b"]
    assert output.is_quiet
    assert not output.is_verbose
    assert output.log is not None
    assert take_options(["study", "--", "--quiet"]) == ["study", "--", "--quiet"]
    for words in (["study", "--log"], ["study", "--log", "--quiet"], ["--log", str(tmp_path / "no" / "a.log")]):
        with pytest.raises(LxError, match="--log"):
            take_options(words)


def test_quiet_silences_remarks_and_not_results_and_the_log_keeps_both(options, tmp_path, capsys) -> None:
    log = tmp_path / "study.log"
    set_options(quiet=True, verbose=False, log=log)
    Tee("stdout", is_muted=False).write("\x1b[1ma result\x1b[0m\n")
    Tee("stderr", is_muted=True).write("a remark\nand ha")
    Tee("stderr", is_muted=True).write("lf\n")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("\x1b[1ma result\x1b[0m\n", "")
    lines = log.read_text(encoding="utf-8").splitlines()
    assert [line[20:] for line in lines] == ["a result", "a remark", "and half"]


def test_the_log_has_the_command_its_error_and_its_exit_code_and_verbose_the_traceback(tmp_path) -> None:
    done = run("study", "--log", tmp_path / "a.log", "quickstrt", "--verbose")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    text = (tmp_path / "a.log").read_text(encoding="utf-8")
    for part in ("lxcompress study quickstrt", "did you mean quickstart, which ships?", "exit code 1"):
        assert part in text
    assert "Traceback" not in run("study", "quickstrt").stderr


def test_recipes_are_listed_printed_and_copied(tmp_path) -> None:
    listed = CliRunner().invoke(app, ["recipes", "--json"])
    cards = json.loads(listed.stdout)
    assert [card["name"] for card in cards] == [path.stem for path in shipped_recipes()]
    for card in cards:
        assert card["what"]
        assert card["cost"]
        assert any(f"recipes/{card['name']}.yaml" in command for command in card["commands"])
    shown = CliRunner().invoke(app, ["recipes"]).stdout
    assert all(card["name"] in shown for card in cards)
    copy = tmp_path / "mine.yaml"
    assert CliRunner().invoke(app, ["recipes", "quickstart", "--out", str(copy)]).exit_code == 0
    assert load_recipe(copy) == load_recipe(Path("quickstart"))
    printed = CliRunner().invoke(app, ["recipes", "quickstart"]).stdout
    assert printed == copy.read_text(encoding="utf-8")
    assert json.loads(CliRunner().invoke(app, ["recipes", "thesis", "--json"]).stdout)["recipe"]["name"] == "thesis"
    again = CliRunner().invoke(app, ["recipes", "quickstart", "--out", str(copy)])
    assert isinstance(again.exception, LxError)
    assert "did you mean quickstart" in str(CliRunner().invoke(app, ["recipes", "quikstart"]).exception)


def complete(*words: str) -> str:
    """What bash is offered after these words."""
    line = " ".join(("lxcompress", *words))
    done = subprocess.run(
        [sys.executable, "-m", "lxcompress"],
        capture_output=True,
        text=True,
        env={**os.environ, "_LXCOMPRESS_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words))},
    )
    return done.stdout


def test_the_shell_completes_recipes_formats_criteria_and_shows_its_script() -> None:
    assert complete("study", "quick").split() == ["quickstart"]
    assert "engine" in complete("export", "x", "--format", "eng").split()
    assert "taylor" in complete("prune", "x", "--criterion", "tay").split()
    script = run("--show-completion", "bash")
    assert "_LXCOMPRESS_COMPLETE" in script.stdout + script.stderr


def test_the_extra_all_names_every_extra_that_a_user_has() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    section = text.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    extras = dict(re.findall(r"^([\w-]+) = (\[.*\])$", section, flags=re.M))
    (named,) = json.loads(extras["all"])
    users = set(extras) - {"all", "test", "dev"}
    users -= {"torchvision"}  # it must be that of the installed torch, so that [all] would break some environments
    assert set(named.removeprefix("lxcompress[").removesuffix("]").split(",")) == users
    assert users >= {"coreml", "executorch", "hdf5", "openvino"}

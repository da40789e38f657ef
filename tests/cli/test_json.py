"""Laws of --json and of slips: one document and nothing else on standard output; a slip costs no heavy import."""

from __future__ import annotations

import ast
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lxcompress.cli.main import app
from lxcompress.cli.screen import json_document
from lxcompress.errors import LxError, ModelError
from lxcompress.models.source import near_path
from lxcompress.output import command_line
from lxcompress.workflow.checks import check_model
from tests import children

VERBS = "study|status|report|pick|advise|prune|inspect|export|bench|predict|score|eval|pretrain|recipes|data"
COMMAND = re.compile(rf"lxcompress ({VERBS})\b[^;,()]*$")
HEAVY = ("torch", "transformers", "onnx", "onnxruntime", "matplotlib", "openvino", "huggingface_hub")
ODD = "a b;$(touch executed)'\"&"
"""A folder's name that a shell would act on."""


@pytest.fixture(scope="module")
def study(tiny_recipe_file, tmp_path_factory) -> Path:
    """The run folder of a small study, in a folder whose name a shell would act on."""
    root = tmp_path_factory.mktemp(ODD) / "run"
    words = ["study", str(tiny_recipe_file), "--out", str(root), "--set", "seeds=[0]", "--set", "train.epochs=1"]
    done = CliRunner().invoke(app, [*words, "--set", "prune.criteria=[low-magnitude]", "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["run"] == str(root)
    assert document["done"] == 3
    assert document["state"]["complete"] if "complete" in document["state"] else document["state"]
    return root


def document_of(*words: object) -> dict:
    """The one JSON document that a command prints."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


def test_each_command_prints_one_json_document_and_nothing_else(study, tiny_recipe_file, tmp_path) -> None:
    ticket = study / "tickets" / "low-magnitude-weight-50-seed0"
    assert document_of("inspect", ticket, "--json")["kept"]
    pruned = document_of("prune", study / "seeds" / "0" / "dense", "--sparsity", 0.5, "--out", tmp_path / "p", "--json")
    assert pruned["sparsity"]["achieved"] == pytest.approx(0.5, abs=0.01)
    out = tmp_path / "t"
    made = document_of("export", ticket, "--format", "transformers", "--out", out, "--json")
    assert (made["folder"], made["format"]) == (str(out), "transformers")
    assert document_of("status", study, "--json")
    assert document_of("study", study, "--out", study, "--json")["done"] == 0


def test_an_error_leaves_standard_output_empty(study, tmp_path) -> None:
    for words in (
        ["inspect", tmp_path / "nothing", "--json"],
        ["prune", study / "seeds" / "0" / "dense", "--sparsity", "2", "--out", tmp_path / "p", "--json"],
        ["export", study / "tickets" / "none", "--onnx", "--json"],
        ["study", "quickstrt", "--json"],
        ["predict", "mini", "quickstrt", "--out", tmp_path / "o", "--json"],
    ):
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.stdout == ""
        assert isinstance(done.exception, LxError)


def test_what_other_libraries_print_is_no_part_of_the_document() -> None:
    program = (
        "import os, sys\nfrom lxcompress.cli.screen import json_document, out\n"
        "with json_document(wanted=True) as emit:\n"
        "    print('a library'); os.write(1, b'past python\\n'); out.print('a table'); emit({'a': 1})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"a": 1}
    for words in ("a library", "past python", "a table"):
        assert words in done.stderr
    with json_document(wanted=False) as emit:
        emit({})


def test_commands_to_run_are_quoted_for_a_shell(study) -> None:
    words = ["bench", Path("a b/c"), "x;y", "$(z)", "it's"]
    assert shlex.split(command_line(*words)) == ["lxcompress", "bench", "a b/c", "x;y", "$(z)", "it's"]
    shown = CliRunner().invoke(app, ["status", str(study)]).stdout
    (line,) = [line for line in shown.splitlines() if "lxcompress report" in line]
    assert shlex.split(line.partition("lxcompress ")[2]) == ["report", str(study)]


SLIPS = {
    "study recipe": (["study", "recipes/quikstart.yaml"], "did you mean quickstart"),
    "study key": (["study", "quickstart", "--set", "trian.epochs=1"], "did you mean train"),
    "study model": (["study", "quickstart", "--set", "model.start=./models/mine"], "no such folder"),
    "export ticket": (["export", "RUN/tickts/low-magnitude-weight-50-seed0", "--onnx"], "did you mean"),
    "export format": (["export", "RUN/tickets/low-magnitude-weight-50-seed0", "--format", "onx"], "did you mean onnx?"),
    "export precision": (["export", "RUN", "--onnx", "--precision", "int9"], "did you mean int8?"),
    "export recipe": (["export", "RUN/seeds/0/dense", "--onnx", "--recipe", "quickstrt"], "did you mean quickstart"),
    "prune model": (["prune", "RUN/seed/0/dense", "--sparsity", "0.5", "--out", "p"], "did you mean"),
    "prune criterion": (["prune", "mini", "--criterion", "tailor", "--out", "p"], "did you mean taylor?"),
    "prune granularity": (["prune", "mini", "--granularity", "nueron", "--out", "p"], "did you mean neuron?"),
    "prune out": (["prune", "mini", "--sparsity", "0.5", "--out", "RUN"], "is not an empty folder"),
    "prune recipe": (
        ["prune", "mini", "--sparsity", "0.5", "--criterion", "taylor", "--calibrate", "quickstrt", "--out", "p"],
        "did you mean quickstart",
    ),
    "bench artifact": (["bench", "RUN/artifact/x"], "no such folder"),
    "bench profile": (["bench", "x", "--target", "adb", "--profile", "no.yaml"], "no such file"),
    "predict recipe": (["predict", "mini", "quickstrt", "--out", "o"], "did you mean quickstart"),
    "predict model": (["predict", "RUN/tickts/x", "quickstart", "--out", "o"], "no such folder"),
    "inspect ticket": (["inspect", "RUN/tickts/x"], "RUN/tickts/x"),
    "status run": (["status", "RUNN"], "is not a run folder"),
    "pick run": (["pick", "RUNN"], "is not a run folder"),
    "report run": (["report", "RUNN"], "is not a run folder"),
    "pretrain recipe": (["pretrain", "pretrain-mni", "--out", "p"], "did you mean pretrain-mini"),
    "data check recipe": (["data", "check", "quickstrt"], "did you mean quickstart"),
}
WATCHED = (
    "import sys, os\nsys.argv[0] = 'lxcompress'\nfrom lxcompress.cli.main import run\n"
    "try:\n    run()\nfinally:\n"
    f"    print(*[name for name in {HEAVY!r} if name in sys.modules], file=open('heavy', 'w'))\n"
)


def watched(words: list[str], folder: Path) -> tuple[subprocess.CompletedProcess[str], str]:
    """A command in a process of its own, and the heavy libraries that it imported."""
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = children.run(WATCHED, *words, cwd=folder, env=offline, libraries=children.LIGHT)
    return done, (folder / "heavy").read_text(encoding="utf-8").strip()


@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_is_told_before_anything_heavy_is_imported(name, study, tmp_path) -> None:
    words, said = SLIPS[name]
    (tmp_path / "RUN").symlink_to(study)
    done, heavy = watched(words, tmp_path)
    assert done.returncode == 1, done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert heavy == ""
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("words", [["status"], ["pick"], ["inspect"]], ids=lambda words: words[0])
def test_what_only_reads_a_run_needs_no_torch(words, study, tmp_path) -> None:
    target = study / "tickets" / "low-magnitude-weight-50-seed0" if words == ["inspect"] else study
    done, heavy = watched([*words, str(target)], tmp_path)
    assert done.returncode == 0 or "No ticket keeps" in done.stderr, done.stderr
    assert heavy == ""


def test_a_report_needs_no_torch(study, tmp_path) -> None:
    done, heavy = watched(["report", str(study)], tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(heavy.split()) <= {"matplotlib"}


def test_a_model_is_a_path_that_is_there_or_a_name_on_the_hub(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for name in ("mini", "models"):
        check_model(name)
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in ("unc-nlp/lxmert-base-uncased", "hub:unc-nlp/lxmert-base-uncased"):
        with pytest.raises(ModelError, match="hub cannot be reached"):
            check_model(name)
    for path in ("models/x", "./x/y", "/no/such", "runs/x", "x.pth", "a/x.pth", "x", "a/b/c", "x" * 5000):
        with pytest.raises(ModelError, match="no such"):
            check_model(path)
    assert near_path(Path("model/x")) == " (did you mean models?)"


@pytest.mark.parametrize(
    "words",
    [
        ("export", "made", "--onnx"),
        ("prune", "made", "--sparsity", "0.5", "--out", "new"),
        ("predict", "made", "quickstart", "--out", "new"),
        ("eval", "made", "no-such.yaml"),
        ("eval", "./no/such", "quickstart"),
        ("eval", "made/artifact.json", "quickstart"),
        ("advise", "--sparsity", "1.5"),
    ],
)
def test_an_artifact_given_as_a_model_and_wrong_inputs_are_refused_at_once(tmp_path, words) -> None:
    (tmp_path / "made").mkdir()
    for name in ("artifact.json", "config.json", "model.onnx"):
        (tmp_path / "made" / name).write_text("{}", encoding="utf-8")
    code = (
        "import sys\nfrom lxcompress.cli.main import app\nfrom lxcompress.errors import LxError\n"
        f"try:\n    app({list(words)!r}, standalone_mode=False)\n"
        "except LxError as error:\n    print(error, *(name for name in ('torch', 'onnx') if name in sys.modules))"
    )
    run = children.run(code, cwd=tmp_path, libraries=children.LIGHT)
    wanted = {"eval": "expected a folder|no such", "advise": "is a share"}.get(words[0], "is an exported file")
    assert re.search(wanted, run.stdout), run.stdout + run.stderr
    assert run.stdout.split()[-1] not in ("torch", "onnx"), run.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made"]


def test_no_command_with_a_value_is_printed_unquoted() -> None:
    package = Path(command_line.__code__.co_filename).parent
    found = []
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else []
            for text, value in itertools.pairwise(parts):
                is_command = isinstance(text, ast.Constant) and COMMAND.search(str(text.value))
                if is_command and isinstance(value, ast.FormattedValue):
                    written = ast.unparse(value.value)
                    if not any(safe in written for safe in ("quote", "shlex", "names[0]", "sources", "', '.join")):
                        found.append(f"{path.name}:{value.lineno} {written}")
    assert found == []

"""`lxcompress eval`: what a ticket, a model and an artifact score is what the study and the export wrote down."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from lxcompress.cli.main import app
from lxcompress.engine.build import find_compiler
from lxcompress.errors import LxError, MeasureError, RecipeError
from lxcompress.exporters.artifact import export, open_source
from lxcompress.exporters.formats import ExportOptions
from lxcompress.records import Artifact, Dense, Result, read_record
from tests.conftest import TOY_CELL

CELL = TOY_CELL


@pytest.fixture
def run(tiny_run) -> Path:
    """A run of one cell on the toy."""
    return tiny_run


def told(*arguments: object) -> dict:
    """What eval prints as JSON."""
    result = CliRunner().invoke(app, ["eval", *map(str, arguments), "--json"])
    assert result.exit_code == 0, f"{arguments}: {result.output} {result.exception!r}"
    return json.loads(result.stdout)


def refuse(*arguments: object) -> LxError:
    result = CliRunner().invoke(app, ["eval", *map(str, arguments)])
    assert isinstance(result.exception, LxError), f"{arguments}: {result.output} {result.exception!r}"
    return result.exception


def test_a_ticket_scores_what_its_result_says(run) -> None:
    ticket = run / "tickets" / CELL
    found, wanted = told(ticket, run), read_record(ticket / "result.json", Result).retrained
    assert {name: found[name] for name in ("accuracy", "by_type", "questions")} == wanted.model_dump()
    assert (found["source"], found["kind"], found["runtime"], found["recipe"]) == (
        str(ticket),
        "ticket",
        "torch",
        "toy",
    )


def test_a_dense_run_scores_what_its_record_says(run) -> None:
    dense = run / "seeds/0/dense"
    found, wanted = told(dense, run / "recipe.yaml"), read_record(dense / "dense.json", Dense).trained
    assert (found["accuracy"], found["kind"]) == (wanted.accuracy, "model")
    shown = CliRunner().invoke(app, ["eval", str(dense), str(run)]).stdout
    assert "64 validation questions of toy" in shown
    assert all(kind in shown for kind in wanted.by_type)


@pytest.mark.parametrize(
    ("format", "runtime"),
    [
        ("onnx", "onnxruntime"),
        ("bitmask", "torch"),
        pytest.param(
            "engine", "engine", marks=pytest.mark.skipif(find_compiler() is None, reason="no C compiler is here")
        ),
    ],
)
def test_an_artifact_scores_what_its_record_says_in_the_runtime_that_serves_it(
    format, runtime, run, tmp_path, request
) -> None:
    if format == "onnx":
        shutil.copytree(request.getfixturevalue("tiny_onnx"), tmp_path / "out")
    else:
        export(open_source(run / "tickets" / CELL), tmp_path / "out", ExportOptions(format))
    found, record = told(tmp_path / "out", run), read_record(tmp_path / "out/artifact.json", Artifact)
    assert {name: found[name] for name in ("accuracy", "by_type", "questions")} == record.accuracy.model_dump()
    assert (found["kind"], found["runtime"]) == ("artifact", runtime)
    changed = next(
        path for path in (tmp_path / "out").iterdir() if path.name in record.files and path.suffix != ".json"
    )
    changed.write_bytes(changed.read_bytes()[:-1] + b"!")
    error = refuse(tmp_path / "out", run)
    assert isinstance(error, MeasureError)
    assert "has changed since it was exported" in str(error)


def test_what_cannot_be_scored_is_one_sentence(run, tmp_path) -> None:
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["data"] |= {"pixels": 16}
    (tmp_path / "pictures.yaml").write_text(yaml.safe_dump(recipe))
    assert "gives pictures" in str(refuse(run / "tickets" / CELL, tmp_path / "pictures.yaml"))
    for absent in (tmp_path / "absent", run):
        assert len(str(refuse(absent, run))) < 500
    assert isinstance(refuse(run / "tickets" / CELL, tmp_path / "pictures.yaml"), RecipeError)

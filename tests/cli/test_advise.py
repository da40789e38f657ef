"""`lxcompress advise`: what it prints before anything is trained."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from lxcompress.cli.main import app
from lxcompress.errors import ExportError, ModelError


def say(*options: str):
    return CliRunner().invoke(app, ["advise", *options])


def test_the_example_of_the_issue() -> None:
    result = say("--sparsity", "0.5", "--format", "onnx-sparse")
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert "50 % as ONNX COO fp32: +43 % file, no speed; smaller than dense above 66.7 %." in text
    assert "Unstructured zeros make no format faster in ONNX Runtime" in text
    assert "; format engine is faster, in its own runtime." in text
    assert "DeepSparse 1.8 (closed" in text
    assert "a structured ticket at 50 % is 0.57 of the file and 0.50 of the time" in text


def test_json_has_every_format_and_the_facts() -> None:
    tree = json.loads(say("--json").stdout)
    assert tree["weights"] == 206_842_425
    assert len(tree["formats"]) == 31
    assert [sparsity["sparsity"] for sparsity in tree["formats"][0]["sparsities"]] == [0.5, 0.7, 0.9]
    assert tree["measured"]["machine"]
    assert set(tree["instead"]) == {"0.5", "0.7", "0.9"}


def test_a_model_of_ones_own(toy_start) -> None:
    whole, toy = (json.loads(say("--json", *more).stdout) for more in ([], ["--model", str(toy_start)]))
    assert toy["model"] == str(toy_start)
    assert toy["weights"] < whole["weights"] / 1000


def test_nothing_is_cut_at_the_width_of_a_terminal() -> None:
    text = say().stdout
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert "Dense stands for onnx, ort, openvino, executorch, litert." in " ".join(text.split())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--sparsity", "50"], ExportError),
        (["--format", "x"], ExportError),
        (["--model", "nowhere/at/all"], ModelError),
    ],
)
def test_what_is_unknown_is_one_sentence(options, error) -> None:
    assert isinstance(say(*options).exception, error)

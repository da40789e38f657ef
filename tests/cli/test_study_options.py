"""Options of `study` that have no effect together are refused before anything is read."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from lxcompress.cli.study import study_cli

app = typer.Typer()
app.command()(study_cli)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--executor slurm", "give local or ray"),
        ("--cpus-per-run 2", "need --executor ray"),
        ("--no-shared-folder", "need --executor ray"),
        ("--executor ray --join", "leave it out"),
        ("--gpus 8", "needs --dry-run"),
        ("--dry-run --gpus 1,x", "expected numbers above 0"),
        ("--dry-run --gpus 0", "expected numbers above 0"),
    ],
)
def test_options_without_effect_are_refused(words, said, tmp_path) -> None:
    result = CliRunner().invoke(app, ["quickstart", "--out", str(tmp_path / "run"), *words.split()])
    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("│", " ").split())
    assert not (tmp_path / "run").exists()

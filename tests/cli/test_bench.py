"""`lxcompress bench` shows every artifact at any width, keeps what it measured, and says where."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lxcompress.records import Bench, read_record
from tests.measure.artifacts import build_artifact

ROOT = Path(__file__).resolve().parents[2]
BENCH = "import typer; from lxcompress.cli.bench import bench_cli; typer.run(bench_cli)"
LONG_NAME = "low-magnitude-weight-50-seed0"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with two artifacts, whose recipe asks for 6 runs."""
    root = tmp_path_factory.mktemp("run")
    (root / "recipe.yaml").write_text("name: toy\ndata: {kind: scenes}\nbench: {runs: 6}\n", encoding="utf-8")
    for name in ("dense", LONG_NAME):
        build_artifact(root / "artifacts" / name)
    return root


def bench(*arguments: object, columns: int = 100) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BENCH, *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=ROOT,
        env={**os.environ, "COLUMNS": str(columns), "PYTHONIOENCODING": "utf-8"},
        check=False,
    )


def test_artifacts_of_a_run_are_kept_in_it_by_its_recipe(run: Path) -> None:
    done = bench(run / "artifacts" / "dense", run / "artifacts" / LONG_NAME)
    assert done.returncode == 0, done.stderr
    (file,) = (run / "measurements").iterdir()
    assert str(file) in done.stdout
    kept = read_record(file, Bench)
    assert [each.artifact for each in kept.measurements] == ["dense", LONG_NAME]
    assert [len(each.latency.values) for each in kept.measurements] == [6, 6]
    assert "only 6 runs" in done.stdout


def test_options_win_over_the_recipe_and_out_over_the_run(run: Path, tmp_path: Path) -> None:
    before = list(run.glob("measurements/*"))
    out = tmp_path / "new" / "bench.json"
    done = bench(run / "artifacts" / "dense", "--runs", 3, "--threads", 2, "--out", out)
    assert done.returncode == 0, done.stderr
    (measured,) = read_record(out, Bench).measurements
    assert (measured.task.runs, measured.task.threads) == (3, 2)
    assert list(run.glob("measurements/*")) == before


def test_artifacts_of_no_run_are_shown_and_not_kept(tmp_path: Path) -> None:
    done = bench(build_artifact(tmp_path / "alone"), "--runs", 2)
    assert done.returncode == 0, done.stderr
    assert "give --out FILE" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["alone"]


@pytest.mark.parametrize("columns", [60, 120])
def test_the_table_fits_and_names_every_artifact(run: Path, tmp_path: Path, columns: int) -> None:
    out = tmp_path / "bench.json"
    done = bench(run / "artifacts" / "dense", run / "artifacts" / LONG_NAME, "--out", out, columns=columns)
    lines = [line for line in done.stdout.splitlines() if str(out) not in line]
    assert max(map(len, lines)) <= columns
    assert "dense" in done.stdout
    assert LONG_NAME in done.stdout
    assert "…" not in done.stdout


def test_progress_goes_to_standard_error(run: Path, tmp_path: Path) -> None:
    done = bench(run / "artifacts" / "dense", "--out", tmp_path / "bench.json")
    assert [line.split(",")[0] for line in done.stderr.splitlines()][:3] == ["checking", "loading", "measuring"]
    assert "measuring" not in done.stdout


def test_a_wrong_path_measures_and_keeps_nothing(tmp_path: Path) -> None:
    done = bench(tmp_path, "--out", tmp_path / "bench.json")
    assert done.returncode == 1
    assert "is not an artifact" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_wrong_usage_is_exit_code_2() -> None:
    assert bench("--runs", "many", "x").returncode == 2
    assert bench().returncode == 2


def test_help_has_an_example() -> None:
    done = bench("--help")
    assert done.returncode == 0
    assert "lxcompress bench" in done.stdout

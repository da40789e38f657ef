"""`lxcompress bench` shows every artifact at any width, keeps what it measured, and says where."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from lxcompress.cli import bench_table
from lxcompress.cli.main import app
from lxcompress.measure.artifacts import BenchOptions, bench_artifacts
from lxcompress.records import BenchRecord, Measurement, Samples, read_record
from lxcompress.rundir import write_record
from tests import children
from tests.measure.artifacts import build_artifact

ROOT = Path(__file__).resolve().parents[2]
BENCH = "import sys; from lxcompress.cli.main import run; sys.argv[:1] = ['lxcompress', 'bench']; run()"
LONG_NAME = "low-magnitude-weight-50-seed0"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with two artifacts, whose recipe asks for 6 runs."""
    root = tmp_path_factory.mktemp("run")
    (root / "recipe.yaml").write_text("name: toy\ndata: {kind: scenes}\nbench: {runs: 6}\n", encoding="utf-8")
    for name in ("dense", LONG_NAME):
        build_artifact(root / "artifacts" / name)
    return root


def bench(*arguments: object, columns: int = 100, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": str(columns), **environment}
    return children.run(BENCH, *arguments, cwd=ROOT, env=environment, libraries=children.LIGHT)


def test_artifacts_of_a_run_are_kept_in_it_by_its_recipe(run: Path) -> None:
    done = bench(run / "artifacts" / "dense", run / "artifacts" / LONG_NAME)
    assert done.returncode == 0, done.stderr
    (file,) = (run / "measurements").iterdir()
    assert str(file) in done.stdout
    kept = read_record(file, BenchRecord)
    assert [measurement.artifact for measurement in kept.measurements] == ["dense", LONG_NAME]
    assert [len(measurement.latency.values) for measurement in kept.measurements] == [6, 6]
    assert "only 6 runs" in done.stdout


def test_options_win_over_the_recipe_and_out_over_the_run(run: Path, tmp_path: Path) -> None:
    before = list(run.glob("measurements/*"))
    out = tmp_path / "new" / "bench.json"
    done = bench(run / "artifacts" / "dense", "--runs", 3, "--threads", 2, "--out", out)
    assert done.returncode == 0, done.stderr
    (measured,) = read_record(out, BenchRecord).measurements
    assert (measured.task.runs, measured.task.threads) == (3, 2)
    assert list(run.glob("measurements/*")) == before


def test_artifacts_of_no_run_are_shown_and_not_kept(tmp_path: Path) -> None:
    done = bench(build_artifact(tmp_path / "alone"), "--runs", 2)
    assert done.returncode == 0, done.stderr
    assert "give --out FILE" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["alone"]


@pytest.fixture(scope="module")
def measured(run: Path) -> BenchRecord:
    """Two artifacts on one thread and on two."""
    paths = [run / "artifacts" / "dense", run / "artifacts" / LONG_NAME]
    return bench_artifacts(paths, BenchOptions(threads=(1, 2), runs=30, warmup=1))


def shown(bench: BenchRecord, columns: int, monkeypatch: pytest.MonkeyPatch, **more: object) -> list[str]:
    """The lines that a terminal of so many columns shows."""
    terminal = Console(width=columns, file=io.StringIO(), highlight=False)
    monkeypatch.setattr(bench_table, "screen", terminal)
    bench_table.BenchView(None, **({"detector_s": None, "as_json": False} | more)).show(bench, None)
    return terminal.file.getvalue().splitlines()


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_the_table_fits_and_names_every_artifact(measured: BenchRecord, columns: int, monkeypatch) -> None:
    lines = shown(measured, columns, monkeypatch, detector_s=0.21)
    assert max(map(len, lines)) <= columns
    text = " ".join(" ".join(lines).split())
    for said in ("dense", LONG_NAME, "1 thread, questions of 7 tokens", "2 threads, ", "onnxruntime", "p99 is close"):
        assert said in text
    assert "…" not in text
    assert "detector 210 ms (as given) + model" in text
    assert "the detector takes 100 % of the answer" in text


@pytest.mark.parametrize("columns", [40, 80])
def test_many_rows_of_a_full_size_model_stay_readable(measured: BenchRecord, columns: int, monkeypatch) -> None:
    rows = []
    for threads in (1, 2):
        for number in range(8):
            each = measured.measurements[0]
            values = [0.01 * (value % 7 + 90 + 8 * number) / threads for value in range(30)]
            rows.append(
                each.model_copy(
                    update={
                        "artifact": f"low-magnitude-weight-{number}0-seed0-onnx-int8",
                        "artifact_path": str(number),
                        "task": each.task.model_copy(update={"threads": threads}),
                        "latency": Samples(unit="s", values=values),
                        "load_s": 1.7,
                        "cold_load_s": 12.5,
                        "peak_bytes": 1_692_000_000,
                        "steady_bytes": 1_240_000_000,
                        "size_bytes": 856_000_000,
                        "energy_j": 4.2,
                        "flops": 10_500_000_000,
                        "doubts": [f"long tail: p90 is {number}.5 times p50", "busy machine: others"],
                    }
                )
            )
    lines = shown(BenchRecord(started="", measurements=rows, baseline="3"), columns, monkeypatch)
    assert max(map(len, lines)) <= columns
    text = " ".join(" ".join(lines).split())
    assert all(f"{row.artifact}" in text for row in rows)
    assert "…" not in text
    assert "warning: all: busy machine: others" in text
    assert text.count("long tail") == 1
    assert text.count("10.5 GFLOP") == text.count("4.20 J on 1 thread, 4.20 J on 2 threads") == 8
    assert any("low-magnitude" in line and "  930   960" in line for line in lines) == (columns == 80)


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_twins_are_rows_by_what_they_stand_for(measured: BenchRecord, columns: int, monkeypatch) -> None:
    """In a table at every width, and without a number that must be looked up."""
    names = ("dense", "dense int8", "ticket int8", "structured int8")
    each = measured.measurements[0]
    changes = [{"artifact_path": name, "twin": name, "artifact": f"{LONG_NAME}-{name}"} for name in names]
    rows = [each.model_copy(update=change) for change in changes]
    bench = BenchRecord(started="", measurements=rows, baseline="dense")
    lines = shown(bench, columns, monkeypatch)
    assert max(map(len, lines)) <= columns
    starts = [name for name in names for line in lines if line.startswith((f" {name} ", name)) and "." in line]
    assert all(starts.count(name) >= (2 if columns < 100 else 1) for name in names)
    text = " ".join(lines)
    assert all(heading in text for heading in ("steady", "cold", "start s", "answers", "baseline"))
    again = [row.model_copy(update={"format": "openvino", "artifact_path": f"{row.twin}-o"}) for row in rows]
    text = " ".join(
        shown(BenchRecord(started="", measurements=[*rows, *again], baseline="dense"), columns, monkeypatch)
    )
    assert "dense int8 openvino" in " ".join(text.split())


def test_json_is_the_bench_with_its_summaries_and_ratios(run: Path, tmp_path: Path) -> None:
    out, paths = tmp_path / "bench.json", [run / "artifacts" / LONG_NAME, run / "artifacts" / "dense"]
    done = bench(*paths, "--runs", 30, "--baseline", paths[1], "--detector-ms", 100, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert BenchRecord.model_validate(printed["bench"]) == read_record(out, BenchRecord)
    compared, baseline = printed["rows"]
    assert (baseline["artifact"], baseline["ratio"]) == ("dense", None)
    ratio = compared["ratio"]
    assert ratio["low"] <= ratio["value"] <= ratio["high"]
    assert ratio["floor"] > 0
    assert ratio["value"] == pytest.approx(compared["p50_s"] / baseline["p50_s"])
    assert compared["p50_s"] <= compared["p90_s"] <= compared["p99_s"]
    assert compared["answers_per_s"] == pytest.approx(1 / compared["mean_s"])
    assert compared["model_share"] == pytest.approx(compared["p50_s"] / (compared["p50_s"] + 0.1))
    assert printed["detector_s"] == 0.1
    assert str(out) in done.stderr


def test_without_a_detector_there_is_a_reminder_and_no_share(run: Path, tmp_path: Path) -> None:
    done = bench(run / "artifacts" / "dense", "--runs", 1, "--out", tmp_path / "bench.json")
    assert "an extractor, which is not measured; --extractor FOLDER measures it" in " ".join(done.stdout.split())
    assert "of the answer" not in done.stdout


def test_lengths_are_rows_of_their_own_and_left_out_formats_are_named(run: Path, tmp_path: Path) -> None:
    core = build_artifact(tmp_path / "core", format="coreml")
    out = tmp_path / "bench.json"
    done = bench(run / "artifacts" / "dense", core, "--runs", 1, "--lengths", "4,9", "--out", out)
    assert done.returncode == 0, done.stderr
    assert [measurement.task.tokens for measurement in read_record(out, BenchRecord).measurements] == [4, 9]
    assert "note: core: format coreml runs on other systems only" in " ".join(done.stdout.split())
    alone = bench(core)
    assert alone.returncode == 1
    assert [line for line in alone.stderr.splitlines() if line.startswith("error: core: format coreml")]


def test_a_bench_of_another_machine_is_no_baseline(run: Path, measured: BenchRecord, tmp_path: Path) -> None:
    out, dense = tmp_path / "bench.json", run / "artifacts" / "dense"
    write_record(out, measured)
    again = bench(dense, "--runs", 30, "--baseline", out)
    assert again.returncode == 0, again.stderr
    assert "relative to the bench of" in " ".join(again.stdout.split())
    kept = json.loads(out.read_text(encoding="utf-8"))
    kept["measurements"][0]["machine"]["processor"] = "Another"
    del kept["seal"]
    out.write_text(json.dumps(kept), encoding="utf-8")
    refused = bench(dense, "--runs", 1, "--baseline", out)
    assert refused.returncode == 1
    assert "times of two machines cannot be compared" in refused.stderr
    assert "measuring" not in refused.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send to another process")
def test_an_interrupt_keeps_what_was_measured_and_leaves_with_130(run: Path, tmp_path: Path) -> None:
    out, paths = tmp_path / "bench.json", [str(run / "artifacts" / name) for name in ("dense", LONG_NAME)]
    command = [sys.executable, "-c", BENCH, *paths, "--runs", "400000", "--threads", "1,2", "--lengths", "4,9"]
    with subprocess.Popen(
        [*command, "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as driver:
        assert driver.stderr is not None
        while "measuring" not in driver.stderr.readline():
            continue
        while True:  # until someone has a sample, an interrupt keeps nothing
            try:
                driver.wait(timeout=1)
            except subprocess.TimeoutExpired:
                driver.send_signal(signal.SIGINT)
                break
        printed = driver.communicate(timeout=60)[0]
    assert driver.returncode == 130
    kept = read_record(out, BenchRecord)
    assert [(measurement.task.threads, measurement.task.tokens) for measurement in kept.measurements] == [
        (1, 4),
        (1, 4),
    ]
    assert "interrupted: not all runs were made" in " ".join(printed.split())


def test_progress_goes_to_standard_error(run: Path, tmp_path: Path) -> None:
    done = bench(run / "artifacts" / "dense", "--out", tmp_path / "bench.json")
    assert [line.split(",")[0] for line in done.stderr.splitlines()][:3] == ["checking", "loading", "measuring"]
    assert "measuring" not in done.stdout


def test_a_wrong_path_measures_and_keeps_nothing(tmp_path: Path) -> None:
    done = bench(tmp_path, "--out", tmp_path / "bench.json")
    assert done.returncode == 1
    assert "is inside" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_wrong_usage_is_exit_code_2() -> None:
    def usage(*arguments: str):
        return CliRunner().invoke(app, ["bench", *arguments])

    assert usage("--runs", "many", "x").exit_code == 2
    assert usage().exit_code == 2
    for wrong in (
        ("--threads", "one"),
        ("--lengths", "9;20"),
        ("--target", "moon"),
        ("--dry-run",),
        ("--profile", "phone.yaml"),
        ("--detector-ms", "-1"),
    ):
        assert usage("x", *wrong).exit_code == 2
    done = usage("x", "--target", "adb", "--profile", "phone.yaml", "--runtimes", "torch")
    assert (done.exit_code, "--runtimes is for this machine" in " ".join(done.stderr.split())) == (2, True)


def test_help_has_an_example() -> None:
    done = bench("--help")
    assert done.returncode == 0
    assert "lxcompress bench" in done.stdout


def test_a_model_that_reads_pictures_has_no_detector_and_no_regions(measured: BenchRecord, monkeypatch) -> None:
    def as_pictures(each: Measurement) -> Measurement:
        return each.model_copy(update={"task": each.task.model_copy(update={"picture_size": 16, "objects": 1})})

    names = ("measurements", "noise")
    made = {name: [as_pictures(each) for each in getattr(measured, name)] for name in names}
    pictures = measured.model_copy(update=made)
    text = " ".join(shown(pictures, 120, monkeypatch))
    assert "one question of a picture of 16 x 16 pixels at a time" in text
    assert "detector" not in text
    assert "region" not in text
    told = " ".join(shown(pictures, 120, monkeypatch, detector_s=0.21))
    assert "--detector-ms has no effect" in told
    assert "of the answer" not in told


def test_import_refuses_options_that_it_ignores(run: Path) -> None:
    done = CliRunner().invoke(
        app, ["bench", str(run), "--import", "phone.json", "--threads", "2", "--json", "--dry-run"]
    )
    assert done.exit_code == 2
    words = " ".join(done.output.replace("│", " ").split())
    assert "--threads, --dry-run: has no effect with --import, which saves a finished measurement" in words

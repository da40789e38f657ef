"""Laws of `submit`: workers share a study and leave the numbers of one process; one that is stopped is queued again."""

from __future__ import annotations

import importlib.util
import signal
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from lxcompress.cli.submit import JoinedStudy, submit_cli
from lxcompress.recipe import load_recipe
from lxcompress.study.agreement import resolve_recipe
from tests.conftest import TOY_CELL
from tests.study.test_run import assert_same_runs

app = typer.Typer()
app.command()(submit_cli)
needs_submitit = pytest.mark.skipif(
    importlib.util.find_spec("submitit") is None, reason="submitit is not installed: pip install submitit"
)


def test_one_cluster_must_be_chosen(tiny_recipe_file) -> None:
    for words in ([], ["--slurm", "--local"]):
        result = CliRunner().invoke(app, [str(tiny_recipe_file), *words])
        assert result.exit_code == 2
        assert "give one of --slurm and --local" in result.output


@pytest.mark.slow
@needs_submitit
@pytest.mark.filterwarnings("ignore")
def test_local_workers_leave_the_numbers_of_one_process(tiny_recipe_file, tiny_run, tmp_path) -> None:
    words = ["--local", "--workers", "2", "--gpus", "0", "--only", TOY_CELL, "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, [str(tiny_recipe_file), *words])
    assert result.exit_code == 0, result.output
    assert_same_runs(tiny_run, tmp_path / "run", runs=2)


@pytest.mark.slow
@needs_submitit
@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_is_stopped_is_queued_again_and_goes_on(tiny_recipe_file, tiny_run, tmp_path) -> None:
    """The signal of a preemption ends the worker; submitit starts it again, and it does what is left."""
    import submitit

    root = tmp_path / "run"
    executor = submitit.AutoExecutor(folder=root / "jobs", cluster="local")
    executor.update_parameters(timeout_min=10, gpus_per_node=0)
    job = executor.submit(JoinedStudy(resolve_recipe(load_recipe(tiny_recipe_file)), root, TOY_CELL))
    end = time.monotonic() + 600
    while not list(root.glob("seeds/0/dense/checkpoint.*")) + list(root.glob("seeds/0/dense/dense.json")):
        assert time.monotonic() < end
        time.sleep(0.02)
    for worker in workers_of(root):
        worker.send_signal(signal.SIGUSR2)
    assert job.result()["run"] == str(root)
    logs = "".join(path.read_text("utf-8") for path in (root / "jobs").rglob("*_log.*"))
    assert "Requeued job" in logs
    assert_same_runs(tiny_run, root, runs=2)


def workers_of(root: Path) -> list:
    import psutil

    found = [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"]]
    folder = str(root / "jobs")
    return [
        process
        for process in found
        if "submitit.core._submit" in process.info["cmdline"]
        and any(folder in word for word in process.info["cmdline"])
    ]

"""Laws of bench/gpu_proof.py: a step that fails, crashes or hangs says so, and what is finished is not repeated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests import children

ROOT = Path(__file__).parents[2]
CODE = f"import sys; sys.path.insert(0, {str(ROOT / 'bench')!r}); import gpu_proof; gpu_proof.main()"
BROKEN = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT / "bench")!r})
import gpu_proof
from gpu_proof import Task

def differ(setup):
    raise gpu_proof.StepFailedError("the losses differ")

gpu_proof.TASKS |= {{
    "graphs": Task(differ, 30, "equal"),
    "data": Task(lambda setup: os.kill(os.getpid(), 9), 30, "equal"),
    "bf16": Task(lambda setup: time.sleep(60), 0.3, "equal"),
    "plan": Task(lambda setup: 1 / 0, 30, "equal"),
}}
gpu_proof.main()
"""


def run(out: Path, *arguments: object, code: str = CODE):
    return children.run(code, "--device", "cpu", "--small", "--out", out, *arguments)


def records(out: Path) -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text()) for path in (out / "steps").glob("*.json")}


def test_steps_pass_and_are_not_repeated(tmp_path) -> None:
    chosen = ("optimizers", "graphs", "memory-error", "masks")
    done = run(tmp_path, "--steps", *chosen)
    assert done.returncode == 0, done.stdout + done.stderr
    found = records(tmp_path)
    assert {name: record["state"] for name, record in found.items()} == {
        "optimizers": "passed",
        "graphs": "skipped",
        "memory-error": "passed",
        "masks": "passed",
    }
    assert found["graphs"]["reason"] == "CUDA graphs exist on CUDA only"
    assert "train.accumulate" in found["memory-error"]["figures"]["error"]
    assert "3 passed, 1 skipped, 0 failed, 10 left over" in done.stdout
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "steps").glob("*.json")}
    assert run(tmp_path, "--steps", *chosen, "--again", "optimizers").returncode == 0
    changed = [path.stem for path, before in times.items() if path.stat().st_mtime_ns != before]
    assert changed == ["optimizers"]


def test_steps_that_fail_crash_or_hang_are_told_apart(tmp_path) -> None:
    chosen = ("graphs", "data", "bf16", "plan")
    done = run(tmp_path, "--steps", *chosen, code=BROKEN)
    assert done.returncode == 1
    found = records(tmp_path)
    assert {record["state"] for record in found.values()} == {"failed"}
    assert {name: record["reason"] for name, record in found.items()} == {
        "graphs": "the losses differ",
        "data": "its process ended with -9; see data.log",
        "bf16": "took longer than 0 s",
        "plan": "ZeroDivisionError: division by zero",
    }
    assert "ZeroDivisionError" in (tmp_path / "steps" / "plan.log").read_text()


def test_what_no_time_is_left_for_is_left_over(tmp_path) -> None:
    done = run(tmp_path, "--steps", "optimizers", "--minutes", "0")
    assert done.returncode == 1
    assert not records(tmp_path)
    assert "0 passed, 0 skipped, 0 failed, 14 left over" in done.stdout
    cut = run(tmp_path, "--steps", "bf16", "--minutes", "0.005", code=BROKEN.replace("0.3", "30"))
    assert cut.returncode == 1
    assert not records(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_else_is_tried(tmp_path) -> None:
    done = run(tmp_path, "--device", "cuda")
    assert done.returncode == 1
    assert "finds no GPU" in records(tmp_path)["device"]["reason"]
    assert "0 passed, 0 skipped, 1 failed, 13 left over" in done.stdout


@pytest.mark.slow
def test_the_whole_script_runs_on_a_cpu(tmp_path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = records(tmp_path)
    assert {name for name, record in found.items() if record["state"] == "skipped"} == {
        *("graphs", "data", "peak-memory", "compile", "energy")
    }
    assert len(found) == 14
    assert found["study"]["figures"]["runs"] == 3
    assert found["study"]["figures"]["sparsities"] == pytest.approx([0.5, 0.9], abs=1e-3)

"""Measurements of one run's artifacts are kept in that run, and none replaces another."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from lxcompress.errors import MeasureError
from lxcompress.measure.bench_paths import (
    find_common_run,
    lock_samples,
    name_bench,
    read_unfinished,
    recover,
    unfinished_path,
)
from lxcompress.records import BenchRecord, read_record
from lxcompress.rundir import RunDir
from tests.measure.artifacts import build_artifact

ROOT = Path(__file__).parents[2]

NOON = datetime(2030, 1, 2, 12, tzinfo=timezone.utc)


def _run(root: Path) -> RunDir:
    for name in ("dense", "picked"):
        (root / "artifacts" / name).mkdir(parents=True)
    (root / "recipe.yaml").touch()
    return RunDir(root)


def test_artifacts_of_one_run_lead_to_it_and_others_to_none(tmp_path: Path) -> None:
    one, two = _run(tmp_path / "one"), _run(tmp_path / "two")
    assert find_common_run([one.artifacts / "dense", one.artifacts / "picked"]) == one
    assert find_common_run([one.artifacts / "dense", two.artifacts / "dense"]) is None
    assert find_common_run([tmp_path]) is None
    one.recipe.unlink()
    assert find_common_run([one.artifacts / "dense"]) is None


def test_names_are_never_given_twice_and_sort_by_time(tmp_path: Path) -> None:
    run = _run(tmp_path)
    names = []
    for _ in range(3):
        path = name_bench(run, NOON)
        path.touch(exist_ok=False)
        names.append(path.name)
    assert names == ["20300102T120000Z.json", "20300102T120000Z-2.json", "20300102T120000Z-3.json"]


def bench(folder: Path, *more: str, limit: int | None = None) -> subprocess.Popen[str]:
    """The bench command on a small artifact; no file may grow beyond `limit` bytes."""
    artifact = folder / "dense"
    if not artifact.exists():
        build_artifact(artifact)

    def restrict() -> None:
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [sys.executable, "-m", "lxcompress", "bench", str(artifact), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=restrict,
    )


def test_a_disk_that_is_full_at_the_end_loses_no_sample(tmp_path) -> None:
    out = tmp_path / "bench.json"
    with bench(tmp_path, "--runs", "40", "--out", str(out), "--json", limit=1200) as process:
        printed, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"error: {out}: cannot be written (the file would be larger" in said
    assert "Traceback" not in said
    assert not out.exists()
    assert len(json.loads(printed)["bench"]["measurements"][0]["latency"]["values"]) == 40


def test_the_samples_of_a_killed_bench_are_saved_by_the_next(tmp_path) -> None:
    run = _run(tmp_path / "run")
    path = name_bench(run, NOON)
    with bench(tmp_path, "--runs", "1000000", "--out", str(path)) as process:
        end = time.monotonic() + 100
        while read_unfinished(unfinished_path(path)) is None and time.monotonic() < end:
            time.sleep(0.1)
        with pytest.raises(MeasureError, match="another bench is writing it"), lock_samples(path):
            pass
        assert recover(run.measurements) == []
        process.kill()
    with unfinished_path(path).open("ab") as file:
        file.write(b'{"started": "cut o')
    assert recover(run.measurements) == [path]
    found = read_record(path, BenchRecord)
    assert found.measurements[0].latency.values
    assert found.measurements[0].doubts
    assert list(run.measurements.iterdir()) == [path]


def test_a_bench_that_is_saved_leaves_its_file_alone(tmp_path) -> None:
    out = tmp_path / "new/bench.json"
    for _ in range(2):
        with bench(tmp_path, "--runs", "5", "--out", str(out)) as process:
            assert process.wait(timeout=120) == 0, process.stderr.read()
        assert list(out.parent.iterdir()) == [out]


def test_a_bench_that_cannot_begin_leaves_nothing(tmp_path) -> None:
    with pytest.raises(ZeroDivisionError), lock_samples(tmp_path / "bench.json"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []

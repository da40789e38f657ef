"""Laws of a joined study: processes of several machines share the runs by leases, and the numbers are those of one."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lxcompress.analysis.study_progress import study_progress
from lxcompress.errors import RunError
from lxcompress.leases import Leases, LeaseTimes
from lxcompress.recipe import load_recipe
from lxcompress.rundir import RunDir, is_busy, locked, read_run
from lxcompress.study.reporter import SilentReporter
from lxcompress.study.run import run_study
from lxcompress.study.worker import joined
from tests import children
from tests.conftest import TOY_CELL
from tests.study.test_run import assert_same_runs

JOIN = """
import sys
from pathlib import Path
import torch
from lxcompress.recipe import load_recipe
from lxcompress.study.run import run_study
from lxcompress.study.worker import joined
torch.set_num_threads(1)
with joined(Path(sys.argv[2])) as shared:
    recipe = load_recipe(Path(sys.argv[1]), ["train.epochs=1"])
    print(run_study(recipe, Path(sys.argv[2]), only=sys.argv[3], shared=shared), flush=True)
"""


ONLY = "*-50-seed0"
"""A dense run and three cells."""


@pytest.fixture(scope="module")
def short_recipe(tiny_recipe_file):
    return load_recipe(tiny_recipe_file, ["train.epochs=1"])


@pytest.fixture(scope="module")
def alone(short_recipe, tmp_path_factory) -> Path:
    """The run folder of the study, done by one process."""
    root = tmp_path_factory.mktemp("alone") / "run"
    run_study(short_recipe, root, only=ONLY)
    return root


@pytest.mark.slow
def test_one_that_joined_and_a_killed_one_give_the_numbers_of_one(alone, tiny_recipe_file, tmp_path) -> None:
    """No run is lost or done twice, and nothing of the leases is left."""
    root = tmp_path / "run"
    killed = children.start(JOIN, tiny_recipe_file, root, ONLY)
    end = time.monotonic() + 60
    while not list(root.glob("tickets/*/*")):  # at its first cell
        assert time.monotonic() < end
        time.sleep(0.01)
    other = children.start(JOIN, tiny_recipe_file, root, ONLY)
    killed.send_signal(signal.SIGKILL)
    assert killed.finish().returncode == -signal.SIGKILL
    done = other.finish()
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) in (2, 3)  # the killed one did the dense run, and perhaps a cell
    assert_same_runs(alone, root, runs=4)
    assert [path.name for path in (root / ".leases").iterdir() if "dense" in path.name or "weight" in path.name] == []


def test_who_joined_is_seen_and_excludes_a_study_of_one(tiny_recipe, tiny_run, tmp_path) -> None:
    root = tmp_path / "run"
    with joined(root) as shared:
        shared.take("random-weight-50-seed0")
        assert is_busy(RunDir(root))
        with pytest.raises(RunError, match=r"work in this folder .* join them with --join"):
            run_study(tiny_recipe, root)
        (worker,) = study_progress(read_run_of(tiny_run, root), busy=True).workers
        assert (worker.pid, worker.doing) == (os.getpid(), ("random-weight-50-seed0",))
    assert not is_busy(RunDir(root))
    with locked(RunDir(root)), pytest.raises(RunError, match="started without --join"), joined(root):
        pass


def read_run_of(finished: Path, root: Path):
    """Read the finished run folder as if it were at `root`."""
    return replace(read_run(finished), dir=RunDir(root))


def test_a_lost_lease_stops_the_training_before_it_writes(tiny_recipe, tiny_run, tmp_path) -> None:
    """A process whose heartbeats failed for too long writes nothing; it does the run again when it may."""
    now = [0.0]
    with Leases(tmp_path / "run/.leases", times=LeaseTimes(beat_s=1000), clock=lambda: now[0]) as shared:
        remarks = []

        class Stopper(SilentReporter):
            def begin(self, what: str, done: int, total: int) -> None:
                if not remarks:
                    now[0] += 61

            def remark(self, what: str) -> None:
                assert not list((tmp_path / "run").rglob("model.safetensors"))
                remarks.append(what)

        assert run_study(tiny_recipe, tmp_path / "run", only=TOY_CELL, progress=Stopper(), shared=shared) == 2
    assert len(remarks) == 1
    assert remarks[0].startswith("dense-seed0: is left to other processes")
    assert_same_runs(tiny_run, tmp_path / "run", runs=2)

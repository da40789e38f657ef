"""Laws of helpers: a study that starts processes ends with the numbers of one process, also if a process fails."""

from __future__ import annotations

import sys

import pytest

from lxcompress.machine import usable_cores
from lxcompress.rundir import is_busy, read_run
from lxcompress.study import helpers
from lxcompress.study.reporter import SilentReporter
from lxcompress.study.run import run_study
from lxcompress.study.worker import StudyWorker
from tests.study.test_run import numbers

ONE_RUN = "low-magnitude-weight-50-seed*"


class Listener(SilentReporter):
    """Keeps what a study reports: its remarks, and the runs that begin, end, and are trained in this process."""

    def __init__(self) -> None:
        self.remarks: list[str] = []
        self.begun: list[tuple[str, int, int]] = []
        self.ended: list[str] = []
        self.trained: set[str] = set()

    def remark(self, what: str) -> None:
        self.remarks.append(what)

    def begin(self, what: str, done: int, total: int) -> None:
        self.begun.append((what, done, total))

    def step(self, what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        self.trained.add(self.begun[-1][0])

    def end(self, what: str, accuracy: float, duration_s: float) -> None:
        assert self.begun[-1][0] == what, "a run is announced before its result"
        self.ended.append(what)


@pytest.fixture
def two_cores(monkeypatch) -> None:
    monkeypatch.setattr(helpers, "usable_cores", lambda: (0, 1))


def test_how_many_processes_share_a_study(tiny_recipe, two_cores) -> None:
    def count(wanted: int, runs: int = 9, *, worker: StudyWorker | None = None, on_cpu: bool = True) -> int:
        recipe = tiny_recipe.model_copy(update={"processes": wanted})
        return helpers.count_processes(recipe, worker or StudyWorker(), runs, on_cpu=on_cpu)

    assert [count(wanted) for wanted in (1, 2, 3)] == [1, 2, 2]
    assert [count(2, runs) for runs in (0, 1, 2)] == [1, 1, 2]
    assert count(2, on_cpu=False) == 1
    assert count(2, worker=StudyWorker(0, 4)) == 1


def test_a_helper_that_fails_is_said_and_its_runs_are_done(tiny_recipe, two_cores, monkeypatch, tmp_path) -> None:
    """The helper is a program that fails at once."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    shown = Listener()
    recipe = tiny_recipe.model_copy(update={"processes": 2, "seeds": (0,)})
    assert run_study(recipe, tmp_path / "run", only=ONE_RUN, progress=shown) == 2
    assert shown.ended == ["dense seed 0", "low-magnitude-weight-50-seed0"]
    [remark] = shown.remarks
    assert remark == "a helper process ended with an error (exit code 1); this process did the runs that it left"


@pytest.mark.slow
@pytest.mark.skipif(len(usable_cores()) < 2, reason="a study shares its runs among two cores")
def test_a_study_with_a_helper_ends_with_the_numbers_of_one_process(tiny_recipe, tmp_path) -> None:
    """Every run is reported once; the folder can be continued with another number of processes."""
    longer = tiny_recipe.model_copy(update={"train": tiny_recipe.train.model_copy(update={"epochs": 25})})
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    run_study(longer, alone)
    shown = Listener()
    recipe = longer.model_copy(update={"processes": 2})
    assert run_study(recipe, shared, progress=shown) == 14
    assert sorted(shown.ended) == sorted(
        [*(f"dense seed {seed}" for seed in recipe.seeds), *(cell.id for cell in recipe.cells())]
    )
    assert [(done, total) for _, done, total in shown.begun] == [(done, 14) for done in range(14)]
    assert shown.remarks == []
    assert 0 < len(shown.trained) < 14
    assert numbers(shared) == numbers(alone)
    assert not is_busy(read_run(shared).dir)
    assert run_study(longer, shared) == 0

"""TaskWorker: a process that does tasks of one study, one after another, and keeps data and model between them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from lxcompress.claims import Holder, LeaseLostError, describe_this_process
from lxcompress.errors import LxError
from lxcompress.leases import Leases, refresh
from lxcompress.recipe import Cell, Recipe
from lxcompress.rundir import RunDir
from lxcompress.study.agreement import load_start_task
from lxcompress.study.cell import CellRun, TicketCost
from lxcompress.study.context import StudyContext, see_regions
from lxcompress.study.draw import train_rounds
from lxcompress.study.first import take_first_step
from lxcompress.study.reporter import SilentReporter
from lxcompress.study.run import SeedCache, make_context
from lxcompress.study.schedule import TaskOutcome
from lxcompress.study.tasks import StudyTask, folder_of, is_done
from lxcompress.study.ticket import run_cell
from lxcompress.training.device import choose_device


@dataclass(frozen=True)
class StudyJob:
    """The study that a worker works on: its recipe with absolute paths, and the run folder.

    If the machines do not share the run folder, each worker replaces `root` by a folder of its own machine.
    """

    recipe: Recipe
    root: Path
    is_shared: bool
    driver: Holder = field(default_factory=describe_this_process)
    """the process that started the study"""


class _KeptReporter(SilentReporter):
    """A StudyReporter that keeps the remarks and the last result."""

    remarks: tuple[str, ...] = ()
    accuracy: float | None = None
    duration_s = 0.0

    def clear(self) -> None:
        """Forget what was kept."""
        self.remarks, self.accuracy, self.duration_s = (), None, 0.0

    def remark(self, what: str) -> None:
        """Keep a remark."""
        self.remarks += (what,)

    def end(self, what: str, accuracy: float, duration_s: float) -> None:
        """Keep the accuracy and the time of a run."""
        self.accuracy, self.duration_s = accuracy, duration_s


@dataclass
class TaskWorker:
    """The worker of a StudyJob in this process. The data are read when the first task begins."""

    job: StudyJob
    _reporter: _KeptReporter = field(default_factory=_KeptReporter)

    @cached_property
    def run(self) -> RunDir:
        """The run folder; if machines share it, with leases whose heartbeats are sent until the process ends."""
        self.job.root.mkdir(parents=True, exist_ok=True)
        if not self.job.is_shared:
            return RunDir(self.job.root)
        leases = Leases(RunDir(self.job.root).leases)
        return RunDir(self.job.root, shared=leases.__enter__())

    @cached_property
    def context(self) -> StudyContext:
        """The StudyContext of the study."""
        recipe = self.job.recipe
        device = choose_device(recipe.device, recipe.train.precision)
        return make_context(recipe, self.run, load_start_task(recipe), device)

    @cached_property
    def _seeds(self) -> SeedCache:
        return SeedCache(self.context, self._reporter)

    def do(self, task: StudyTask) -> TaskOutcome:
        """Do a task, unless it is done; return how it ended. Errors that a user must fix are in the outcome."""
        self._reporter.clear()
        node = socket.gethostname()
        try:
            with self._claim(task):
                refresh(folder_of(self.run, task))
                if not is_done(self.run, task):
                    _WORK[task.kind](self, task)
        except LeaseLostError as error:
            return TaskOutcome(task.id, node, failure=str(error))
        except LxError as error:
            return TaskOutcome(task.id, node, refusal=str(error))
        kept = self._reporter
        return TaskOutcome(task.id, node, kept.accuracy, kept.duration_s, kept.remarks)

    def _claim(self, task: StudyTask) -> AbstractContextManager[None]:
        """Return the lock of a task; rounds and first steps lock their folders themselves."""
        if task.kind in ("round", "first"):
            return nullcontext()
        return self.run.alone(task.id)

    def do_dense(self, task: StudyTask) -> None:
        """Do the dense run of a seed."""
        self._seeds.prepare(task.seed)

    def do_round(self, task: StudyTask) -> None:
        """Train a round of iterative-retrain, and those before it that are missing."""
        run = self._start(task)
        train_rounds(take_first_step(run), task.rounds)

    def do_first(self, task: StudyTask) -> None:
        """Make the smaller model of a first step."""
        take_first_step(self._start(task))

    def do_cell(self, task: StudyTask) -> None:
        """Draw the ticket of a cell."""
        run_cell(self.context, self._seeds.prepare(task.seed), _cell_of(task), self._reporter)

    def do_twin(self, task: StudyTask) -> None:
        """Draw the structured twin of the picked ticket."""
        context = replace(self.context, run=self.run.twins)
        run_cell(context, self._seeds.prepare(task.seed), _cell_of(task), self._reporter)

    def _start(self, task: StudyTask) -> CellRun:
        """Return the CellRun of a round or a first step."""
        cell, seed_run = _cell_of(task), self._seeds.prepare(task.seed)
        context = see_regions(self.context, cell.method.regions)
        return CellRun(context, seed_run, cell, TicketCost(), self._reporter, folder_of(self.run, task))


_WORK: dict[str, Callable[[TaskWorker, StudyTask], None]] = {
    "dense": TaskWorker.do_dense,
    "round": TaskWorker.do_round,
    "first": TaskWorker.do_first,
    "cell": TaskWorker.do_cell,
    "twin": TaskWorker.do_twin,
}


def _cell_of(task: StudyTask) -> Cell:
    """Return the cell of a task that has one."""
    assert task.cell is not None, "only dense runs have no cell"
    return task.cell

"""Run a study on a Ray cluster: this process, the driver, plans the tasks, and the nodes do them.

The run folder is the only truth: a driver that is started again looks into it, and does what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from lxcompress.errors import PruneError, RunError
from lxcompress.leases import Leases, LeaseTimes
from lxcompress.recipe import Cell, Recipe, load_run_recipe
from lxcompress.rundir import RunDir, locked, read_result
from lxcompress.study.agreement import check_same_study, resolve_recipe
from lxcompress.study.held_out import list_untested
from lxcompress.study.ray_pool import RayOptions, RayPool, connected
from lxcompress.study.reporter import StudyReporter
from lxcompress.study.run import begin, choose_cells, missing_runs, open_context
from lxcompress.study.schedule import AttemptReporter, ScheduleResult, TaskOutcome, run_tasks
from lxcompress.study.tasks import StudyTask, is_done, list_tasks, twin_task
from lxcompress.study.tracked import tracked
from lxcompress.study.worker import StudyWorker
from lxcompress.training.device import DeviceSpec

DRIVER = "driver"
"""The lease of the driver: only one driver works in a run folder."""
DRIVER_WAIT_S = LeaseTimes().stale_s + 30


def run_study_on_ray(
    recipe: Recipe, root: Path, options: RayOptions, *, only: str = "*", progress: StudyReporter
) -> int:
    """Do the missing runs of `recipe` on a Ray cluster; return how many runs (dense runs and cells) were done.

    Raises LxError for errors that a user can fix; a run that cannot be done keeps only those from being done that need
    it.
    """
    recipe = resolve_recipe(recipe)
    cells = choose_cells(recipe, only)
    with _driving(root, options) as run, tracked(recipe, run, progress) as progress:
        check_same_study(recipe, run)
        run.current.unlink(missing_ok=True)
        missing = missing_runs(recipe, cells, run)
        if not missing:
            begin(recipe, run, StudyWorker(), progress)
            return 0
        # The driver may have no GPU: it reads the data only to check them before anything is written.
        cpu = DeviceSpec(torch.device("cpu"), "fp32")
        open_context(recipe, run, cpu, missing, progress, ready=lambda: begin(recipe, run, StudyWorker(), progress))
        if list_untested(recipe, run):
            progress.remark("some finished runs have no test score; lxcompress study without --executor ray adds it")
        done = _Report(progress, len(missing))
        result = _do_tasks(recipe, run, list_tasks(recipe, missing, run), options, done)
    if result.failed:
        name, why = next(iter(result.failed.items()))
        raise RunError(f"{len(result.failed)} tasks failed, the others are done; the first: {name}: {why}")
    return done.runs


def draw_twin_on_ray(root: Path, cell: Cell, options: RayOptions, *, progress: StudyReporter) -> None:
    """Draw the twin `cell` of a finished study on the cluster, unless it exists.

    Raises LxError; the LxError is a PruneError if no such twin can be made of the model.
    """
    with _driving(root, options) as run:
        if read_result(run.twins, cell) is not None:
            return
        recipe = load_run_recipe(run.recipe)
        result = _do_tasks(recipe, run, twin_task(recipe, cell), options, _Report(progress, 1))
    if result.failed:
        with suppress(OSError):  # the folder is empty unless something was trained
            run.twins.ticket(cell).rmdir()
        raise PruneError(next(iter(result.failed.values())))


@dataclass
class _Report:
    """What the driver reports: every run that is done, and every attempt that is repeated."""

    progress: StudyReporter
    total: int
    runs: int = 0

    def done(self, task: StudyTask, outcome: TaskOutcome) -> None:
        """Report a task that is done."""
        for remark in outcome.remarks:
            self.progress.remark(remark)
        if task.is_run or task.kind == "twin":
            self.progress.begin(task.id, self.runs, self.total)
            self.runs += 1
            if outcome.accuracy is not None:
                self.progress.end(task.id, outcome.accuracy, outcome.duration_s)

    def retry(self, task: StudyTask, outcome: TaskOutcome, attempt: int) -> None:
        """Report an attempt that failed and is repeated."""
        self.progress.remark(f"{task.id}: is tried again (attempt {attempt + 1}), because: {outcome.failure}")


def _do_tasks(
    recipe: Recipe, run: RunDir, tasks: Sequence[StudyTask], options: RayOptions, report: _Report
) -> ScheduleResult:
    """Do those of the tasks that are not done, on the cluster."""
    todo = [task for task in tasks if not is_done(run, task)]
    with connected(options):
        pool = RayPool(recipe, run, tasks, options)
        try:
            return run_tasks(
                todo, pool, max_retries=options.max_retries, report=AttemptReporter(report.done, report.retry)
            )
        finally:
            pool.close()


@contextmanager
def _driving(root: Path, options: RayOptions) -> Iterator[RunDir]:
    """Yield the run folder, in which this process is the only driver. Raises RunError if there is another."""
    run = RunDir(root)
    if not options.has_shared_folder:
        with locked(run):
            yield run
        return
    run.root.mkdir(parents=True, exist_ok=True)
    with Leases(run.leases) as leases:
        run = replace(run, shared=leases)
        with locked(run):
            end = time.monotonic() + DRIVER_WAIT_S
            while not leases.take(DRIVER):
                if time.monotonic() > end:
                    raise RunError(f"{root}: another driver is running in this folder; wait for it, or stop it")
                time.sleep(leases.times.poll_s)
            yield run

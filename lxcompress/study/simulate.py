"""Estimate how long a study takes on several GPUs: its tasks are scheduled with the times of a few real steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lxcompress.recipe import Cell, Recipe
from lxcompress.rundir import RunDir
from lxcompress.study.agreement import resolve_recipe
from lxcompress.study.plan import StudyPlan, training_length
from lxcompress.study.run import choose_cells, missing_runs
from lxcompress.study.schedule import SimulatedPool, run_tasks
from lxcompress.study.seed import dense_source
from lxcompress.study.tasks import StudyTask, is_done, list_tasks


@dataclass(frozen=True)
class ClusterEstimate:
    """The time of a study on `workers` GPUs or machines, each of which does one run at a time.

    `wall_s` is the time until the last run is done. `busy_s` is the sum of the times of all runs.
    """

    workers: int
    wall_s: float
    busy_s: float

    @property
    def utilisation(self) -> float:
        """Return the share of the time (0-1) in which a worker has a run to do."""
        return self.busy_s / (self.workers * self.wall_s) if self.wall_s else 1.0


def estimate_clusters(
    recipe: Recipe, root: Path, plan: StudyPlan, workers: Sequence[int], *, only: str = "*"
) -> list[ClusterEstimate]:
    """Return the estimate for each number of workers. `plan` has the times of a step and of a scoring."""
    recipe, run = resolve_recipe(recipe), RunDir(root)
    missing = missing_runs(recipe, choose_cells(recipe, only), run)
    tasks = [task for task in list_tasks(recipe, missing, run) if not is_done(run, task)]
    estimates = []
    for count in workers:
        pool = SimulatedPool(count, lambda task: estimate_task(task, recipe, plan))
        run_tasks(tasks, pool)
        estimates.append(ClusterEstimate(count, pool.now_s, pool.busy_s))
    return estimates


def estimate_task(task: StudyTask, recipe: Recipe, plan: StudyPlan) -> float:
    """Return the seconds of one task: its training, and its scorings of the validation questions."""
    if task.kind == "dense":
        if dense_source(recipe, task.seed) != task.seed:
            return 0.0
        length, scorings = training_length(task.seed), recipe.train.epochs + 1
    else:
        cell = task.cell
        assert cell is not None, "only dense runs have no cell"
        if task.kind == "first" and cell.method.first:
            cell = Cell(cell.method.first.method, cell.method.first.sparsity, cell.seed)
        length = training_length(cell, length=1 if task.kind == "round" else None)
        scorings = recipe.train.epochs + (2 if task.kind == "cell" else 0)
    return length * plan.steps_a_run * plan.step_s + scorings * plan.scoring_s

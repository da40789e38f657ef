"""StudyTask: a piece of a study that one process does, and the graph of what each task needs.

A dense run comes before everything of its seed. The first step of a compound comes before the tickets that are made of
it. A round of iterative-retrain comes before the next round, and the last round before its tickets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lxcompress.filenames import FIRST_FILE, MASK_FILE
from lxcompress.recipe import Cell, Recipe, dense_id
from lxcompress.records import is_whole
from lxcompress.rundir import RunDir, read_dense, read_result
from lxcompress.study.choose import sparsities_of
from lxcompress.study.seed import dense_source

StudyRun = int | Cell
"""a run: an int is the seed of a dense run, a Cell is a cell"""


@dataclass(frozen=True)
class StudyTask:
    """One task. `needs` are the ids of the tasks that must be done before.

    `cell` is the cell of a ticket; for a round or a first step, a cell that goes through it. For a round, `rounds` is
    how many rounds there are up to this one.
    """

    id: str
    kind: Literal["dense", "round", "first", "cell", "twin"]
    seed: int
    cell: Cell | None = None
    rounds: int = 0
    needs: tuple[str, ...] = ()

    @property
    def is_run(self) -> bool:
        """Return whether the task is a run of the study: a dense run or a cell."""
        return self.kind in ("dense", "cell")


def list_tasks(recipe: Recipe, missing: Sequence[StudyRun], run: RunDir) -> list[StudyTask]:
    """Return the tasks of the `missing` runs with all that they need, also what is done; needs come first."""
    tasks: dict[str, StudyTask] = {}
    for study_run in missing:
        seed = study_run.seed if isinstance(study_run, Cell) else study_run
        base = _add_dense(tasks, recipe, seed)
        if isinstance(study_run, Cell):
            base = _add_first(tasks, study_run, run, base)
            base = _add_rounds(tasks, study_run, run, base)
            tasks[study_run.id] = StudyTask(study_run.id, "cell", seed, study_run, needs=(base,))
    return list(tasks.values())


def twin_task(recipe: Recipe, cell: Cell) -> list[StudyTask]:
    """Return the tasks of the structured twin `cell`, whose dense run is done."""
    tasks: dict[str, StudyTask] = {}
    base = _add_dense(tasks, recipe, cell.seed)
    return [*tasks.values(), StudyTask(f"twin-{cell.id}", "twin", cell.seed, cell, needs=(base,))]


def is_done(run: RunDir, task: StudyTask) -> bool:
    """Return whether the last file of a task is there. Raises RunError for a record that was changed."""
    if task.kind == "dense":
        return read_dense(run, task.seed) is not None
    folder = folder_of(run, task)
    if task.kind == "round":
        return (folder / MASK_FILE).exists()
    if task.kind == "first":
        return is_whole(folder / FIRST_FILE)
    assert task.cell is not None
    return read_result(run.twins if task.kind == "twin" else run, task.cell) is not None


def folder_of(run: RunDir, task: StudyTask) -> Path:
    """Return the folder that a task writes to; a dense run also writes to the folder above it."""
    if task.kind == "dense":
        return run.dense(task.seed)
    cell = task.cell
    assert cell is not None
    if task.kind == "round":
        return run.round(task.seed, cell.method.id, sparsities_of(cell.method, cell.sparsity)[task.rounds - 1])
    if task.kind == "first":
        assert cell.method.first is not None
        return run.first(task.seed, cell.method.first.method.id)
    return (run.twins if task.kind == "twin" else run).ticket(cell)


def list_inputs(tasks: Iterable[StudyTask]) -> dict[str, tuple[StudyTask, ...]]:
    """Return the tasks that each task is built on, directly or not: id -> tasks, needs first as in `tasks`."""
    inputs: dict[str, tuple[StudyTask, ...]] = {}
    by_id: dict[str, StudyTask] = {}
    for task in tasks:
        found: dict[str, StudyTask] = {}
        for need in task.needs:
            found |= {other.id: other for other in (*inputs[need], by_id[need])}
        by_id[task.id], inputs[task.id] = task, tuple(found.values())
    return inputs


def _add_dense(tasks: dict[str, StudyTask], recipe: Recipe, seed: int) -> str:
    """Add the dense run of a seed, and the one that it is a copy of; return its id."""
    source = dense_source(recipe, seed)
    needs = () if source == seed else (_add_dense(tasks, recipe, source),)
    tasks.setdefault(dense_id(seed), StudyTask(dense_id(seed), "dense", seed, needs=needs))
    return dense_id(seed)


def _add_first(tasks: dict[str, StudyTask], cell: Cell, run: RunDir, base: str) -> str:
    """Add the first step of a compound and its rounds; return the id of what the cell needs next."""
    first = cell.method.first
    if first is None:
        return base
    step = Cell(first.method, first.sparsity, cell.seed)
    name = _name(run, run.first(cell.seed, first.method.id))
    if name not in tasks:
        needs = (_add_rounds(tasks, step, run, base),)
        tasks[name] = StudyTask(name, "first", cell.seed, cell, needs=needs)
    return name


def _add_rounds(tasks: dict[str, StudyTask], cell: Cell, run: RunDir, base: str) -> str:
    """Add the rounds that a cell goes through before its last training; return the id of the last, or `base`."""
    for index, sparsity in enumerate(sparsities_of(cell.method, cell.sparsity)[:-1]):
        name = _name(run, run.round(cell.seed, cell.method.id, sparsity))
        if name not in tasks:
            tasks[name] = StudyTask(name, "round", cell.seed, cell, index + 1, (base,))
        base = name
    return base


def _name(run: RunDir, folder: Path) -> str:
    """Return the name of a folder of the run, as its locks are named."""
    return "-".join(folder.relative_to(run.root).parts)

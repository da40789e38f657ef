"""How far a study is: the state of every dense run and cell, and an estimate of the time left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from lxcompress.analysis.summary import GroupKey
from lxcompress.analysis.usage import UsageTotals, own_runs, total_usage, usage_json
from lxcompress.recipe import dense_id
from lxcompress.rundir import Run
from lxcompress.text import read_text

State = Literal["done", "running", "interrupted", "missing"]


@dataclass(frozen=True)
class RunStatus:
    """One dense run or cell; `accuracy` and `duration_s` once it is done."""

    id: str
    kind: Literal["dense", "cell"]
    group: str
    seed: int
    state: State
    accuracy: float | None
    duration_s: float | None


@dataclass(frozen=True)
class StudyProgress:
    """Every step in the order of the recipe; `left_s` and `taken` are None while nothing is finished."""

    is_busy: bool
    steps: tuple[RunStatus, ...]
    left_s: float | None
    taken: UsageTotals | None

    @property
    def counts(self) -> Counter[State]:
        return Counter(step.state for step in self.steps)

    @property
    def is_complete(self) -> bool:
        return all(step.state == "done" for step in self.steps)


def study_progress(run: Run, *, busy: bool) -> StudyProgress:
    """The state of each step of `run`; `busy` is whether a study is at work there now."""
    current = _current(run, busy=busy)
    steps = [_dense_step(run, seed, current) for seed in run.recipe.seeds]
    for cell in run.recipe.cells():
        result = run.results.get(cell.id)
        steps.append(
            RunStatus(
                id=cell.id,
                kind="cell",
                group=GroupKey(cell.method, cell.sparsity).label,
                seed=cell.seed,
                state="done" if result else _unfinished(run.dir.ticket(cell), is_current=current == cell.id),
                accuracy=result.retrained.accuracy if result else None,
                duration_s=result.duration_s if result else None,
            )
        )
    done = [*own_runs(run.recipe, run.dense.values()), *run.results.values()]
    return StudyProgress(
        is_busy=busy, steps=tuple(steps), left_s=_time_left(steps), taken=total_usage(done) if done else None
    )


def study_progress_json(found: StudyProgress) -> dict[str, Any]:
    """The progress as plain JSON values."""
    return {
        "version": 1,
        "busy": found.is_busy,
        "complete": found.is_complete,
        "counts": {state: found.counts[state] for state in ("done", "running", "interrupted", "missing")},
        "left_s": found.left_s,
        "taken": usage_json(found.taken) if found.taken else None,
        "steps": [vars(step) for step in found.steps],
    }


def _dense_step(run: Run, seed: int, current: str | None) -> RunStatus:
    dense = run.dense.get(seed)
    return RunStatus(
        id=dense_id(seed),
        kind="dense",
        group="dense",
        seed=seed,
        state="done" if dense else _unfinished(run.dir.dense(seed), is_current=current == dense_id(seed)),
        accuracy=dense.trained.accuracy if dense else None,
        duration_s=dense.duration_s if dense else None,
    )


def _unfinished(folder: Path, *, is_current: bool) -> State:
    if is_current:
        return "running"
    return "interrupted" if folder.exists() else "missing"


def _current(run: Run, *, busy: bool) -> str | None:
    """The id of the run that a study is at now, None while none is at work."""
    try:
        return read_text(run.dir.current) if busy else None
    except (FileNotFoundError, ValueError):  # none is written yet, or it is being written
        return None


def _time_left(steps: Sequence[RunStatus]) -> float | None:
    """The finished steps' mean duration for each one left; one under way counts as whole: how far it is is not kept.

    Methods differ in what they train, so a cell takes the time of the same cell of other seeds, once one is finished.
    """
    # A cell's retraining has the dense run's budget, so each stands in for the other until it is known.
    dense = _mean_duration(step for step in steps if step.kind == "dense")
    cells = _mean_duration(step for step in steps if step.kind == "cell")
    others = {"dense": dense if dense is not None else cells, "cell": cells if cells is not None else dense}
    by_group = {group: _mean_duration(found) for group, found in _grouped(steps).items()}
    left = [step for step in steps if step.state != "done"]
    estimates = [others[step.kind] if (same := by_group[step.group]) is None else same for step in left]
    known = [each for each in estimates if each is not None]
    return sum(known) if len(known) == len(left) else None


def _grouped(steps: Iterable[RunStatus]) -> dict[str, list[RunStatus]]:
    groups: dict[str, list[RunStatus]] = {}
    for step in steps:
        groups.setdefault(step.group, []).append(step)
    return groups


def _mean_duration(steps: Iterable[RunStatus]) -> float | None:
    durations = [step.duration_s for step in steps if step.duration_s is not None]
    return fmean(durations) if durations else None

"""The progress of a study: the state of every dense run and every cell, and an estimate of the time left.

A cell is the run of one method, one sparsity and one seed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from lxcompress.analysis.groups import GroupKey
from lxcompress.analysis.usage import UsageTotals, own_runs, total_usage, usage_json
from lxcompress.leases import PRESENT, LiveClaim, list_live
from lxcompress.recipe import dense_id
from lxcompress.records import Dense, Result
from lxcompress.rundir import Run
from lxcompress.text import read_text

State = Literal["done", "running", "interrupted", "missing"]


@dataclass(frozen=True)
class RunStatus:
    """The state of one dense run or cell. `accuracy` (0-1) and `duration_s` are known only when it is done."""

    id: str
    kind: Literal["dense", "cell"]
    group: str
    seed: int
    state: State
    accuracy: float | None
    duration_s: float | None


@dataclass(frozen=True)
class WorkerStatus:
    """A process that works on a study that several machines share: its node, and the runs and rounds it is doing.

    `age_s` is the time since its last heartbeat, in seconds.
    """

    node: str
    pid: int
    doing: tuple[str, ...]
    age_s: float


@dataclass(frozen=True)
class StudyProgress:
    """The state of every run, in the order of the recipe.

    `is_busy` says whether a process works on the study now. `left_s` is the estimated time left in seconds, if as many
    processes go on as work now. `left_s` and `usage` are None while no run is finished. `workers` are the processes of
    a study that several machines share.
    """

    is_busy: bool
    runs: tuple[RunStatus, ...]
    left_s: float | None
    usage: UsageTotals | None
    workers: tuple[WorkerStatus, ...] = ()

    @property
    def counts(self) -> Counter[State]:
        """The number of runs in each state."""
        return Counter(run.state for run in self.runs)

    @property
    def is_complete(self) -> bool:
        """Return whether every run is done."""
        return all(run.state == "done" for run in self.runs)


def study_progress(run: Run, *, busy: bool) -> StudyProgress:
    """Return the state of each run of a study; `busy` says whether a process works on the study now."""
    workers = _list_workers(list_live(run.dir.leases)) + _read_workers(run.dir.workers) if busy else ()
    current = _current_ids(run, busy=busy) | {name for worker in workers for name in worker.doing}
    statuses = [_dense_status(run, seed, current) for seed in run.recipe.seeds]
    for cell in run.recipe.cells():
        result = run.results.get(cell.id)
        statuses.append(
            RunStatus(
                id=cell.id,
                kind="cell",
                group=GroupKey(cell.method, cell.sparsity).label,
                seed=cell.seed,
                state="done" if result else _unfinished(run.dir.ticket(cell), is_current=cell.id in current),
                accuracy=result.retrained.accuracy if result else None,
                duration_s=result.duration_s if result else None,
            )
        )
    done: list[Dense | Result] = [*own_runs(run.recipe, run.dense.values()), *run.results.values()]
    usage = total_usage(done) if done else None
    left_s = _time_left(statuses)
    if left_s is not None:
        left_s /= max(1, sum(worker.doing != ("driver",) for worker in workers))
    return StudyProgress(is_busy=busy, runs=tuple(statuses), left_s=left_s, usage=usage, workers=workers)


def study_progress_json(progress: StudyProgress) -> dict[str, Any]:
    """Return the progress as plain JSON values."""
    return {
        "version": 1,
        "busy": progress.is_busy,
        "complete": progress.is_complete,
        "counts": {state: progress.counts[state] for state in ("done", "running", "interrupted", "missing")},
        "left_s": progress.left_s,
        "taken": usage_json(progress.usage) if progress.usage else None,
        "workers": [vars(worker) for worker in progress.workers],
        "steps": [vars(run) for run in progress.runs],
    }


def _list_workers(live: Iterable[LiveClaim]) -> tuple[WorkerStatus, ...]:
    """Return the processes that have the leases `live`, sorted by node."""
    by_process: dict[tuple[str, int], list[LiveClaim]] = {}
    for claim in live:
        by_process.setdefault((claim.holder.host, claim.holder.pid), []).append(claim)
    return tuple(
        WorkerStatus(
            node=node,
            pid=pid,
            doing=tuple(claim.name for claim in claims if not claim.name.startswith(PRESENT)),
            age_s=round(min(claim.age_s for claim in claims), 1),
        )
        for (node, pid), claims in sorted(by_process.items())
    )


def _read_workers(path: Path) -> tuple[WorkerStatus, ...]:
    """Return the processes on nodes that do not share the run folder, as the driver wrote them to `path`."""
    try:
        tree = json.loads(read_text(path))
        return tuple(WorkerStatus(item["node"], item["pid"], (item["doing"],), 0.0) for item in tree)
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # not written yet, or being written
        return ()


def _dense_status(run: Run, seed: int, current: Set[str]) -> RunStatus:
    """Return the state of the dense run of `seed`; `current` are the ids of the runs that processes work on now."""
    dense = run.dense.get(seed)
    name = dense_id(seed)
    return RunStatus(
        id=name,
        kind="dense",
        group="dense",
        seed=seed,
        state="done" if dense else _unfinished(run.dir.dense(seed), is_current=name in current),
        accuracy=dense.trained.accuracy if dense else None,
        duration_s=dense.duration_s if dense else None,
    )


def _unfinished(folder: Path, *, is_current: bool) -> State:
    """Return the state of a run that is not done; a folder that exists is what an interrupted run left."""
    if is_current:
        return "running"
    return "interrupted" if folder.exists() else "missing"


def _current_ids(run: Run, *, busy: bool) -> Set[str]:
    """Return the id of the run that a study on one machine works on now, as a set; an empty set if there is none."""
    try:
        return {read_text(run.dir.current)} if busy else set()
    except (FileNotFoundError, ValueError):  # the file is not written yet, or is being written
        return set()


def _time_left(statuses: Sequence[RunStatus]) -> float | None:
    """Return the estimated seconds for all unfinished runs; a run in progress counts in full. None if unknown.

    Methods differ in their training time, so a cell is expected to take as long as finished cells of the same method
    and sparsity. If there are none, it takes the mean time of all finished cells.
    """
    # A cell retrains for as many steps as the dense run, so the known one of the two times stands for the other.
    dense = _mean_duration(status for status in statuses if status.kind == "dense")
    cells = _mean_duration(status for status in statuses if status.kind == "cell")
    others = {"dense": dense if dense is not None else cells, "cell": cells if cells is not None else dense}
    by_group = {group: _mean_duration(found) for group, found in _grouped(statuses).items()}
    left = [status for status in statuses if status.state != "done"]
    estimates = [others[status.kind] if (same := by_group[status.group]) is None else same for status in left]
    known = [estimate for estimate in estimates if estimate is not None]
    return sum(known) if len(known) == len(left) else None


def _grouped(statuses: Iterable[RunStatus]) -> dict[str, list[RunStatus]]:
    """Return the states of the runs by their group: the dense runs, or one method and sparsity."""
    groups: dict[str, list[RunStatus]] = {}
    for status in statuses:
        groups.setdefault(status.group, []).append(status)
    return groups


def _mean_duration(statuses: Iterable[RunStatus]) -> float | None:
    """Return the mean time of the finished runs in seconds; None if none is finished."""
    durations = [status.duration_s for status in statuses if status.duration_s is not None]
    return fmean(durations) if durations else None

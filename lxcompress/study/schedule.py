"""Schedule tasks on a pool of workers: as soon as what they need is done, the longest chains first, few at a time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lxcompress.study.tasks import StudyTask


@dataclass(frozen=True)
class TaskOutcome:
    """The end of one attempt at a task.

    `refusal` is an error that the user must fix: another attempt would fail too. `failure` is the end of a worker or a
    node, or a fault: another attempt may succeed. Without both, the task is done. `files` is what the pool returned of
    its files, if they are not in a shared folder.
    """

    id: str
    node: str = ""
    accuracy: float | None = None
    duration_s: float = 0.0
    remarks: tuple[str, ...] = ()
    refusal: str | None = None
    failure: str | None = None
    files: Any = None


class TaskPool(Protocol):
    """The place where tasks are done: processes of this machine or of a cluster."""

    def capacity(self) -> int:
        """Return how many tasks the pool takes at a time, those that wait for a worker included."""

    def submit(self, task: StudyTask) -> None:
        """Give a task to the pool."""

    def wait(self) -> Sequence[TaskOutcome]:
        """Wait until tasks end; return their outcomes, at least one."""


@dataclass
class ScheduleResult:
    """How many tasks were done, which were not and why, and how many attempts failed."""

    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    retries: int = 0


@dataclass(frozen=True)
class AttemptReporter:
    """What is called while tasks are scheduled: `done` when a task is done, `retry` when it is tried again."""

    done: Callable[[StudyTask, TaskOutcome], None] = lambda task, outcome: None
    retry: Callable[[StudyTask, TaskOutcome, int], None] = lambda task, outcome, attempt: None


def run_tasks(
    tasks: Sequence[StudyTask], pool: TaskPool, *, max_retries: int = 0, report: AttemptReporter | None = None
) -> ScheduleResult:
    """Do the tasks, each after those of its needs that are among `tasks`; return what was done.

    A task whose attempt failed is tried again, at most `max_retries` times. A task that is not done keeps the tasks
    that need it from being done, and no others.
    """
    report = report or AttemptReporter()
    by_id = {task.id: task for task in tasks}
    needs = {task.id: sum(need in by_id for need in task.needs) for task in tasks}
    after: dict[str, list[str]] = {name: [] for name in by_id}
    for task in tasks:
        for need in task.needs:
            if need in after:
                after[need].append(task.id)
    below = _count_below(tasks, after)
    order = itertools.count()
    ready = [(-below[name], next(order), name) for name, count in needs.items() if not count]
    heapq.heapify(ready)
    attempts: dict[str, int] = {}
    result, running = ScheduleResult(), 0
    while ready or running:
        while ready and running < pool.capacity():
            pool.submit(by_id[heapq.heappop(ready)[2]])
            running += 1
        for outcome in pool.wait():
            running -= 1
            task = by_id[outcome.id]
            if outcome.failure is not None and attempts.get(task.id, 0) < max_retries:
                attempts[task.id] = attempts.get(task.id, 0) + 1
                result.retries += 1
                report.retry(task, outcome, attempts[task.id])
                heapq.heappush(ready, (-below[task.id], next(order), task.id))
            elif outcome.failure is not None or outcome.refusal is not None:
                _fail(task.id, outcome.refusal or str(outcome.failure), after, result)
            else:
                report.done(task, outcome)
                result.done += 1
                for name in after[task.id]:
                    needs[name] -= 1
                    if not needs[name]:
                        heapq.heappush(ready, (-below[name], next(order), name))
    return result


def _count_below(tasks: Sequence[StudyTask], after: dict[str, list[str]]) -> dict[str, int]:
    """Return the number of tasks in the longest chain that begins with a task: id -> number. Needs come first."""
    below: dict[str, int] = {}
    for task in reversed(tasks):
        below[task.id] = 1 + max((below[name] for name in after[task.id]), default=0)
    return below


def _fail(name: str, why: str, after: dict[str, list[str]], result: ScheduleResult) -> None:
    """Note that a task is not done, and neither are those that need it."""
    result.failed[name] = why
    for other in after[name]:
        if other not in result.failed:
            _fail(other, f"needs {name}, which failed: {why}" if not why.startswith("needs ") else why, after, result)


@dataclass
class SimulatedPool:
    """A pool of `workers` workers that need no time: `now_s` is the simulated time at which the last task ended."""

    workers: int
    duration_s: Callable[[StudyTask], float]
    now_s: float = 0.0
    busy_s: float = 0.0
    _ends: list[tuple[float, str]] = field(default_factory=list)

    def capacity(self) -> int:
        """Return the number of workers."""
        return self.workers

    def submit(self, task: StudyTask) -> None:
        """Begin a task now."""
        duration_s = self.duration_s(task)
        self.busy_s += duration_s
        heapq.heappush(self._ends, (self.now_s + duration_s, task.id))

    def wait(self) -> Sequence[TaskOutcome]:
        """Let the time pass until the next task ends."""
        self.now_s, name = heapq.heappop(self._ends)
        return [TaskOutcome(name)]

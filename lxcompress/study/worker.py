"""Workers: the processes that share the runs of a study, and their claims on runs.

Under `accelerate launch` (or torchrun) every process does whole runs, one at a time. So the results of a run do not
depend on how many GPUs there are, and GPUs exchange nothing (docs/decisions/0006). A process claims a run by a lock in
the run folder. When a process ends, its locks are released.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from filelock import FileLock, Timeout

from lxcompress.errors import RunError
from lxcompress.rundir import RunDir


@dataclass(frozen=True)
class StudyWorker:
    """One process of a study: number `rank` of `count`; `gpu` is the index of its GPU, or None for any GPU."""

    rank: int = 0
    count: int = 1
    gpu: int | None = None

    @property
    def leads(self) -> bool:
        """Return whether this process leads: it alone writes the files of the whole study."""
        return self.rank == 0


def this_worker() -> StudyWorker:
    """Return the worker that this process is, from the launcher's environment variables.

    Raises RunError if the variables contradict each other or are not numbers.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if "WORLD_SIZE" not in os.environ:
        return StudyWorker()
    try:
        rank, count, local_rank = (int(os.environ.get(name, "0")) for name in names)
    except ValueError:
        rank, count, local_rank = -1, 0, 0
    if not 0 <= rank < count:
        given = ", ".join(f"{name}={os.environ.get(name)}" for name in names)
        raise RunError(
            f"{given}: expected numbers that fit together; start with: accelerate launch -m lxcompress study"
        )
    return StudyWorker(rank, count, local_rank if count > 1 else None)


@contextlib.contextmanager
def claimed(run: RunDir, what: str, worker: StudyWorker) -> Iterator[bool]:
    """Claim the run `what` until the block ends; yield whether this worker got it. A single worker always gets it."""
    if worker.count == 1:
        yield True
        return
    run.claims.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run.claims / f"{what}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()

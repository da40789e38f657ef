"""Workers: the processes that share the runs of a study, and their claims on runs.

Every process does whole runs, one at a time. So the results of a run do not depend on how many GPUs there are, and GPUs
exchange nothing (docs/decisions/0006). There are two kinds of shared studies:

- Under `accelerate launch` (or torchrun) the processes are started together on one machine. A process claims a run by a
  file lock in the run folder. When a process ends, its locks are released.
- Processes that join a study (`--join`) may come and go on any machine that has the run folder. A process claims a run
  by a lease (leases.py).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from lxcompress.errors import RunError
from lxcompress.leases import PRESENT, Leases, refresh
from lxcompress.output import command_line
from lxcompress.rundir import RunDir, is_locked


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
    if os.environ.get("LOCAL_WORLD_SIZE", str(count)) != str(count):
        raise RunError(
            f"LOCAL_WORLD_SIZE={os.environ['LOCAL_WORLD_SIZE']} of WORLD_SIZE={count}: these processes run on several "
            "machines, where file locks may not work; start lxcompress study --join on each machine instead"
        )
    if not 0 <= rank < count:
        given = ", ".join(f"{name}={os.environ.get(name)}" for name in names)
        raise RunError(
            f"{given}: expected numbers that fit together; start with: accelerate launch -m lxcompress study"
        )
    return StudyWorker(rank, count, local_rank if count > 1 else None)


def shares_runs(run: RunDir, worker: StudyWorker) -> bool:
    """Return whether other processes do runs of the same study."""
    return worker.count > 1 or run.shared is not None


@contextlib.contextmanager
def joined(root: Path) -> Iterator[Leases]:
    """Work in the run folder `root` beside processes of other machines; yield the leases of this process.

    While the block runs, a lease shows `lxcompress status` that this process is there. Raises RunError if a study that
    does not share the folder is running there.
    """
    run = RunDir(root)
    run.root.mkdir(parents=True, exist_ok=True)
    if is_locked(run):
        raise RunError(
            f"{root}: a study that was started without --join is running in this folder; wait for it "
            f"({command_line('status', root)}), or stop it and start it again with --join"
        )
    name = f"{PRESENT}{socket.gethostname()}-{os.getpid()}"
    with Leases(run.leases) as leases:
        leases.take(name)
        try:
            yield leases
        finally:
            leases.release(name, forget=True)


@contextlib.contextmanager
def claimed(run: RunDir, what: str, worker: StudyWorker, is_finished: Callable[[], bool]) -> Iterator[bool]:
    """Claim the run `what` until the block ends; yield whether this worker got it. A single worker always gets it.

    `is_finished` says whether the run is done; the claims of a run that is done are removed.
    """
    if run.shared is not None:
        if not run.shared.take(what):
            yield False
            return
        try:
            refresh(run.root / run.drawn)
            yield True
        finally:
            run.shared.release(what, forget=is_finished())
        return
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

"""Which cores a measurement runs on, and how busy others keep them."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

# Systems count processor time in ticks of 10 ms or more: over a shorter span the share would be mostly rounding.
_TOO_SHORT_S = 0.5
# Linux: the clock of a thread's processor time is named by the complement of its id and these bits (clock_getres(2)).
_THREAD_CLOCK = 0b110
# A thread that only waits, or hands work out, takes far less than one that computes.
_BUSY_SHARE = 0.1


def choose_cores(usable: tuple[int, ...], threads: int) -> tuple[int, ...]:
    """`threads` of the `usable` cores, fewer if there are not so many: one of each physical core before its second.

    Goes from the last core down, because the first one serves most interrupts.
    """
    met: Counter[str] = Counter()
    turn: dict[int, int] = {}
    for core in sorted(usable, reverse=True):
        siblings = _siblings(core)
        turn[core] = met[siblings]
        met[siblings] += 1
    return tuple(sorted(usable, key=lambda core: (turn[core], -core))[:threads])


def pin_to(cores: tuple[int, ...]) -> bool:
    """Holds this process, and the threads it starts from now on, to `cores`; False where the system cannot."""
    process = psutil.Process()
    if not hasattr(process, "cpu_affinity"):
        return False
    try:
        process.cpu_affinity(list(cores))
    except (psutil.Error, OSError, ValueError):
        return False
    return True


def cores_held() -> tuple[int, ...] | None:
    """The cores that any thread of this process may run on now; None where the system does not tell."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    held: set[int] = set()
    for thread in _threads():
        try:
            held |= os.sched_getaffinity(thread)
        except ProcessLookupError:
            continue  # it ended since it was listed
    return tuple(sorted(held))


def thread_seconds() -> dict[int, float] | None:
    """Processor time that each thread of this process has taken; None where the system does not tell."""
    threads = _threads()
    taken: dict[int, float] = {}
    for thread in threads:
        try:
            taken[thread] = time.clock_gettime((~thread << 3) | _THREAD_CLOCK)
        except OSError:
            continue  # as above
    return taken or None


def count_busy(before: dict[int, float] | None, after: dict[int, float] | None) -> int | None:
    """How many threads took at least a tenth of what the busiest took between two readings; None if not told."""
    if before is None or after is None:
        return None
    taken = [seconds - before.get(thread, 0.0) for thread, seconds in after.items()]
    most = max(taken)
    return sum(each >= _BUSY_SHARE * most for each in taken) if most > 0 else None


def _threads() -> list[int]:
    """The ids of this process's threads; none where the system does not list them."""
    folder = Path("/proc/self/task")
    return [int(each.name) for each in folder.iterdir()] if folder.is_dir() else []


@dataclass(frozen=True)
class Busy:
    """Processor time of the whole machine since it started, seconds: spent at work, and in all."""

    work_s: float
    all_s: float


def read_busy() -> Busy:
    """The machine's processor time up to now."""
    times = psutil.cpu_times()._asdict()
    # Linux counts guest time within user time already.
    counted = {name: value for name, value in times.items() if name not in ("guest", "guest_nice")}
    rest = sum(counted.get(name, 0.0) for name in ("idle", "iowait"))
    return Busy(work_s=sum(counted.values()) - rest, all_s=sum(counted.values()))


def share_of_others(before: Busy, after: Busy, *, own_s: float) -> float:
    """The share of all cores, 0-1, that other processes had between two readings; 0 if those are too close."""
    span = after.all_s - before.all_s
    if span < _TOO_SHORT_S:
        return 0.0
    return min(1.0, max(0.0, (after.work_s - before.work_s - own_s) / span))


def _siblings(core: int) -> str:
    """What names the physical core of a logical one; the logical core itself where the system does not tell."""
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return f"core {core}"

"""Choose the cores of a measurement, pin processes to them, and read how busy they are."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

# Systems count processor time in ticks of 10 ms or more: over a shorter span, a share is mostly rounding error.
_TOO_SHORT_S = 0.5
# Linux: the clock of a thread's processor time is named by the complement of its id and these bits (clock_getres(2)).
_THREAD_CLOCK = 0b110
# A thread that only waits or distributes work takes a far smaller share than one that computes.
_BUSY_SHARE = 0.1


def choose_cores(usable: tuple[int, ...], threads: int) -> tuple[int, ...]:
    """Return `threads` of the `usable` cores, or all if there are fewer.

    One logical core of each physical core comes before a second one of any. The last core comes first, because the
    first core serves most interrupts.
    """
    seen: Counter[str] = Counter()
    order: dict[int, int] = {}
    for core in sorted(usable, reverse=True):
        siblings = _siblings(core)
        order[core] = seen[siblings]
        seen[siblings] += 1
    return tuple(sorted(usable, key=lambda core: (order[core], -core))[:threads])


def pin_to(cores: tuple[int, ...]) -> bool:
    """Pin this process, and the threads it will start, to `cores`; return whether the system could."""
    process = psutil.Process()
    if not hasattr(process, "cpu_affinity"):
        return False
    try:
        process.cpu_affinity(list(cores))
    except (psutil.Error, OSError, ValueError):
        return False
    return True


def cores_held() -> tuple[int, ...] | None:
    """Return the cores that any thread of this process may run on; None where the system does not say."""
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
    """Return the processor time of each thread of this process, by its id; None where the system does not say."""
    threads = _threads()
    seconds: dict[int, float] = {}
    for thread in threads:
        try:
            seconds[thread] = time.clock_gettime((~thread << 3) | _THREAD_CLOCK)
        except OSError:
            continue  # it ended since it was listed
    return seconds or None


def count_busy(before: dict[int, float] | None, after: dict[int, float] | None) -> int | None:
    """Return how many threads took at least a tenth of the busiest thread's time between two readings.

    None if a reading is missing, or if no thread took any time.
    """
    if before is None or after is None:
        return None
    taken = [seconds - before.get(thread, 0.0) for thread, seconds in after.items()]
    most = max(taken)
    return sum(thread_s >= _BUSY_SHARE * most for thread_s in taken) if most > 0 else None


def _threads() -> list[int]:
    """Return the ids of this process's threads; none where the system does not list them."""
    folder = Path("/proc/self/task")
    return [int(entry.name) for entry in folder.iterdir()] if folder.is_dir() else []


@dataclass(frozen=True)
class ProcessorTime:
    """Processor time of the whole machine since it started, in seconds: the busy part, and all of it."""

    busy_s: float
    all_s: float


def read_processor_time() -> ProcessorTime:
    """Return the machine's processor time up to now."""
    times = psutil.cpu_times()._asdict()
    # Linux counts guest time within user time already.
    counted = {name: value for name, value in times.items() if name not in ("guest", "guest_nice")}
    rest = sum(counted.get(name, 0.0) for name in ("idle", "iowait"))
    return ProcessorTime(busy_s=sum(counted.values()) - rest, all_s=sum(counted.values()))


def share_of_others(before: ProcessorTime, after: ProcessorTime, *, own_s: float) -> float:
    """Return the share of all cores, 0-1, that other processes took between two readings; 0 if those are too close."""
    span = after.all_s - before.all_s
    if span < _TOO_SHORT_S:
        return 0.0
    return min(1.0, max(0.0, (after.busy_s - before.busy_s - own_s) / span))


def _siblings(core: int) -> str:
    """Return a name of the physical core of a logical core; the logical core's own where the system does not say."""
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return f"core {core}"

"""Which cores a measurement runs on, and how busy others keep them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

# Systems count processor time in ticks of 10 ms or more: over a shorter span the share would be mostly rounding.
_TOO_SHORT_S = 0.5


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

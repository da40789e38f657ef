"""Timed runs."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable


def time_runs(run: Callable[[], object], runs: int) -> list[float]:
    """Seconds that each of `runs` calls of `run` took, in order; the garbage collector rests meanwhile."""
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        return [time_once(run) for _ in range(runs)]
    finally:
        if was_collecting:
            gc.enable()


def time_once(run: Callable[[], object]) -> float:
    """Seconds that one call of `run` took."""
    start = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - start) / 1e9

"""Time runs with the system's finest clock."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

Question = TypeVar("Question")


def time_runs(run: Callable[[Question], object], questions: Iterable[Question]) -> list[float]:
    """Return the seconds that `run` took for each question, in order, with Python's garbage collector off."""
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        return [time_once(run, question) for question in questions]
    finally:
        if was_collecting:
            gc.enable()


def time_once(run: Callable[[Question], object], question: Question) -> float:
    """Return the seconds that one call of `run` took."""
    start = time.perf_counter_ns()
    run(question)
    return (time.perf_counter_ns() - start) / 1e9

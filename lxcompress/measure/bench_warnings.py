"""Warnings about a measurement: why its numbers may mislead."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lxcompress.stats import percentiles, ratio

FEW_RUNS = 30
# A quiet machine stays far below each limit. The smallest one is a difference that a reader would see in a table.
WIDE_SPREAD = 0.10
LONG_TAIL = 1.5
DRIFT = 0.10
BUSY = 0.10
FULL_MEMORY = 0.8
REPEAT = "close other programs and repeat"
DO_NOT_COMPARE = "do not compare it with others"


def sample_warnings(values: Sequence[float]) -> list[str]:
    """Return warnings about samples, in the order of their measurement; none if the samples are as expected."""
    summary = percentiles(values)
    warnings = []
    if len(values) < FEW_RUNS:
        warnings.append(f"only {len(values)} runs: give --runs {FEW_RUNS} or more")
    if summary.spread > WIDE_SPREAD:
        warnings.append(f"timings vary: the IQR is {100 * summary.spread:.0f} % of the median; {REPEAT}")
    if ratio(summary.p90, summary.p50) > LONG_TAIL:
        warnings.append(f"long tail: p90 is {ratio(summary.p90, summary.p50):.2g} times p50; {REPEAT}")
    third = len(values) // 3
    if third and abs(change := _change(values[:third], values[-third:])) > DRIFT:
        how = "slower" if change > 0 else "faster"
        warnings.append(f"drift: the last third of the runs was {100 * abs(change):.0f} % {how}; wait and repeat")
    return warnings


def condition_warnings(
    *, threads: int, cores: int, is_pinned: bool, others: float, held_bytes: int, memory_bytes: int
) -> list[str]:
    """Return warnings about the conditions of a measurement.

    `others` is the share of the processor, 0-1, that other programs took; `held_bytes` is the peak memory of all
    workers.
    """
    warnings = []
    if threads > cores:
        warnings.append(f"{threads} threads share {cores} cores: ask for --threads {cores} or fewer")
    if not is_pinned:
        warnings.append("not pinned: this system cannot pin a process to cores; compare with caution")
    if others > BUSY:
        warnings.append(f"busy machine: other programs took {100 * others:.0f} % of the processor; {REPEAT}")
    if held_bytes > FULL_MEMORY * memory_bytes:
        warnings.append("memory nearly full: measure fewer artifacts at a time")
    return warnings


def process_warnings(
    *,
    threads: int,
    busy_threads: int | None,
    cores: Sequence[int],
    cores_held: Sequence[int] | None,
    resident: float | None,
    is_cold: bool,
) -> list[str]:
    """Return warnings about one measured process, if it did not run as requested.

    `busy_threads` is the number of its threads that computed, `cores_held` the cores that it could run on after the
    warm-up; both are None where the system does not say. `resident` is the share of its files, 0-1, that stayed in
    memory before a cold load.
    """
    warnings = []
    if busy_threads is not None and busy_threads > threads:
        warnings.append(
            f"{busy_threads} of its threads computed, not {threads}: its runtime ignores --threads; {DO_NOT_COMPARE}"
        )
    others = sorted(set(cores_held or ()) - set(cores))
    if others:
        warnings.append(
            f"outside its cores: its runtime may also run on core {', '.join(map(str, others))}; {DO_NOT_COMPARE}"
        )
    if not is_cold:
        reason = "this system cannot drop files from memory"
        if resident is not None:
            reason = f"{100 * resident:.0f} % of its files stayed in memory"
        warnings.append(f"no cold load: {reason}, so its cold start is not known")
    return warnings


def _change(first: Sequence[float], last: Sequence[float]) -> float:
    """Return the relative change of the median from `first` to `last`."""
    before, after = float(np.median(first)), float(np.median(last))
    return ratio(after - before, before)

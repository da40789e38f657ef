"""Warnings about a measurement: why its numbers may mislead."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lxcompress.stats import percentiles, ratio

FEW_RUNS = 30
# A quiet machine stays well within each of these; the least of them is what a reader would see in a table.
WIDE_SPREAD = 0.10
LONG_TAIL = 1.5
DRIFT = 0.10
BUSY = 0.10
FULL_MEMORY = 0.8
REPEAT = "close other programs and repeat"
UNLIKE = "do not compare it with others"


def sample_warnings(values: Sequence[float]) -> list[str]:
    """Why the samples, in the order in which they were measured, may mislead; empty if nothing shows."""
    summary = percentiles(values)
    doubts = []
    if len(values) < FEW_RUNS:
        doubts.append(f"only {len(values)} runs: give --runs {FEW_RUNS} or more")
    if summary.spread > WIDE_SPREAD:
        doubts.append(f"timings vary: the IQR is {100 * summary.spread:.0f} % of the median; {REPEAT}")
    if ratio(summary.p90, summary.p50) > LONG_TAIL:
        doubts.append(f"long tail: p90 is {ratio(summary.p90, summary.p50):.2g} times p50; {REPEAT}")
    third = len(values) // 3
    if third and abs(change := _change(values[:third], values[-third:])) > DRIFT:
        how = "slower" if change > 0 else "faster"
        doubts.append(f"drift: the last third of the runs was {100 * abs(change):.0f} % {how}; wait and repeat")
    return doubts


def condition_warnings(
    *, threads: int, cores: int, is_pinned: bool, others: float, held_bytes: int, memory_bytes: int
) -> list[str]:
    """Why the conditions of a measurement may mislead.

    `others` is the share of the processor, 0-1, that other programs took; `held_bytes` the peak memory of all workers.
    """
    doubts = []
    if threads > cores:
        doubts.append(f"{threads} threads share {cores} cores: ask for --threads {cores} or fewer")
    if not is_pinned:
        doubts.append("not pinned: this system does not hold a process to its cores; compare with caution")
    if others > BUSY:
        doubts.append(f"busy machine: other programs took {100 * others:.0f} % of the processor; {REPEAT}")
    if held_bytes > FULL_MEMORY * memory_bytes:
        doubts.append("memory nearly full: measure fewer artifacts at a time")
    return doubts


def process_warnings(
    *,
    threads: int,
    busy_threads: int | None,
    cores: Sequence[int],
    cores_held: Sequence[int] | None,
    resident: float | None,
    is_cold: bool,
) -> list[str]:
    """Why one measured process may not have run as it was asked to.

    `busy_threads` took processor time, `cores_held` are those it could run on, read back after it was warm; both None
    where the system does not tell. `resident` is the share of its files, 0-1, that stayed in memory before a cold load.
    """
    doubts = []
    if busy_threads is not None and busy_threads > threads:
        doubts.append(
            f"{busy_threads} of its threads computed, not {threads}: its runtime does not keep to --threads; {UNLIKE}"
        )
    strayed = sorted(set(cores_held or ()) - set(cores))
    if strayed:
        doubts.append(f"left its cores: its runtime may also run on core {', '.join(map(str, strayed))}; {UNLIKE}")
    if not is_cold:
        kept = "this system lets no file go"
        if resident is not None:
            kept = f"{100 * resident:.0f} % of its files stayed in memory"
        doubts.append(f"no cold load: {kept}, so its cold start is not known")
    return doubts


def _change(first: Sequence[float], last: Sequence[float]) -> float:
    """How much greater the median of `last` is than that of `first`, as a fraction of it."""
    before, after = float(np.median(first)), float(np.median(last))
    return ratio(after - before, before)

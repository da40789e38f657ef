"""What a study took: time, and where a GPU counts them, its hours, memory, utilisation and energy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lxcompress.recipe import Recipe
from lxcompress.records import Dense, Result
from lxcompress.units import duration, energy, percent, significant, size_text

COUNTED_SHARE = 0.98
"""A run whose GPU was watched for less of its time went on where an earlier process had stopped, uncounted."""


@dataclass(frozen=True)
class UsageTotals:
    """What some runs took in all; None is what no GPU counted.

    `counted` of the runs counted their energy; `resumed` of them began to count in their middle.
    """

    runs: int
    duration_s: float
    gpu_s: float
    gpus: tuple[str, ...]
    peak_bytes: int | None
    utilisation: float | None
    energy_j: float | None
    counted: int
    resumed: int

    @property
    def gpu_hours(self) -> float:
        return self.gpu_s / 3600

    @property
    def duration_each_s(self) -> float:
        return self.duration_s / self.runs

    @property
    def energy_each_j(self) -> float | None:
        """Mean energy of the runs that counted it."""
        return None if self.energy_j is None else self.energy_j / self.counted

    @property
    def words(self) -> str:
        """All of it in one line."""
        parts = [f"{duration(self.duration_s)} for {self.runs} run{'' if self.runs == 1 else 's'}"]
        if self.gpu_s:
            names = f" ({' and '.join(self.gpus)})" if self.gpus else ""
            parts.append(f"{significant(self.gpu_hours)} GPU hours{names}")
        if self.peak_bytes is not None:
            parts.append(f"at most {size_text(self.peak_bytes)} of GPU memory")
        if self.utilisation is not None:
            parts.append(f"{percent(self.utilisation, 0)} % utilised")
        if self.energy_j is not None:
            parts.append(energy(self.energy_j))
        return ", ".join(parts)


def own_s(run: Dense | Result) -> float:
    """The seconds of a run, less those of the rounds that it shares and another did."""
    return run.duration_s - (run.shared_s if isinstance(run, Result) else 0.0)


def total_usage(runs: Sequence[Dense | Result]) -> UsageTotals:
    """What `runs`, one or more, took together; utilisation is weighted by the time over which it was counted."""
    used = [run.usage for run in runs if run.usage is not None]
    joules = [usage.energy_j for usage in used if usage.energy_j is not None]
    busy = [(usage.utilisation, usage.duration_s) for usage in used if usage.utilisation is not None]
    busy_s = sum(seconds for _, seconds in busy)
    return UsageTotals(
        runs=len(runs),
        duration_s=sum(own_s(run) for run in runs),
        gpu_s=sum(own_s(run) for run in runs if run.device != "cpu"),
        gpus=tuple(sorted({usage.gpu for usage in used})),
        peak_bytes=max((usage.peak_bytes for usage in used), default=None),
        utilisation=sum(share * seconds for share, seconds in busy) / busy_s if busy_s else None,
        energy_j=sum(joules) if joules else None,
        counted=len(joules),
        resumed=sum(run.usage is not None and run.usage.duration_s < COUNTED_SHARE * own_s(run) for run in runs),
    )


def own_runs(recipe: Recipe, dense: Iterable[Dense]) -> list[Dense]:
    """The dense runs that were done; under the fault one-dense-run the others' records repeat the first seed's."""
    if "one-dense-run" in recipe.faults:
        return [run for run in dense if run.seed == recipe.seeds[0]]
    return list(dense)


def usage_doubts(taken: UsageTotals) -> list[str]:
    """What a reader of the energy, the memory and the utilisation should know."""
    doubts = []
    if taken.energy_j is not None and taken.counted < taken.runs:
        doubts.append(f"energy was counted in {taken.counted} of {taken.runs} runs, and the sum is theirs")
    if taken.resumed:
        doubts.append(
            f"{taken.resumed} of {taken.runs} runs went on where they had been stopped, and count energy, memory and "
            "utilisation from there"
        )
    return doubts


def usage_json(taken: UsageTotals) -> dict[str, Any]:
    """What was taken as plain JSON values."""
    return {**asdict(taken), "gpu_hours": taken.gpu_hours, "energy_each_j": taken.energy_each_j}

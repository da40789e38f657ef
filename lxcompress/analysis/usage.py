"""The resources that a study used: its time and, if a GPU counts them, GPU hours, memory, utilisation and energy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lxcompress.recipe import Recipe
from lxcompress.records import Dense, Result
from lxcompress.units import duration, energy, percent, significant, size_text

COUNTED_SHARE = 0.98
"""If the GPU was watched for a smaller fraction of a run's time, the run was resumed and its first part not counted."""


@dataclass(frozen=True)
class UsageTotals:
    """The resources used by some runs together. A value that no GPU counted is None.

    `gpu_s` is the time of the runs on a GPU. `counted` is the number of runs whose energy was counted. `resumed` is the
    number of runs that were interrupted and resumed, so that only their last part was counted.
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
        """The time of the runs on a GPU, in hours."""
        return self.gpu_s / 3600

    @property
    def duration_each_s(self) -> float:
        """The mean time of a run, in seconds."""
        return self.duration_s / self.runs

    @property
    def energy_each_j(self) -> float | None:
        """The mean energy of the runs whose energy was counted, in joules."""
        return None if self.energy_j is None else self.energy_j / self.counted

    @property
    def words(self) -> str:
        """The totals as one line of text."""
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
    """Return the seconds of a run, without the time of shared pruning rounds that another run did."""
    return run.duration_s - (run.shared_s if isinstance(run, Result) else 0.0)


def total_usage(runs: Sequence[Dense | Result]) -> UsageTotals:
    """Return the totals of one or more runs; the utilisation is weighted by the time over which it was counted."""
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
    """Return the dense runs that were trained. With the fault one-dense-run, the others are copies of the first."""
    if "one-dense-run" in recipe.faults:
        return [run for run in dense if run.seed == recipe.seeds[0]]
    return list(dense)


def usage_warnings(totals: UsageTotals) -> list[str]:
    """Return what a reader should know before trusting the energy, the memory and the utilisation."""
    warnings = []
    if totals.energy_j is not None and totals.counted < totals.runs:
        warnings.append(f"energy was counted in {totals.counted} of {totals.runs} runs; the sum is over those")
    if totals.resumed:
        warnings.append(
            f"{totals.resumed} of {totals.runs} runs were resumed: their energy, memory and utilisation are counted "
            "from there on"
        )
    return warnings


def usage_json(totals: UsageTotals) -> dict[str, Any]:
    """Return the totals as plain JSON values."""
    return {**asdict(totals), "gpu_hours": totals.gpu_hours, "energy_each_j": totals.energy_each_j}

"""Compare two measurements: the ratio of their medians, its confidence interval, and whether they differ at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lxcompress.errors import MeasureError
from lxcompress.records import BenchRecord, Machine, Measurement, Task
from lxcompress.stats import bootstrap_interval, resample

Verdict = Literal["faster", "slower", "no difference", "unknown"]

FEW_ROUNDS = 6
"""The fewest rounds for a 95 % interval: fewer all lie on one side of the true ratio in more than 5 % of cases."""
_SEED = 0
_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}

# Shapes: S resamples, R rounds, V values of a round.


@dataclass(frozen=True)
class Ratio:
    """The median latency of one measurement over that of its baseline; below 1 is faster.

    `low` to `high` is a 95 % interval, None with too few rounds. `floor` is the noise floor: a ratio that is no further
    from 1 counts as no difference. `doubts` say what differs between the two measurements, apart from the artifact.
    """

    value: float
    low: float | None
    high: float | None
    floor: float
    verdict: Verdict
    doubts: tuple[str, ...] = ()


def compare_in_turns(one: Measurement, baseline: Measurement, *, floor: float = 0.0) -> Ratio:
    """Compare two measurements that took turns, round by round. Raises MeasureError if they cannot be compared."""
    _check_comparable(one, baseline)
    ours, theirs = _rounds(one), _rounds(baseline)
    both = min(len(ours), len(theirs))  # an interrupt may fall between two turns of a round
    chosen = resample(both, seed=_SEED)
    return _ratio(one, baseline, _medians(ours[:both], chosen), _medians(theirs[:both], chosen), floor, both)


def compare_apart(one: Measurement, baseline: Measurement, *, floor: float = 0.0) -> Ratio:
    """Compare two measurements made at different times. Raises MeasureError if they cannot be compared."""
    _check_comparable(one, baseline)
    ours, theirs = _rounds(one), _rounds(baseline)
    first, second = resample(len(ours), seed=_SEED), resample(len(theirs), seed=_SEED + 1)
    fewest = min(len(ours), len(theirs))
    return _ratio(one, baseline, _medians(ours, first), _medians(theirs, second), floor, fewest)


def noise_floor(baseline: Measurement, again: Measurement) -> float:
    """Return the noise floor: how far from 1 the ratio of two measurements of the same baseline may be.

    The baseline was measured in two processes. The noise floor is the end of the ratio's interval that is further from
    1.
    """
    ratio = compare_in_turns(again, baseline)
    ends = (ratio.value, ratio.low or ratio.value, ratio.high or ratio.value)
    return max(abs(end - 1) for end in ends)


def compare_all(bench: BenchRecord, kept: BenchRecord | None = None) -> list[Ratio | None]:
    """Return the ratio of each measurement to its baseline; None for a baseline itself, and if there is no baseline.

    The baseline has the same threads and questions. It is an artifact of this bench, or one of the saved bench `kept`.
    Raises MeasureError if `kept` was measured on another machine.
    """
    if kept is not None:
        return [_compare_with_saved(measurement, kept) for measurement in bench.measurements]
    return [_compare_within(measurement, bench) for measurement in bench.measurements]


def find_baseline(bench: BenchRecord, task_of: Measurement) -> Measurement | None:
    """Return the first measurement of the bench's baseline with the threads and questions of `task_of`; else None."""
    same = [measurement for measurement in bench.measurements if _task(measurement) == _task(task_of)]
    if bench.baseline is None:
        return same[0] if same else None
    return next((measurement for measurement in same if measurement.artifact_path == bench.baseline), None)


def check_same_machine(one: Measurement | Machine, other: Measurement) -> None:
    """Raise MeasureError if the two are of different machines, whose times cannot be compared."""
    machine = one if isinstance(one, Machine) else one.machine
    target = None if isinstance(one, Machine) else one.target
    ours, theirs = _identity(machine, target), _identity(other.machine, other.target)
    if ours != theirs:
        raise MeasureError(
            f"{other.artifact}: was measured on another machine ({theirs}; this one is {ours}), and times of two "
            "machines cannot be compared; measure both in one bench"
        )


def _compare_within(one: Measurement, bench: BenchRecord) -> Ratio | None:
    baseline = find_baseline(bench, one)
    if baseline is None or baseline is one:
        return None
    again = next((measurement for measurement in bench.noise if _task(measurement) == _task(one)), None)
    return compare_in_turns(one, baseline, floor=noise_floor(baseline, again) if again else 0.0)


def _compare_with_saved(one: Measurement, kept: BenchRecord) -> Ratio | None:
    if kept.measurements:
        check_same_machine(one, kept.measurements[0])
    baseline = find_baseline(kept, one)
    return compare_apart(one, baseline) if baseline else None


def _task(measurement: Measurement) -> tuple[object, ...]:
    """Return what rows of one table have in common: threads and question lengths."""
    task = measurement.task
    return task.threads, task.tokens, bool(task.lengths)


def _check_comparable(one: Measurement, baseline: Measurement) -> None:
    check_same_machine(one, baseline)
    if _task(one) != _task(baseline):
        raise MeasureError(
            f"{one.artifact}: answered questions of {one.task.tokens} tokens on {one.task.threads} threads, but "
            f"{baseline.artifact} of {baseline.task.tokens} on {baseline.task.threads}; measure both in one bench"
        )


def _identity(machine: Machine, target: str | None) -> str:
    """Describe a machine in words that no upgrade of its system changes."""
    where = f"{target}, " if target else ""
    return f"{where}{machine.processor}, {machine.cores} cores, {machine.memory_bytes / 2**30:.0f} GB"


def name_images(task: Task) -> str:
    """Return in words what a question is about: regions of an image, or whole pictures."""
    if task.picture_size is not None:
        size = f"{task.picture_size} x {task.picture_size} pixels"
        return f"a picture of {size}" if task.images == 1 else f"{task.images} pictures of {size}"
    regions = f"{task.objects} region{'' if task.objects == 1 else 's'}"
    return regions if task.images == 1 else f"{task.images} images of {regions}"


def _list_differences(one: Measurement, baseline: Measurement) -> tuple[str, ...]:
    """List what differs between two measurements of one machine, other than the artifact."""
    found = []
    if name_images(one.task) != name_images(baseline.task):
        found.append(f"different input: {name_images(one.task)}; the baseline has {name_images(baseline.task)}")
    ours, theirs = one.machine.packages, baseline.machine.packages
    changed = sorted(name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name])
    if changed:
        found.append("different versions: " + ", ".join(f"{name} {ours[name]}, was {theirs[name]}" for name in changed))
    return tuple(found)


def _ratio(
    one: Measurement, baseline: Measurement, ours: np.ndarray, theirs: np.ndarray, floor: float, rounds: int
) -> Ratio:
    value = float(np.median(_seconds(one)) / np.median(_seconds(baseline)))
    low, high = bootstrap_interval(ours / theirs, rounds) if rounds >= FEW_ROUNDS else (None, None)
    return Ratio(value, low, high, floor, _judge(value, low, high, floor), _list_differences(one, baseline))


def _judge(value: float, low: float | None, high: float | None, floor: float) -> Verdict:
    if low is None or high is None:
        return "unknown"
    if low <= 1 <= high or abs(value - 1) <= floor:
        return "no difference"
    return "faster" if value < 1 else "slower"


def _seconds(measurement: Measurement) -> np.ndarray:
    """Return the raw samples in seconds. Raises MeasureError for an unknown unit of time."""
    unit = measurement.latency.unit
    if unit not in _UNITS:
        raise MeasureError(
            f"{measurement.artifact}: its samples are in {unit!r}, expected one of {', '.join(_UNITS)}; "
            "measure it again"
        )
    return _UNITS[unit] * np.asarray(measurement.latency.values)


def _rounds(measurement: Measurement) -> np.ndarray:
    """Return the samples [R, V], one row per round; a short row ends in NaN. Without rounds each sample is a row."""
    seconds = _seconds(measurement)
    sizes = measurement.rounds or [1] * len(seconds)
    rows = np.full((len(sizes), max(sizes)), np.nan)
    rows[np.arange(max(sizes)) < np.asarray(sizes)[:, None]] = seconds
    return rows


def _medians(rounds: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the median of the samples of each resample, [S]; NaN means no sample, and sorts last."""
    pooled = np.sort(rounds[chosen].reshape(len(chosen), -1), axis=1)
    counts = (~np.isnan(pooled)).sum(axis=1)
    below, above = (counts - 1) // 2, counts // 2
    row = np.arange(len(pooled))
    return (pooled[row, below] + pooled[row, above]) / 2

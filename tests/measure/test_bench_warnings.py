"""Percentiles equal their slow definition; a warning depends on shape and count alone, never on the unit."""

from __future__ import annotations

import math
import random

import pytest

from lxcompress.measure.bench_warnings import FEW_RUNS, condition_warnings, process_warnings, sample_warnings
from lxcompress.stats import percentiles

QUIET = {"threads": 1, "cores": 2, "is_pinned": True, "others": 0.0, "held_bytes": 1, "memory_bytes": 100}


def slow_percentile(values: list[float], percent: float) -> float:
    """Linear between the two neighbours at the position percent / 100 * (n - 1) in the sorted values."""
    ordered = sorted(values)
    position = percent / 100 * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


@pytest.mark.parametrize("count", [1, 2, 3, 30, 101])
def test_percentiles_equal_their_slow_definition(count: int) -> None:
    values = [random.Random(count).expovariate(1) for _ in range(count)]
    summary = percentiles(values)
    assert summary.p50 == pytest.approx(slow_percentile(values, 50))
    assert summary.p90 == pytest.approx(slow_percentile(values, 90))
    assert summary.p99 == pytest.approx(slow_percentile(values, 99))
    assert summary.mean == pytest.approx(sum(values) / count)
    assert summary.p50 <= summary.p90 <= summary.p99 <= max(values)


def test_order_changes_no_percentile() -> None:
    values = [random.Random(0).random() for _ in range(40)]
    assert percentiles(values) == percentiles(sorted(values))


def test_steady_samples_raise_no_warning() -> None:
    assert sample_warnings([0.1, 0.101] * 25) == []


@pytest.mark.parametrize("count", [1, 2, FEW_RUNS - 1, FEW_RUNS, FEW_RUNS + 1])
def test_few_samples_raise_a_warning_and_enough_do_not(count: int) -> None:
    assert (sample_warnings([1.0] * count) != []) == (count < FEW_RUNS)


def test_each_fault_raises_its_own_warning() -> None:
    assert _only(sample_warnings([1.0, 1.3] * 21)).startswith("timings vary")
    assert _only(sample_warnings(([1.0] * 8 + [2.0] * 2) * 4)).startswith("long tail")
    assert "slower" in _only(sample_warnings([1.0] * 49 + [1.2] * 11))
    assert "faster" in _only(sample_warnings([1.2] * 11 + [1.0] * 49))


def test_the_unit_changes_no_warning() -> None:
    values = [random.Random(1).lognormvariate(0, 0.5) for _ in range(40)]
    assert sample_warnings(values) == sample_warnings([1024 * value for value in values])


def test_quiet_circumstances_raise_no_warning() -> None:
    assert condition_warnings(**QUIET) == []


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"threads": 3}, "3 threads share 2 cores"),
        ({"is_pinned": False}, "not pinned"),
        ({"others": 0.5}, "busy machine: other programs took 50 %"),
        ({"held_bytes": 90}, "memory nearly full"),
    ],
)
def test_each_circumstance_raises_its_own_warning(change: dict[str, object], warning: str) -> None:
    assert _only(condition_warnings(**(QUIET | change))).startswith(warning)


WELL = {"threads": 1, "busy_threads": 1, "cores": [1], "cores_held": [1], "resident": 0.0, "is_cold": True}


def test_a_worker_that_did_as_it_was_asked_raises_no_warning() -> None:
    assert process_warnings(**WELL) == []
    assert process_warnings(**(WELL | {"threads": 2, "cores": [0, 1], "cores_held": [0]})) == []
    assert process_warnings(**(WELL | {"busy_threads": None, "cores_held": None})) == []


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"busy_threads": 2}, "2 of its threads computed, not 1: its runtime"),
        ({"cores_held": [0, 1, 3]}, "outside its cores: its runtime may also run on core 0, 3"),
        ({"resident": 0.5, "is_cold": False}, "no cold load: 50 % of its files stayed in memory"),
        ({"resident": None, "is_cold": False}, "no cold load: this system cannot drop files from memory"),
    ],
)
def test_each_fault_of_a_worker_raises_its_own_warning(change: dict[str, object], warning: str) -> None:
    assert _only(process_warnings(**(WELL | change))).startswith(warning)


def _only(warnings: list[str]) -> str:
    (warning,) = warnings
    return warning

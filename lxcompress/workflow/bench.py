"""Measure artifacts, on this machine or on another device, and save the samples while the bench runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lxcompress.progress import no_progress

if TYPE_CHECKING:
    from lxcompress.measure.artifacts import Keep
    from lxcompress.measure.device.profile import Profile
    from lxcompress.measure.plan import BenchOptions
    from lxcompress.progress import Progress
    from lxcompress.records import BenchRecord
    from lxcompress.rundir import RunDir

RUNS = 50
THREADS = 1
"""The number of timed runs, and of threads, for artifacts that are in no run folder."""


@dataclass(frozen=True)
class BenchRequest:
    """The artifacts to measure, and the settings of the bench.

    `device` is the device to measure on; None is this machine. `earlier` is the saved bench to compare with; None if
    the baseline is one of the artifacts.
    """

    artifacts: Sequence[Path]
    options: BenchOptions
    device: Profile | None = None
    earlier: BenchRecord | None = None


def default_options(run: RunDir | None) -> BenchOptions:
    """Return the threads and runs in the recipe of `run`; for None, return the defaults outside of a run folder."""
    from lxcompress.measure.plan import BenchOptions
    from lxcompress.recipe import load_run_recipe

    if run is None:
        return BenchOptions(threads=(THREADS,), runs=RUNS)
    settings = load_run_recipe(run.recipe).bench
    return BenchOptions(threads=(settings.threads,), runs=settings.runs)


def read_earlier(baseline: Path | None) -> BenchRecord | None:
    """Return the saved bench in the file `baseline`; None if `baseline` is not a file. Raises MeasureError."""
    if baseline is None or not baseline.is_file():
        return None
    from lxcompress.errors import MeasureError
    from lxcompress.records import BenchRecord, read_record

    return read_record(baseline, BenchRecord, MeasureError)


def default_file(run: RunDir | None, device: Profile | None) -> Path | None:
    """Return the file in the run folder that a new bench is saved in; None without a run folder.

    The benches of another device are in a folder of that device.
    """
    from datetime import datetime, timezone

    from lxcompress.measure.bench_paths import name_bench

    if run is None:
        return None
    return name_bench(run, datetime.now(timezone.utc), device=device.name if device else None)


def measure(request: BenchRequest, *, progress: Progress = no_progress, keep: Keep = lambda bench: None) -> BenchRecord:
    """Return the measurements of the artifacts. Raises MeasureError if the earlier bench is of another machine.

    Raises KeyboardInterrupt if an interrupt comes before the first measurement; a later one ends the bench early. While
    the bench runs, `keep` is called with a function that returns the bench so far.
    """
    from lxcompress.machine import describe_machine
    from lxcompress.measure.artifacts import bench_artifacts
    from lxcompress.measure.compare import check_same_machine
    from lxcompress.measure.device.adb import bench_device

    earlier = request.earlier
    if earlier and earlier.measurements and not request.device:
        check_same_machine(describe_machine(), earlier.measurements[0])  # before the measurements, which take minutes
    if request.device:
        return bench_device(request.artifacts, request.options, request.device, progress=progress, keep=keep)
    return bench_artifacts(request.artifacts, request.options, progress=progress, keep=keep)


def measure_and_save(
    request: BenchRequest,
    path: Path,
    *,
    progress: Progress = no_progress,
    show_unsaved: Callable[[BenchRecord], None] = lambda bench: None,
) -> BenchRecord:
    """Measure the artifacts and save the bench in the file `path`; return the bench.

    While the bench runs, its samples are saved in a file next to `path`. If the bench cannot be saved, `show_unsaved`
    is called with the bench before the WriteError is raised.
    """
    from lxcompress.measure.bench_paths import lock_samples, save_bench
    from lxcompress.writing import WriteError

    with lock_samples(path) as samples:
        bench = measure(request, progress=progress, keep=samples.keep)
        try:
            save_bench(path, bench, samples)
        except WriteError:
            show_unsaved(bench)
            raise
    return bench

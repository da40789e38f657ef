"""Measure artifacts: each in its own process, in rotating turns, so that drift of the machine affects all equally."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import psutil

from lxcompress.errors import MeasureError
from lxcompress.machine import describe_machine, usable_cores
from lxcompress.measure.bench_warnings import condition_warnings, process_warnings, sample_warnings
from lxcompress.measure.host.cores import choose_cores, read_processor_time, share_of_others
from lxcompress.measure.host.energy import POWERCAP
from lxcompress.measure.lengths import at_one_length
from lxcompress.measure.messages import ColdLoadReply, ColdLoadRequest, SetupRequest, TurnReply
from lxcompress.measure.plan import SEED, BenchGroup, BenchOptions, BenchPlan, BenchTarget, make_plan
from lxcompress.measure.process import WorkerProcess, load_cold, start_worker
from lxcompress.measure.weight_bytes import bytes_per_answer
from lxcompress.progress import Progress, no_progress
from lxcompress.records import BenchRecord, Machine, Measurement, Samples, Task

RUNS_A_TURN = 5
INTERRUPTED = "interrupted: not all runs were made; repeat"
CUT_SHORT = "interrupted: other rows of this bench are missing; repeat"

Keep = Callable[[Callable[[], BenchRecord]], None]
"""A function that saves the bench so far, if it is time to. Its argument returns the bench, and is called only then."""


@dataclass
class TargetSamples:
    """The samples of one target so far; `last` is the latest reply of its worker."""

    target: BenchTarget
    worker: WorkerProcess
    cold: ColdLoadReply
    seconds: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    joules: list[float | None] = field(default_factory=list)
    last: TurnReply | None = None

    def take_turn(self, lengths: Sequence[int]) -> None:
        """Let the worker make a run for each length."""
        self.last = self.worker.run(lengths)
        self.seconds += self.last.seconds
        self.rounds.append(len(self.last.seconds))
        self.joules.append(self.last.energy_j)

    @property
    def peak_bytes(self) -> int:
        """Return the worker's peak memory."""
        return self.last.peak_bytes if self.last else self.worker.ready.peak_bytes

    @property
    def cpu_s(self) -> float:
        """Return the worker's processor time since it was ready."""
        return self.last.cpu_s - self.worker.ready.cpu_s if self.last else 0.0

    @property
    def energy_j(self) -> float | None:
        """Return the joules of one answer; None unless every turn was counted."""
        counted = [joules for joules in self.joules if joules is not None]
        return sum(counted) / len(self.seconds) if counted and len(counted) == len(self.joules) else None


@dataclass
class BenchRun:
    """A running bench: its plan and its measurements so far; `noise` has the measurements of the repeated baseline."""

    plan: BenchPlan
    options: BenchOptions
    machine: Machine
    progress: Progress
    keep: Keep
    powercap: Path
    started: datetime
    groups_done: int = 0
    measurements: list[Measurement] = field(default_factory=list)
    noise: list[Measurement] = field(default_factory=list)
    was_interrupted: bool = False

    def bench(self, unfinished: Sequence[Measurement] = ()) -> BenchRecord:
        """Return the bench so far, with a warning on each measurement if some are missing."""
        measurements = [*self.measurements, *unfinished]
        is_partial = self.was_interrupted or bool(unfinished)
        return BenchRecord(
            started=self.started.isoformat(timespec="seconds"),
            measurements=_with_warning(measurements) if is_partial else measurements,
            baseline=str(self.plan.baseline.path),
            noise=self.noise,
            remarks=list(self.plan.remarks),
        )


@dataclass(frozen=True)
class GroupConditions:
    """The conditions that all measurements of one group share."""

    machine: Machine
    group: BenchGroup
    cores: tuple[int, ...]
    warmup: int


def measure_artifacts(
    paths: Sequence[Path],
    *,
    threads: int | Sequence[int] = 1,
    runs: int,
    warmup: int = BenchOptions.warmup,
    progress: Progress = no_progress,
) -> list[Measurement]:
    """Measure `runs` questions on each artifact, in the order of `paths`, with each number of threads.

    Artifacts run in their usual runtimes, as in `bench_artifacts`. Raises MeasureError.
    """
    counts = (threads,) if isinstance(threads, int) else tuple(threads)
    return bench_artifacts(
        paths, BenchOptions(threads=counts, runs=runs, warmup=warmup), progress=progress
    ).measurements


def bench_artifacts(
    paths: Sequence[Path],
    options: BenchOptions,
    *,
    progress: Progress = no_progress,
    keep: Keep = lambda bench: None,
    powercap: Path = POWERCAP,
) -> BenchRecord:
    """Measure each artifact in each of its runtimes, with each number of threads and each kind of questions.

    The targets of a group (same threads and questions) take turns: one worker runs at a time, in rounds of a few runs
    whose order rotates. With several targets the baseline is measured twice, in two processes, which gives the noise
    floor. Ctrl-C ends the workers and returns the measurements so far, with a warning. Raises MeasureError.
    """
    plan = make_plan(paths, options, progress)
    return bench_plan(plan, options, progress=progress, keep=keep, powercap=powercap)


def bench_plan(
    plan: BenchPlan,
    options: BenchOptions,
    *,
    progress: Progress = no_progress,
    keep: Keep = lambda bench: None,
    powercap: Path = POWERCAP,
) -> BenchRecord:
    """Measure the targets of the plan, with the runs and the warm-up of `options`. Raises MeasureError.

    After each round `keep` is called with a function that returns the bench so far. Each measurement of that bench has
    a warning that others are missing.
    """
    started = datetime.now(timezone.utc)
    run = BenchRun(plan, options, describe_machine(), progress, keep, powercap, started)
    try:
        for group in plan.groups:
            _measure_group(run, group)
            run.groups_done += 1
            if run.was_interrupted:
                break
    except KeyboardInterrupt:
        run.was_interrupted = True
    if not run.measurements:
        raise KeyboardInterrupt
    return run.bench()


def is_interrupted(bench: BenchRecord) -> bool:
    """Return whether Ctrl-C ended the bench early."""
    return any(
        warning in (INTERRUPTED, CUT_SHORT) for measurement in bench.measurements for warning in measurement.doubts
    )


def plan_rounds(count: int, runs: int) -> list[list[tuple[int, int]]]:
    """Return the turns of each round, as pairs (index of a target, runs); each round starts with another target.

    There are `count` targets; a target gets `runs` runs in all rounds together.
    """
    sizes = [min(RUNS_A_TURN, runs - start) for start in range(0, runs, RUNS_A_TURN)]
    return [[((turn + first) % count, size) for turn in range(count)] for first, size in enumerate(sizes)]


def _measure_group(run: BenchRun, group: BenchGroup) -> None:
    """Measure the targets of one group in turns, and add their measurements to `run`."""
    plan = run.plan
    again = [plan.baseline] if len(plan.targets) > 1 else []
    targets = [*plan.targets, *again]
    cores = choose_cores(usable_cores(), group.threads)
    conditions = GroupConditions(run.machine, group, cores, run.options.warmup)
    with ExitStack() as stack:
        cold = [_load_cold(target, conditions) for target in _each_with_progress(targets, run.progress)]
        workers = []
        for target in _each_with_progress(targets, run.progress):
            _check_memory(target)
            workers.append(stack.enter_context(start_worker(_make_setup(target, conditions, run.powercap))))
        samples = [TargetSamples(*parts) for parts in zip(targets, workers, cold, strict=True)]
        total_before, own_before = read_processor_time(), time.process_time()
        was_interrupted = _run_rounds(run, conditions, samples)
        own_s = time.process_time() - own_before + sum(found.cpu_s for found in samples)
        others = share_of_others(total_before, read_processor_time(), own_s=own_s)
    run.was_interrupted = was_interrupted
    warnings = [INTERRUPTED] if was_interrupted else []
    warnings += condition_warnings(
        threads=group.threads,
        cores=run.machine.cores,
        is_pinned=all(found.worker.ready.is_pinned for found in samples),
        others=others,
        held_bytes=sum(found.peak_bytes for found in samples),
        memory_bytes=run.machine.memory_bytes,
    )
    for index, found in enumerate(samples):
        if found.seconds:
            measurements = run.measurements if index < len(plan.targets) else run.noise
            measurements.append(_make_measurement(found, conditions, warnings))


def _each_with_progress(targets: Sequence[BenchTarget], progress: Progress) -> Iterator[BenchTarget]:
    for index, target in enumerate(targets):
        progress(f"loading {target.record.name}", index, len(targets))
        yield target


def _load_cold(target: BenchTarget, conditions: GroupConditions) -> ColdLoadReply:
    """Time a load without the page cache, before any other process of this bench has the files in memory."""
    path, files = str(target.path.resolve()), list(target.record.files)
    cores, threads = list(conditions.cores), conditions.group.threads
    return load_cold(ColdLoadRequest(path, target.runtime, threads, cores, files))


def _check_memory(target: BenchTarget) -> None:
    """Raise MeasureError if the artifact's files are larger than the free memory: the system might kill the process."""
    free = psutil.virtual_memory().available
    if target.size_bytes > free:
        raise MeasureError(
            f"{target.path}: has {target.size_bytes / 1e6:.0f} MB, but {free / 1e6:.0f} MB of memory are free with the "
            "other artifacts loaded; measure fewer at a time"
        )


def _make_setup(target: BenchTarget, conditions: GroupConditions, powercap: Path) -> SetupRequest:
    record = target.record
    return SetupRequest(
        path=str(target.path.resolve()),
        runtime=target.runtime,
        threads=conditions.group.threads,
        cores=list(conditions.cores),
        warmup=conditions.warmup,
        lengths=sorted(set(conditions.group.questions.of_runs(1))),
        objects=record.objects,
        feature_size=record.feature_size,
        seed=SEED,
        images=record.images,
        files=list(record.files),
        powercap=str(powercap),
    )


def _run_rounds(run: BenchRun, conditions: GroupConditions, samples: Sequence[TargetSamples]) -> bool:
    """Make all runs of a group, and keep the bench so far after each round; return whether Ctrl-C ended them early."""
    runs, in_group = run.options.runs, run.options.runs * len(samples)
    lengths = conditions.group.questions.of_runs(runs)
    own = samples[: len(run.plan.targets)]

    def bench_so_far() -> BenchRecord:
        return run.bench([_make_measurement(found, conditions, []) for found in own if found.seconds])

    done, first = run.groups_done * in_group, 0
    try:
        for turns in plan_rounds(len(samples), runs):
            for index, size in turns:
                name = samples[index].target.record.name
                run.progress(f"measuring {name}", done, in_group * len(run.plan.groups))
                samples[index].take_turn(lengths[first : first + size])
                done += size
            first += turns[0][1]
            run.keep(bench_so_far)
    except KeyboardInterrupt:
        return True
    return False


def _make_measurement(samples: TargetSamples, conditions: GroupConditions, warnings: Sequence[str]) -> Measurement:
    target, record, group = samples.target, samples.target.record, conditions.group
    questions, last = group.questions, samples.last
    assert last is not None
    lengths = questions.lengths[: len(samples.seconds)]
    return Measurement(
        artifact=record.name,
        artifact_path=str(target.path),
        artifact_sha256=target.sha256,
        cell=record.cell,
        twin=record.twin,
        format=record.format,
        precision=record.precision,
        task=Task(
            runtime=target.runtime,
            threads=group.threads,
            batch=1,
            tokens=questions.tokens,
            objects=record.objects,
            lengths=list(lengths),
            images=record.images,
            picture_size=record.picture_size,
            warmup=conditions.warmup,
            runs=len(samples.seconds),
        ),
        machine=conditions.machine,
        latency=Samples(unit="s", values=samples.seconds),
        rounds=samples.rounds,
        load_s=samples.worker.ready.load_s,
        cold_load_s=samples.cold.load_s,
        peak_bytes=samples.peak_bytes,
        steady_bytes=last.held_bytes,
        size_bytes=target.size_bytes,
        parameters=record.parameters,
        flops=record.flops if questions.tokens == record.tokens else None,
        energy_j=samples.energy_j,
        read_bytes=bytes_per_answer(target.weights, questions.tokens),
        doubts=sample_warnings(at_one_length(samples.seconds, lengths))
        + process_warnings(
            threads=group.threads,
            busy_threads=last.busy_threads,
            cores=conditions.cores,
            cores_held=samples.worker.ready.cores_held,
            resident=samples.cold.resident,
            is_cold=samples.cold.load_s is not None,
        )
        + list(warnings),
    )


def _with_warning(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Return the measurements with a warning that others of their bench are missing."""
    return [
        measurement
        if INTERRUPTED in measurement.doubts
        else measurement.model_copy(update={"doubts": [CUT_SHORT, *measurement.doubts]})
        for measurement in measurements
    ]

"""Measure artifacts side by side: each in a process of its own, run in turns so that drift hits all of them equally."""

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
from lxcompress.measure.host.cores import choose_cores, read_busy, share_of_others
from lxcompress.measure.host.energy import POWERCAP
from lxcompress.measure.lengths import at_one_length
from lxcompress.measure.messages import ColdLoad, Loaded, Round, Setup
from lxcompress.measure.plan import SEED, Ask, Group, Plan, Subject, make_plan
from lxcompress.measure.process import Worker, load_cold, started
from lxcompress.measure.weight_bytes import bytes_per_answer
from lxcompress.progress import Progress, no_progress
from lxcompress.records import BenchRecord, Machine, Measurement, Samples, Task

ROUND = 5
INTERRUPTED = "interrupted: not all runs were made; repeat"
CUT_SHORT = "interrupted: other rows of this bench are missing; repeat"


@dataclass
class Tally:
    """What has been measured of one subject so far; `last` is its worker's latest answer."""

    subject: Subject
    worker: Worker
    cold: Loaded
    seconds: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    joules: list[float | None] = field(default_factory=list)
    last: Round | None = None

    def take_turn(self, lengths: Sequence[int]) -> None:
        """Lets the worker make a run for each length."""
        self.last = self.worker.run(lengths)
        self.seconds += self.last.seconds
        self.rounds.append(len(self.last.seconds))
        self.joules.append(self.last.energy_j)

    @property
    def peak_bytes(self) -> int:
        return self.last.peak_bytes if self.last else self.worker.ready.peak_bytes

    @property
    def cpu_s(self) -> float:
        """The worker's processor time since it was ready."""
        return self.last.cpu_s - self.worker.ready.cpu_s if self.last else 0.0

    @property
    def energy_j(self) -> float | None:
        """Joules for one answer; None unless every turn was told."""
        told = [each for each in self.joules if each is not None]
        return sum(told) / len(self.seconds) if told and len(told) == len(self.joules) else None


Keep = Callable[[Callable[[], BenchRecord]], None]
"""Is handed the bench so far, as a function: it is made only if it is to be kept now."""


@dataclass
class Done:
    """The measurements made so far, and of the baselines' second processes."""

    measurements: list[Measurement] = field(default_factory=list)
    noise: list[Measurement] = field(default_factory=list)
    was_interrupted: bool = False


def measure_artifacts(
    paths: Sequence[Path],
    *,
    threads: int | Sequence[int] = 1,
    runs: int,
    warmup: int = Ask.warmup,
    progress: Progress = no_progress,
) -> list[Measurement]:
    """`runs` timed single questions to each artifact, in the order of `paths`, on each number of threads.

    As `bench_artifacts` measures them, in the usual runtimes. Raises MeasureError.
    """
    asked = (threads,) if isinstance(threads, int) else tuple(threads)
    return bench_artifacts(paths, Ask(threads=asked, runs=runs, warmup=warmup), progress=progress).measurements


def bench_artifacts(
    paths: Sequence[Path],
    ask: Ask,
    *,
    progress: Progress = no_progress,
    keep: Keep = lambda bench: None,
    powercap: Path = POWERCAP,
) -> BenchRecord:
    """Measures each artifact in each of its runtimes, on each number of threads, over each kind of questions.

    The subjects of one group (threads and questions) take turns: one worker runs at a time, in rounds of a few runs
    whose order rotates. Where there are several, the baseline takes part a second time, in a process of its own, to
    show what no difference looks like. Ctrl-C ends the workers and returns what was measured, with a doubt, once
    something was. Raises MeasureError.
    """
    return bench_plan(make_plan(paths, ask, progress), ask, progress=progress, keep=keep, powercap=powercap)


def bench_plan(
    plan: Plan,
    ask: Ask,
    *,
    progress: Progress = no_progress,
    keep: Keep = lambda bench: None,
    powercap: Path = POWERCAP,
) -> BenchRecord:
    """Measures what is planned; of `ask` it takes the runs and the warm-up. Raises MeasureError.

    `keep` is handed, after each round, a function that returns the bench so far, with a doubt that it was cut short.
    """
    began = datetime.now(timezone.utc)
    machine, done = describe_machine(), Done()

    def so_far(measurements: Sequence[Measurement]) -> BenchRecord:
        return BenchRecord(
            started=began.isoformat(timespec="seconds"),
            measurements=_with_doubt([*done.measurements, *measurements]),
            baseline=str(plan.baseline.path),
            noise=done.noise,
            remarks=list(plan.remarks),
        )

    try:
        for number, group in enumerate(plan.groups):
            _measure_group(
                plan,
                group,
                ask,
                number=number,
                machine=machine,
                done=done,
                progress=progress,
                keep=lambda measure: keep(lambda: so_far(measure())),
                powercap=powercap,
            )
            if done.was_interrupted:
                break
    except KeyboardInterrupt:
        done.was_interrupted = True
    if not done.measurements:
        raise KeyboardInterrupt
    return BenchRecord(
        started=began.isoformat(timespec="seconds"),
        measurements=_with_doubt(done.measurements) if done.was_interrupted else done.measurements,
        baseline=str(plan.baseline.path),
        noise=done.noise,
        remarks=list(plan.remarks),
    )


def is_interrupted(bench: BenchRecord) -> bool:
    """Whether Ctrl-C cut the bench short."""
    return any(doubt in (INTERRUPTED, CUT_SHORT) for each in bench.measurements for doubt in each.doubts)


def plan_rounds(count: int, runs: int) -> list[list[tuple[int, int]]]:
    """Who runs when: per round, (artifact, runs) for each of `count` artifacts; each round starts with the next one."""
    sizes = [min(ROUND, runs - start) for start in range(0, runs, ROUND)]
    return [[((turn + first) % count, size) for turn in range(count)] for first, size in enumerate(sizes)]


def _measure_group(
    plan: Plan,
    group: Group,
    ask: Ask,
    *,
    number: int,
    machine: Machine,
    done: Done,
    progress: Progress,
    keep: Callable[[Callable[[], list[Measurement]]], None],
    powercap: Path,
) -> None:
    """Measures the subjects of one group in turns, and adds what came of it to `done`."""
    again = [plan.baseline] if len(plan.subjects) > 1 else []
    subjects = [*plan.subjects, *again]
    cores = choose_cores(usable_cores(), group.threads)
    with ExitStack() as stack:
        cold = [_load_cold(each, group, cores) for each in _each_told(subjects, progress)]
        workers = []
        for subject in _each_told(subjects, progress):
            _check_memory(subject)
            setup = _setup(subject, group, cores=cores, warmup=ask.warmup, powercap=powercap)
            workers.append(stack.enter_context(started(setup)))
        tallies = [Tally(*each) for each in zip(subjects, workers, cold, strict=True)]
        busy_before, own_before = read_busy(), time.process_time()

        def measure_so_far() -> list[Measurement]:
            own = [tally for tally in tallies[: len(plan.subjects)] if tally.seconds]
            return [_measurement(each, machine, group, cores=cores, warmup=ask.warmup, doubts=[]) for each in own]

        was_interrupted = _run_rounds(
            tallies,
            group,
            ask.runs,
            done_before=number,
            groups=len(plan.groups),
            progress=progress,
            after=lambda: keep(measure_so_far),
        )
        own_s = time.process_time() - own_before + sum(tally.cpu_s for tally in tallies)
        others = share_of_others(busy_before, read_busy(), own_s=own_s)
    done.was_interrupted = was_interrupted
    doubts = [INTERRUPTED] if was_interrupted else []
    doubts += condition_warnings(
        threads=group.threads,
        cores=machine.cores,
        is_pinned=all(tally.worker.ready.is_pinned for tally in tallies),
        others=others,
        held_bytes=sum(tally.peak_bytes for tally in tallies),
        memory_bytes=machine.memory_bytes,
    )
    for place, tally in enumerate(tallies):
        if tally.seconds:
            kept = done.measurements if place < len(plan.subjects) else done.noise
            kept.append(_measurement(tally, machine, group, cores=cores, warmup=ask.warmup, doubts=doubts))


def _each_told(subjects: Sequence[Subject], progress: Progress) -> Iterator[Subject]:
    for place, subject in enumerate(subjects):
        progress(f"loading {subject.record.name}", place, len(subjects))
        yield subject


def _load_cold(subject: Subject, group: Group, cores: tuple[int, ...]) -> Loaded:
    """A load without the page cache, before any other process of this bench holds the files."""
    files = list(subject.record.files)
    return load_cold(ColdLoad(str(subject.path.resolve()), subject.runtime, group.threads, list(cores), files))


def _check_memory(subject: Subject) -> None:
    """Raises MeasureError if the file alone would not fit, before the system ends some process for it."""
    free = psutil.virtual_memory().available
    if subject.size_bytes > free:
        raise MeasureError(
            f"{subject.path}: has {subject.size_bytes / 1e6:.0f} MB, but {free / 1e6:.0f} MB of memory are free beside "
            "the artifacts that are loaded; measure fewer at a time"
        )


def _setup(subject: Subject, group: Group, *, cores: tuple[int, ...], warmup: int, powercap: Path) -> Setup:
    record = subject.record
    return Setup(
        path=str(subject.path.resolve()),
        runtime=subject.runtime,
        threads=group.threads,
        cores=list(cores),
        warmup=warmup,
        lengths=sorted(set(group.questions.of_runs(1))),
        objects=record.objects,
        feature_size=record.feature_size,
        seed=SEED,
        images=record.images,
        files=list(record.files),
        powercap=str(powercap),
    )


def _run_rounds(
    tallies: Sequence[Tally],
    group: Group,
    runs: int,
    *,
    done_before: int,
    groups: int,
    progress: Progress,
    after: Callable[[], None],
) -> bool:
    """Makes all runs of a group, and calls `after` after each round; True if Ctrl-C cut them short."""
    lengths = group.questions.of_runs(runs)
    in_group = runs * len(tallies)
    done, first = done_before * in_group, 0
    try:
        for turns in plan_rounds(len(tallies), runs):
            for index, size in turns:
                progress(f"measuring {tallies[index].subject.record.name}", done, in_group * groups)
                tallies[index].take_turn(lengths[first : first + size])
                done += size
            first += turns[0][1]
            after()
    except KeyboardInterrupt:
        return True
    return False


def _measurement(
    tally: Tally, machine: Machine, group: Group, *, cores: tuple[int, ...], warmup: int, doubts: list[str]
) -> Measurement:
    record, subject, questions = tally.subject.record, tally.subject, group.questions
    assert tally.last is not None
    lengths = questions.lengths[: len(tally.seconds)]
    return Measurement(
        artifact=record.name,
        artifact_path=str(subject.path),
        artifact_sha256=subject.sha256,
        cell=record.cell,
        twin=record.twin,
        format=record.format,
        precision=record.precision,
        task=Task(
            runtime=subject.runtime,
            threads=group.threads,
            batch=1,
            tokens=questions.tokens,
            objects=record.objects,
            lengths=list(lengths),
            images=record.images,
            picture_size=record.picture_size,
            warmup=warmup,
            runs=len(tally.seconds),
        ),
        machine=machine,
        latency=Samples(unit="s", values=tally.seconds),
        rounds=tally.rounds,
        load_s=tally.worker.ready.load_s,
        cold_load_s=tally.cold.load_s,
        peak_bytes=tally.peak_bytes,
        steady_bytes=tally.last.held_bytes,
        size_bytes=subject.size_bytes,
        parameters=record.parameters,
        flops=record.flops if questions.tokens == record.tokens else None,
        energy_j=tally.energy_j,
        read_bytes=bytes_per_answer(subject.weights, questions.tokens),
        doubts=sample_warnings(at_one_length(tally.seconds, lengths))
        + process_warnings(
            threads=group.threads,
            busy_threads=tally.last.busy_threads,
            cores=cores,
            cores_held=tally.worker.ready.cores_held,
            resident=tally.cold.resident,
            is_cold=tally.cold.load_s is not None,
        )
        + doubts,
    )


def _with_doubt(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Each with a doubt that says so: what is here may be whole, but the bench is not."""
    return [
        each if INTERRUPTED in each.doubts else each.model_copy(update={"doubts": [CUT_SHORT, *each.doubts]})
        for each in measurements
    ]

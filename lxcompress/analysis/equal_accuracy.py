"""Compare, at equal accuracy, the exported tickets of a run with the dense model in int8, which needs no pruning.

A ticket's file takes part if it keeps the required share of the dense accuracy. Its speed is compared with that of the
fastest dense int8 file, and its size with that of the smallest one. Speeds are compared only within one bench, at one
task, and only if that bench measured every dense int8 file of the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lxcompress.analysis.alternatives import role_of
from lxcompress.analysis.artifacts import ExportedArtifact, latency_ms
from lxcompress.analysis.commands import bench_all_command, format_twins_command
from lxcompress.analysis.comparison import SAME_SIZE, MeasurementPair, task_key
from lxcompress.analysis.constraints import ROUNDING
from lxcompress.analysis.groups import SeedGroup, Spread
from lxcompress.analysis.protocol import has_tickets
from lxcompress.analysis.rule import Rule
from lxcompress.analysis.summary import RunSummary
from lxcompress.catalog.runtimes import list_serving
from lxcompress.measure.compare import Ratio
from lxcompress.records import BenchRecord, Measurement
from lxcompress.stats import pareto_front, student_interval
from lxcompress.units import short_percent

RIVALS = ("int8", "int4")
"""The precisions of a dense file that a ticket must beat, without the part after a hyphen (int8-static)."""


@dataclass(frozen=True)
class KeptAccuracy:
    """The accuracy of a file as a share of the dense accuracy: the mean over seeds of each seed's ratio.

    `scored` holds the seeds whose file itself was scored. For the others, the accuracy is that of the ticket, changed
    by as much as this export changed the accuracy of its own ticket.
    """

    ratios: Spread
    scored: tuple[int, ...]

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean (Student's); None with one seed."""
        return student_interval(list(self.ratios.by_seed.values()))


@dataclass(frozen=True)
class FileAtAccuracy:
    """An exported file, the share of dense accuracy that it keeps, and its measurement in the shared bench.

    `label` is the role of the file, with the sparsity for a ticket. `kept` is of the validation questions, and `tested`
    of the test split; each is None if it is not known. `measured` is None if the shared bench did not measure the file;
    of several runtimes, it is that of the fastest. `keeps_enough` says whether the file keeps the required accuracy in
    validation, and `is_optimal` whether it is on the Pareto front.
    """

    exported: ExportedArtifact
    label: str
    kept: KeptAccuracy | None
    tested: KeptAccuracy | None = None
    measured: Measurement | None = None
    keeps_enough: bool = False
    is_optimal: bool = False

    @property
    def is_ticket(self) -> bool:
        """Return whether the file was exported from a ticket, and not from a dense model."""
        return self.exported.artifact.cell is not None

    @property
    def precision(self) -> str:
        """The precision without its variant: int8 for int8-static."""
        return self.exported.artifact.precision.partition("-")[0]

    @property
    def is_rival(self) -> bool:
        """Return whether a ticket must beat the file: dense in int8, or dense in int4 with enough accuracy."""
        is_dense = self.exported.artifact.role == "dense" and self.precision in RIVALS
        return is_dense and (self.precision == "int8" or self.keeps_enough)

    @property
    def p50_ms(self) -> float | None:
        """The median latency in the shared bench, in ms; None if that bench did not measure the file."""
        return latency_ms(self.measured).p50 if self.measured else None


@dataclass(frozen=True)
class SpeedGain:
    """How many times as fast `file` is as `rival`, with a 95 % interval (None with too few rounds).

    `verdict` is faster, slower, no difference (beyond the noise of the bench) or unknown.
    """

    file: FileAtAccuracy
    rival: FileAtAccuracy
    times: float
    interval: tuple[float, float] | None
    verdict: str


@dataclass(frozen=True)
class SizeGain:
    """How many times as small `file` is as `rival`: the size of `rival` divided by the size of `file`."""

    file: FileAtAccuracy
    rival: FileAtAccuracy

    @property
    def times(self) -> float:
        """The size of the rival divided by the size of the file; above 1 the file is smaller."""
        return self.rival.exported.size_mb / self.file.exported.size_mb

    @property
    def is_smaller(self) -> bool:
        """Return whether the file is smaller by more than the size of a vocabulary."""
        return self.file.exported.size_mb < (1 - SAME_SIZE) * self.rival.exported.size_mb


@dataclass(frozen=True)
class EqualAccuracy:
    """The files of a run at equal accuracy, and how the best ticket compares with the dense model in int8.

    `floor` is the required share of the dense accuracy (0-1). Files are chosen by validation alone; what the chosen
    file keeps on the test split is only reported. `speed` and `size` are of one file, the fastest one that keeps the
    floor; if it gains in neither, `size` is of the smallest one. Both are None if nothing can be compared. `missing`
    says in words what is missing for a comparison that was not made, and `command` makes it.
    """

    floor: float
    files: tuple[FileAtAccuracy, ...]
    speed: SpeedGain | None = None
    size: SizeGain | None = None
    missing: str = ""
    command: str | None = None

    @property
    def is_decided(self) -> bool:
        """Return whether a ticket was compared with dense int8, or none keeps the required accuracy."""
        tickets = [file for file in self.files if file.is_ticket]
        return self.size is not None or (bool(tickets) and not any(file.keeps_enough for file in tickets))

    @property
    def front(self) -> tuple[FileAtAccuracy, ...]:
        """The files that are Pareto-optimal in accuracy, latency, size and memory."""
        return tuple(file for file in self.files if file.is_optimal)


@dataclass(frozen=True)
class SharedBench:
    """The measurements of one bench at one task, by the folder of the file; of several runtimes, the fastest one."""

    bench: BenchRecord
    by_folder: dict[Path, Measurement]


def compare_at_equal_accuracy(summary: RunSummary, rule: Rule) -> EqualAccuracy | None:
    """Return the comparison with dense int8 for the accuracy that `rule` requires; None if the run has no tickets.

    The dense runs must be finished; without them there is nothing to compare with, and the result is None.
    """
    if summary.dense is None or not has_tickets(summary.recipe) or not summary.dense.overall.mean:
        return None
    dense = summary.dense.overall
    floor = rule.threshold(dense.mean) / dense.mean
    files = []
    for exported in summary.artifacts:
        group = _group_of(exported, summary)
        if exported.artifact.role == "model" or (group and group.key.method.is_control):
            continue
        kept, tested = _kept(exported, summary), _tested(exported, summary)
        is_enough = kept is not None and kept.ratios.mean >= floor - ROUNDING
        files.append(FileAtAccuracy(exported, _label(exported, summary), kept, tested, keeps_enough=is_enough))
    shared = find_shared_bench(files, summary.recipe.bench.threads)
    files = _mark_front([_measured_in(shared, file) for file in files])
    return _compare(EqualAccuracy(floor, tuple(files)), shared, summary.root)


def _label(exported: ExportedArtifact, summary: RunSummary) -> str:
    """Return the role of a file, with the sparsity for a ticket, and its method if several methods are exported.

    A ticket that was exported as a twin of another needs no method: its role says what it is.
    """
    group, role = _group_of(exported, summary), role_of(exported)
    if group is None:
        return role
    methods = {
        found.key.method.id for other in summary.artifacts if (found := _group_of(other, summary)) in summary.groups
    }
    series = f" {group.key.series}" if len(methods) > 1 and group in summary.groups else ""
    return f"{role}{series} {short_percent(group.key.target)} %"


def find_shared_bench(files: Sequence[FileAtAccuracy], threads: int) -> SharedBench | None:
    """Return the bench in which the tickets and the dense int8 files were measured at one task; None without a bench.

    Benches that measured all dense int8 files come first, then those of this machine, with `threads` threads, with
    questions as long as those of the data, with more tickets that keep enough accuracy, and newer ones.
    """
    found: dict[tuple[object, ...], SharedBench] = {}
    for file in files:
        for measured, bench in file.exported.benches:
            shared = found.setdefault((id(bench), measured.target, *task_key(measured)), SharedBench(bench, {}))
            before = shared.by_folder.get(file.exported.folder)
            if before is None or latency_ms(measured).p50 < latency_ms(before).p50:
                shared.by_folder[file.exported.folder] = measured
    able = [file.exported.folder for file in files if file.is_ticket and file.keeps_enough]

    def order(shared: SharedBench) -> tuple[bool, bool, bool, bool, bool, int, str]:
        one = next(iter(shared.by_folder.values()))
        tickets = sum(folder in shared.by_folder for folder in able)
        return (
            not _unmeasured_rivals(files, shared.by_folder),
            tickets > 0,
            one.target is None,
            one.task.threads == threads,
            bool(one.task.lengths),
            tickets,
            shared.bench.started,
        )

    return max(found.values(), key=order, default=None)


def _compare(found: EqualAccuracy, shared: SharedBench | None, root: Path) -> EqualAccuracy:
    """Return `found` with the gains of its best file, or with what is missing for them."""
    tickets = [file for file in found.files if file.is_ticket]
    rivals = [file for file in found.files if file.is_rival]
    able = [file for file in tickets if file.keeps_enough]
    if not tickets:
        return _without(found, "no ticket is exported", None)
    if not rivals:
        ticket = (able or tickets)[0].exported.artifact
        command = format_twins_command(root / ticket.source, ticket.format)
        return _without(found, "the dense model in int8 is not exported", command)
    if not able:
        return found
    smallest_rival = min(rivals, key=lambda file: file.exported.size_mb)
    smallest = SizeGain(min(able, key=lambda file: file.exported.size_mb), smallest_rival)
    measured = [file for file in able if file.measured]
    by_folder = shared.by_folder if shared else {}
    lacking = _unmeasured_rivals(found.files, by_folder)
    if shared is None or not measured or lacking:
        names = ", ".join(f"{file.label} ({file.exported.artifact.format})" for file in lacking)
        lack = f", and no bench of the tickets has {names}" if measured else ""
        return _without(
            found, f"speed is not compared: one bench must measure both{lack}", bench_all_command(root), smallest
        )
    fastest_rival = min((file for file in rivals if file.measured), key=_p50)
    best = _smallest_of_fastest(measured, shared.bench)
    speed = _speed_gain(best, fastest_rival, shared.bench)
    size = SizeGain(best, smallest_rival)
    if speed.verdict != "faster" and not size.is_smaller:
        size = smallest
    unmeasured = len(able) - len(measured)
    were = "was" if unmeasured == 1 else "were"
    missing = (
        f"{unmeasured} of the files that keep enough accuracy {were} not measured in that bench" if unmeasured else ""
    )
    again = bench_all_command(root) if unmeasured else None
    return replace(found, speed=speed, size=size, missing=missing, command=again)


def _without(found: EqualAccuracy, missing: str, command: str | None, size: SizeGain | None = None) -> EqualAccuracy:
    """Return `found` without a comparison of speeds, with what is missing for it."""
    return replace(found, size=size, missing=missing, command=command)


def _unmeasured_rivals(files: Iterable[FileAtAccuracy], by_folder: Mapping[Path, Measurement]) -> list[FileAtAccuracy]:
    """Return the dense int8 files that a bench did not measure, and that a runtime here could have served.

    Files of several seeds differ in values only, so one file of each format and precision is enough.
    """
    rivals = [file for file in files if file.is_rival and list_serving(file.exported.artifact.format)]
    known = {_kind(file) for file in rivals if file.exported.folder in by_folder}
    return [file for file in rivals if _kind(file) not in known]


def _kind(file: FileAtAccuracy) -> tuple[str, str]:
    """Return the format and the precision of a file."""
    return file.exported.artifact.format, file.exported.artifact.precision


def _smallest_of_fastest(files: Sequence[FileAtAccuracy], bench: BenchRecord) -> FileAtAccuracy:
    """Return the smallest of the files that are not slower than the fastest one, as far as the bench can tell."""
    fastest = min(files, key=_p50)
    quick = [
        file for file in files if file is fastest or _ratio(file, fastest, bench).verdict in ("no difference", "faster")
    ]
    return min(quick, key=lambda file: (file.exported.size_mb, _p50(file)))


def _speed_gain(file: FileAtAccuracy, rival: FileAtAccuracy, bench: BenchRecord) -> SpeedGain:
    """Return how many times as fast `file` is as `rival`: the inverse of the ratio of their times."""
    found = _ratio(file, rival, bench)
    interval = None if found.low is None or found.high is None else (1 / found.high, 1 / found.low)
    return SpeedGain(file, rival, 1 / found.value, interval, found.verdict)


def _ratio(one: FileAtAccuracy, other: FileAtAccuracy, bench: BenchRecord) -> Ratio:
    """Return the median time of `one` divided by that of `other`, both measured in `bench`."""
    assert one.measured is not None
    assert other.measured is not None
    return MeasurementPair(one.measured, other.measured, bench).ratio


def _p50(file: FileAtAccuracy) -> float:
    """Return the median latency of a file that the shared bench measured, in ms."""
    assert file.p50_ms is not None
    return file.p50_ms


def _measured_in(shared: SharedBench | None, file: FileAtAccuracy) -> FileAtAccuracy:
    """Return the file with its measurement in the shared bench."""
    return replace(file, measured=shared.by_folder.get(file.exported.folder) if shared else None)


def _mark_front(files: Sequence[FileAtAccuracy]) -> list[FileAtAccuracy]:
    """Return the files, with those marked that are Pareto-optimal in accuracy, latency, size and memory."""
    known = [file for file in files if file.kept is not None and file.measured is not None]

    def point(file: FileAtAccuracy) -> tuple[float, ...]:
        assert file.kept is not None
        assert file.measured is not None
        peak = math.inf if file.measured.peak_bytes is None else file.measured.peak_bytes
        return -file.kept.ratios.mean, _p50(file), file.exported.size_mb, peak

    front = pareto_front(known, better=point)
    return [replace(file, is_optimal=any(file is optimal for optimal in front)) for file in files]


def _kept(exported: ExportedArtifact, summary: RunSummary) -> KeptAccuracy | None:
    """Return the share of dense accuracy that a file keeps in validation, over all seeds of its method and sparsity.

    Return None if the answers of the file were not checked, or if no dense run of its seeds is known.
    """
    group = _group_of(exported, summary)
    tickets = group.retrained.overall.by_seed if group else {}
    files = {
        other.artifact.seed: other.artifact.accuracy.accuracy
        for other in _alike(exported, summary)
        if other.artifact.seed is not None and other.artifact.accuracy is not None
    }
    assert summary.dense is not None
    return _share_of(exported, summary.dense.overall.by_seed, tickets, files)


def _tested(exported: ExportedArtifact, summary: RunSummary) -> KeptAccuracy | None:
    """Return the share of dense accuracy that a file keeps on the test split, as `_kept` does; None without a test."""
    dense = {run.seed: run.test.accuracy for run in summary.dense_runs if run.test}
    cells = _cells_of(exported, summary)
    results = (result for result in (*summary.results, *summary.twin_results) if result.cell in cells)
    tickets = {result.seed: result.test.accuracy for result in results if result.test}
    files = {
        other.artifact.seed: other.artifact.test.accuracy
        for other in _alike(exported, summary)
        if other.artifact.seed is not None and other.artifact.test is not None
    }
    return _share_of(exported, dense, tickets, files)


def _share_of(
    exported: ExportedArtifact,
    dense: Mapping[int, float],
    tickets: Mapping[int, float],
    files: Mapping[int, float],
) -> KeptAccuracy | None:
    """Return the share of dense accuracy that a file keeps, from accuracies by seed; None if none is known.

    The accuracy of a seed is that of its file. Without a file it is that of its ticket, plus the difference that this
    export made to the validation accuracy of its own ticket.
    """
    if exported.artifact.accuracy is None and exported.artifact.parity is None:
        return None
    change = exported.accuracy_change or 0.0
    scores = {**{seed: score + change for seed, score in tickets.items()}, **files}
    ratios = {seed: score / dense[seed] for seed, score in sorted(scores.items()) if dense.get(seed)}
    return KeptAccuracy(Spread(ratios), tuple(seed for seed in ratios if seed in files)) if ratios else None


def _alike(exported: ExportedArtifact, summary: RunSummary) -> list[ExportedArtifact]:
    """Return the files with the method, sparsity, format and precision of `exported`, of any seed."""
    artifact, cells = exported.artifact, _cells_of(exported, summary)
    return [
        other
        for other in summary.artifacts
        if (other.artifact.format, other.artifact.precision) == (artifact.format, artifact.precision)
        and other.artifact.cell in cells
        and other.artifact.role != "model"
    ]


def _cells_of(exported: ExportedArtifact, summary: RunSummary) -> set[str | None]:
    """Return the ids of the runs, of any seed, with the method and sparsity of a file; {None} for a dense model."""
    group = _group_of(exported, summary)
    return {group.key.cell(seed).id for seed in group.seeds} if group else {exported.artifact.cell}


def _group_of(exported: ExportedArtifact, summary: RunSummary) -> SeedGroup | None:
    """Return the group of runs that the ticket of a file is of; None for a dense model, and if it is not known."""
    cell = exported.artifact.cell
    groups = (*summary.groups, *summary.twins)
    return next((group for group in groups if any(cell == group.key.cell(seed).id for seed in group.seeds)), None)

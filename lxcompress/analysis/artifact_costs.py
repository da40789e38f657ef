"""Compare the accuracy of exported artifacts with their costs (size, latency, memory), and find the Pareto fronts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lxcompress.analysis.alternatives import DENSE_INT8, role_of
from lxcompress.analysis.artifacts import ExportedArtifact
from lxcompress.analysis.commands import twins_command
from lxcompress.analysis.protocol import has_tickets
from lxcompress.analysis.summary import RunSummary
from lxcompress.records import Measurement
from lxcompress.stats import pareto_front
from lxcompress.units import short_percent

BASELINES: Mapping[str, str] = {"dense": "dense", DENSE_INT8: "the dense model in int8"}
"""The role of a file that needs neither a study nor a ticket -> the name of that file in a sentence."""


@dataclass(frozen=True)
class CostEntry:
    """An exported artifact, and the number that stands for it in the charts and tables.

    `role` says what the artifact is: dense, dense int8, ticket, structured and so on. `label` is the role, followed by
    the sparsity for a ticket. `is_smaller` says whether the model has smaller matrices (structured pruning).
    `is_picked` says whether it is the artifact to ship.
    """

    number: int
    exported: ExportedArtifact
    role: str
    label: str
    is_smaller: bool
    is_picked: bool

    @property
    def accuracy(self) -> float | None:
        """The accuracy of the exported file, 0-1."""
        return self.exported.accuracy


@dataclass(frozen=True)
class CostAxis:
    """A kind of cost: its name, its unit, and the function that returns it for an artifact (None if it is unknown)."""

    title: str
    unit: str
    value: Callable[[ExportedArtifact], float | None]


COST_AXES: tuple[CostAxis, ...] = (
    CostAxis("size", "MB on disk", lambda exported: exported.size_mb),
    CostAxis("latency", "ms, p90 of one answer", lambda exported: exported.latency_p90_ms),
    CostAxis("memory", "MB, peak of the process", lambda exported: exported.peak_mb),
)


@dataclass(frozen=True)
class MissingBaselines:
    """A ticket that was exported without its baselines: which ones are missing, and the command that exports them.

    The baselines are the dense model and the dense model in int8; both need no pruning.
    """

    ticket: str
    twins: tuple[str, ...]
    command: str


def number_artifacts(summary: RunSummary, picked: ExportedArtifact | None = None) -> tuple[CostEntry, ...]:
    """Return a numbered entry for each artifact of a run, from 1; `picked` is the artifact to ship."""
    targets = {result.cell: result.target for result in (*summary.results, *summary.twin_results)}
    entries = []
    for number, exported in enumerate(summary.artifacts, 1):
        role = role_of(exported)
        target = targets.get(exported.artifact.cell or "")
        entries.append(
            CostEntry(
                number=number,
                exported=exported,
                role=role,
                label=role if target is None else f"{role} {short_percent(target)} %",
                is_smaller=role.startswith("structured") or exported.is_smaller,
                is_picked=picked is not None and exported.folder == picked.folder,
            )
        )
    return tuple(entries)


def find_dense(entries: Sequence[CostEntry]) -> CostEntry | None:
    """Return the entry of the dense model in fp32, which ratios are relative to; None if it is not exported.

    If there are several, a file that was exported as a twin is preferred, and then an ONNX file.
    """
    dense = [entry for entry in entries if entry.role == "dense"]

    def order(entry: CostEntry) -> tuple[bool, bool]:
        return not entry.exported.artifact.twin, entry.exported.artifact.format != "onnx"

    return min(dense, key=order, default=None)


def ratio(entry: CostEntry, dense: CostEntry | None, axis: CostAxis) -> float | None:
    """Return the cost of an artifact divided by that of the dense model; None if the two cannot be compared."""
    if dense is None or dense is entry:
        return None
    mine, its = axis.value(entry.exported), axis.value(dense.exported)
    if mine is None or not its:
        return None
    if axis.title != "size" and not _is_comparable(entry.exported, dense.exported):
        return None
    return mine / its


def find_front(entries: Sequence[CostEntry], axis: CostAxis) -> list[CostEntry]:
    """Return the artifacts that are Pareto-optimal in accuracy and in the cost `axis`, the cheapest first."""
    known = [
        (entry, cost, entry.accuracy)
        for entry in entries
        if (cost := axis.value(entry.exported)) is not None and entry.accuracy is not None
    ]
    front = pareto_front(known, better=lambda point: (point[1], -point[2]))
    return [entry for entry, _, _ in sorted(front, key=lambda point: point[1])]


def find_missing_baselines(summary: RunSummary, entries: Sequence[CostEntry]) -> list[MissingBaselines]:
    """Return one MissingBaselines for each exported ticket if the dense model, or dense int8, is not exported."""
    there = {entry.role for entry in entries}
    twins = tuple(words for role, words in BASELINES.items() if role not in there)
    if not twins or not has_tickets(summary.recipe):
        return []
    cells = dict.fromkeys(entry.exported.artifact.cell for entry in entries)
    return [MissingBaselines(cell, twins, twins_command(summary.root, cell)) for cell in cells if cell]


def _is_comparable(one: ExportedArtifact, other: ExportedArtifact) -> bool:
    """Return whether two files were measured in one bench and at the same task; their runtimes may differ.

    In another bench, other programs may have been running, or the processor may have been hotter. That would change the
    ratio of two times.
    """
    mine, its = one.fresh, other.fresh
    if mine is None or its is None or _circumstances(mine) != _circumstances(its):
        return False
    benches = [
        next(bench for measured, bench in exported.benches if measured is exported.fresh) for exported in (one, other)
    ]
    return benches[0] is benches[1]


def _circumstances(measured: Measurement) -> tuple[object, ...]:
    """Return the task (without the runtime) and the machine of a measurement, as a tuple to compare."""
    task, machine = measured.task, measured.machine
    lengths = "as the data's" if task.lengths else task.tokens
    return (
        (task.threads, task.batch, lengths, task.objects, task.images),
        (measured.target, machine.processor, machine.cores, machine.system),
    )

"""What shipping costs, artifact by artifact: its twins, its ratio to the dense model, and fronts to choose on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from lxcompress.analysis.alternatives import role_of
from lxcompress.analysis.pick import bench_command
from lxcompress.analysis.protocol import has_tickets
from lxcompress.analysis.summary import ExportedArtifact, RunSummary, latency_ms
from lxcompress.catalog.runtimes import list_serving
from lxcompress.output import command_line
from lxcompress.records import Measurement, Task
from lxcompress.report.chart import Dot, accuracy_span, dot_key_svg, level_key_svg, trade_chart
from lxcompress.report.curves import SMALL, Panel
from lxcompress.stats import pareto_front
from lxcompress.units import duration, percent, significant

MARKER_OF: Mapping[str, str] = {"fp32": "o", "fp16": "D", "bf16": "v", "int8": "s", "int8-static": "^"}
MOST_LETTERS = 20
FREE: Mapping[str, str] = {"dense": "dense", "dense int8": "the dense model in int8"}
"""The twins that cost nothing to have: no study, no ticket."""


@dataclass(frozen=True)
class Entry:
    """A cost under the number that the charts and tables call it by.

    `kind` is what it stands for: dense, ticket or structured, and the precision where that is not fp32.
    """

    number: int
    cost: ExportedArtifact
    kind: str
    is_smaller: bool
    is_picked: bool

    @property
    def colour(self) -> str:
        return "s2" if self.is_smaller else "ink" if self.cost.artifact.cell is None else "s0"

    @property
    def marker(self) -> str:
        return MARKER_OF.get(self.cost.artifact.precision, "x")

    @property
    def accuracy(self) -> float | None:
        """Of the exported file, 0-1."""
        score = self.cost.artifact.accuracy
        return score.accuracy if score else None

    @property
    def size_mb(self) -> float:
        return self.cost.size_mb

    @property
    def latency_p90_ms(self) -> float | None:
        return latency_ms(self.cost.fresh).p90 if self.cost.fresh else None

    @property
    def peak_mb(self) -> float | None:
        peak = self.cost.fresh.peak_bytes if self.cost.fresh else None
        return None if peak is None else peak / 1e6


@dataclass(frozen=True)
class CostAxis:
    """A cost that accuracy is held against: its name, its unit, and how it is read (None: not known)."""

    title: str
    unit: str
    value: Callable[[Entry], float | None]


COST_AXES: tuple[CostAxis, ...] = (
    CostAxis("size", "MB on disk", lambda entry: entry.size_mb),
    CostAxis("latency", "ms, p90 of one answer", lambda entry: entry.latency_p90_ms),
    CostAxis("memory", "MB, peak of the process", lambda entry: entry.peak_mb),
)


@dataclass(frozen=True)
class MissingBaselines:
    """A ticket that is shown without alternatives that cost nothing, and what makes them."""

    ticket: str
    twins: tuple[str, ...]
    command: str


def number_costs(summary: RunSummary, picked: ExportedArtifact | None = None) -> tuple[Entry, ...]:
    """The artifacts of a run, each with its number; `picked` is the file of the ticket to ship."""
    entries = []
    for number, cost in enumerate(summary.costs, 1):
        kind = role_of(cost)
        is_smaller = kind.startswith("structured") or cost.is_smaller
        entries.append(Entry(number, cost, kind, is_smaller, picked is not None and cost.folder == picked.folder))
    return tuple(entries)


def find_dense(entries: Sequence[Entry]) -> Entry | None:
    """What ratios are to: the dense model as it is, its ONNX file where there are several."""
    dense = [entry for entry in entries if entry.kind == "dense"]
    return min(
        dense, key=lambda entry: (not entry.cost.artifact.twin, entry.cost.artifact.format != "onnx"), default=None
    )


def ratio(entry: Entry, dense: Entry | None, trade: CostAxis) -> float | None:
    """How many times the dense model's cost an artifact has; None where the two do not compare."""
    if dense is None or dense is entry:
        return None
    mine, its = trade.value(entry), trade.value(dense)
    if mine is None or not its:
        return None
    if trade.title != "size" and not _is_comparable(entry.cost, dense.cost):
        return None
    return mine / its


def find_front(entries: Sequence[Entry], trade: CostAxis) -> list[Entry]:
    """The artifacts that no other beats in both accuracy and this cost, the cheapest first."""
    placed = [entry for entry in entries if entry.accuracy is not None and trade.value(entry) is not None]
    front = pareto_front(placed, better=lambda entry: (trade.value(entry) or 0.0, -(entry.accuracy or 0.0)))
    return sorted(front, key=lambda entry: trade.value(entry) or 0.0)


def find_missing_baselines(summary: RunSummary, entries: Sequence[Entry]) -> list[MissingBaselines]:
    """The exported tickets beside which the dense model, or the dense model in int8, is not shown."""
    twins = tuple(words for kind, words in FREE.items() if kind not in {entry.kind for entry in entries})
    if not twins or not has_tickets(summary.recipe):
        return []
    tickets = dict.fromkeys(each.cost.artifact.cell for each in entries if each.cost.artifact.cell)
    return [MissingBaselines(ticket, twins, twins_command(summary, ticket)) for ticket in tickets if ticket]


def twins_command(summary: RunSummary, cell: str) -> str:
    """What exports the ticket of a cell beside its alternatives."""
    return command_line("export", summary.root / "tickets" / cell, "--twins")


def trade_panels(entries: Sequence[Entry]) -> list[Panel]:
    """Accuracy of the exported files against each cost that is known of two of them, with its front."""
    panels = []
    for trade in COST_AXES:
        placed = [each for each in entries if each.accuracy is not None and trade.value(each) is not None]
        if len(placed) < 2:
            continue
        front = find_front(entries, trade)
        words = ", ".join(f"{each.number} {each.kind}" for each in front)
        width, height = SMALL
        chart = trade_chart(
            [_dot(each, trade) for each in placed],
            [(trade.value(each) or 0.0, each.accuracy or 0.0) for each in front],
            y=accuracy_span([each.accuracy or 0.0 for each in placed]),
            width=width,
            height=height,
            description=f"Accuracy of the exported files against {trade.title}. On the Pareto front: {words}.",
            x_title=trade.unit,
        )
        panels.append(Panel(f"against {trade.title}", f"on the front: {words}", chart))
    return panels


def unplaced_words(entries: Sequence[Entry]) -> list[str]:
    """What each trade chart leaves out, and for want of what."""
    lacks = {
        "accuracy": [each for each in entries if each.accuracy is None],
        **{trade.title: [each for each in entries if trade.value(each) is None] for trade in COST_AXES},
    }
    return [f"{what} of {', '.join(str(each.number) for each in found)}" for what, found in lacks.items() if found]


def trade_legend(entries: Sequence[Entry]) -> list[tuple[Markup, str]]:
    """The looks that the trade charts use, and what they stand for."""
    looks = {entry.kind: (entry.colour, entry.marker) for entry in entries}
    keys = [(dot_key_svg(*look), kind) for kind, look in looks.items()]
    return [*keys, (level_key_svg("front"), "Pareto front: nothing is better in both")]


def cost_rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """The cost table, a row an artifact, as words."""
    dense = find_dense(entries)
    return [_row(entry, dense) for entry in entries]


def measurement_rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Every fresh measurement, the usual one of each artifact first, as words."""
    return [
        {
            "number": entry.number,
            "name": entry.cost.artifact.name,
            "is_usual": each is entry.cost.fresh,
            "task": f"{each.task.runtime}, {task_words(each.task)}",
            "where": each.target or each.machine.processor,
            **_times(each),
            "doubts": each.doubts,
        }
        for entry in entries
        for each in entry.cost.measurements
    ]


def has_more(entries: Sequence[Entry]) -> bool:
    """Whether some artifact was measured at more than its usual task."""
    return any(len(entry.cost.measurements) > 1 for entry in entries)


def task_words(task: Task) -> str:
    """1 thread, 20 tokens, 36 objects."""
    threads = "1 thread" if task.threads == 1 else f"{task.threads} threads"
    tokens = f"lengths as the data's (median {task.tokens} tokens)" if task.lengths else f"{task.tokens} tokens"
    images = "" if task.images == 1 else f"{task.images} images of "
    batch = "" if task.batch == 1 else f"batches of {task.batch}, "
    return f"{threads}, {batch}{tokens}, {images}{task.objects} objects"


def times(value: float) -> str:
    """×0.25, with as many digits as a ratio is worth."""
    return f"×{value:.2f}" if value < 10 else f"×{value:.0f}"


def _is_comparable(one: ExportedArtifact, other: ExportedArtifact) -> bool:
    """Whether both files were measured at one task in one bench; the runtimes may differ.

    Two benches may have met other programs, or a hotter processor: a ratio between them is of those too.
    """
    mine, its = one.fresh, other.fresh
    if mine is None or its is None or _circumstances(mine) != _circumstances(its):
        return False
    benches = [next(bench for measured, bench in each.benches if measured is each.fresh) for each in (one, other)]
    return benches[0] is benches[1]


def _circumstances(measured: Measurement) -> tuple[object, ...]:
    task, machine = measured.task, measured.machine
    lengths = "as the data's" if task.lengths else task.tokens
    return (
        (task.threads, task.batch, lengths, task.objects, task.images),
        (measured.target, machine.processor, machine.cores, machine.system),
    )


def _dot(entry: Entry, trade: CostAxis) -> Dot:
    value, accuracy = trade.value(entry), entry.accuracy
    assert value is not None
    assert accuracy is not None
    artifact = entry.cost.artifact
    return Dot(
        x=value,
        y=accuracy,
        colour=entry.colour,
        marker=entry.marker,
        labels=(f"{entry.number} {entry.kind}"[:MOST_LETTERS], str(entry.number)),
        title=f"{entry.number} {artifact.name}: {artifact.format} {artifact.precision}, {significant(value)} "
        f"{trade.unit}, accuracy {percent(accuracy)} %",
        is_marked=entry.is_picked,
    )


def _row(entry: Entry, dense: Entry | None) -> dict[str, Any]:
    cost, artifact = entry.cost, entry.cost.artifact
    parity, measured = artifact.parity, cost.measurement
    ratios = [ratio(entry, dense, trade) for trade in COST_AXES]
    size, latency, memory = (times(each) if each is not None else None for each in ratios)
    return {
        "number": entry.number,
        "key": dot_key_svg(entry.colour, entry.marker),
        "name": artifact.name,
        "kind": entry.kind,
        "of": artifact.cell or "dense",
        "format": artifact.format,
        "precision": artifact.precision,
        "runtime": measured.task.runtime if measured and measured.task.runtime != artifact.format else None,
        "size": significant(cost.size_mb) if cost.size_mb < 100 else f"{cost.size_mb:.0f}",
        "size_ratio": size,
        "zeros": f"{percent(artifact.prunable_zeros, 1)} %" if artifact.prunable_zeros is not None else "not counted",
        "times": _times(measured) if measured else None,
        "latency_ratio": latency,
        "memory_ratio": memory,
        "accuracy": percent(artifact.accuracy.accuracy) if artifact.accuracy else None,
        "change": cost.accuracy_change,
        "parity": f"{parity.max_abs_difference:.1e}" if parity else None,
        "changed": f"{parity.changed_answers} of {parity.questions}" if parity else None,
        "unproven": artifact.unproven,
        "is_stale": cost.is_stale,
        "is_reference": entry is dense,
        "is_picked": entry.is_picked,
        "doubts": cost.doubts,
        "command": bench_command(cost.folder) if cost.fresh is None and list_serving(artifact.format) else None,
    }


def _times(measured: Measurement) -> dict[str, str | None]:
    """What was measured, as words; None where it was not."""
    latency = latency_ms(measured)
    return {
        "p50": f"{latency.p50:.3g}",
        "p90": f"{latency.p90:.3g}",
        "p99": f"{latency.p99:.3g}",
        "load": _seconds(measured.load_s),
        "cold_load": _seconds(measured.cold_load_s),
        "peak": _megabytes(measured.peak_bytes),
        "steady": _megabytes(measured.steady_bytes),
        "energy": None if measured.energy_j is None else significant(1000 * measured.energy_j),
    }


def _megabytes(value: int | None) -> str | None:
    return None if value is None else f"{value / 1e6:.0f}"


def _seconds(value: float | None) -> str | None:
    if value is None:
        return None
    return significant(value, 2) if value < 100 else duration(value)

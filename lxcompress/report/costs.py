"""The section on costs: charts of accuracy against size, latency and memory, and the table of artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lxcompress.analysis.artifact_costs import (
    COST_AXES,
    CostAxis,
    CostEntry,
    find_dense,
    find_front,
    find_missing_baselines,
    number_artifacts,
    ratio,
)
from lxcompress.analysis.artifacts import latency_ms, mixed_measurements
from lxcompress.analysis.choice import Choice
from lxcompress.analysis.commands import bench_command, export_commands, twins_command
from lxcompress.analysis.pick import ticket_of
from lxcompress.analysis.protocol import has_tickets
from lxcompress.analysis.summary import RunSummary
from lxcompress.catalog.runtimes import list_serving
from lxcompress.records import Measurement, Task
from lxcompress.report.chart.axes import accuracy_span
from lxcompress.report.chart.keys import dot_key, level_key
from lxcompress.report.chart.scatter import CostChart, Dot, cost_chart
from lxcompress.report.curves import SMALL
from lxcompress.report.page import CostRow, CostSection, LegendKey, MeasuredTimes, MeasurementRow, Panel
from lxcompress.units import duration, percent, significant

MARKER_OF: Mapping[str, str] = {"fp32": "o", "fp16": "D", "bf16": "v", "int8": "s", "int8-static": "^", "int4": "p"}
MOST_LETTERS = 20
"""The largest number of characters in the label of a dot."""


def cost_section(summary: RunSummary, choice: Choice) -> CostSection:
    """Return the section on the costs of the artifacts; it has no rows while nothing is exported."""
    picked = choice.picked
    entries = number_artifacts(summary, picked.exported if picked else None)
    fresh = [entry.exported.fresh for entry in entries if entry.exported.fresh]
    return CostSection(
        rows=cost_rows(entries),
        tasks=sorted({task_words(measured.task) for measured in fresh}),
        measurements=measurement_rows(entries) if has_more(entries) else [],
        panels=cost_panels(entries),
        legend=_legend(entries),
        not_drawn=not_drawn_words(entries),
        has_mark=any(entry.is_picked for entry in entries),
        has_energy=any(measured.energy_j is not None for entry in entries for measured in entry.exported.measurements),
        has_structured=any(group.key.method.is_structured for group in summary.groups),
        reference=find_dense(entries),
        missing_baselines=find_missing_baselines(summary, entries),
        twins_command=twins_command(summary.root, picked.cell) if picked else None,
        commands=_commands(summary, choice),
        warnings=mixed_measurements(summary.artifacts),
    )


def cost_panels(entries: Sequence[CostEntry]) -> list[Panel]:
    """Return a chart of accuracy against each cost that is known for at least two artifacts, with its Pareto front."""
    panels = []
    for axis in COST_AXES:
        placed = [dot for entry in entries if (dot := _dot(entry, axis)) is not None]
        if len(placed) < 2:
            continue
        front = find_front(entries, axis)
        words = ", ".join(f"{entry.number} {entry.role}" for entry in front)
        corners = [(axis.value(entry.exported) or 0.0, entry.accuracy or 0.0) for entry in front]
        description = f"Accuracy of the exported files against {axis.title}. On the Pareto front: {words}."
        y = accuracy_span([dot.y for dot in placed])
        chart = cost_chart(CostChart(placed, corners, y, axis.unit, description), SMALL)
        panels.append(Panel(f"against {axis.title}", f"Pareto-optimal: {words}", chart))
    return panels


def not_drawn_words(entries: Sequence[CostEntry]) -> list[str]:
    """Return which values are unknown and for which artifacts, as text: the charts leave these artifacts out."""
    missing = {
        "accuracy": [entry for entry in entries if entry.accuracy is None],
        **{axis.title: [entry for entry in entries if axis.value(entry.exported) is None] for axis in COST_AXES},
    }
    return [f"{what} of {', '.join(str(entry.number) for entry in found)}" for what, found in missing.items() if found]


def cost_rows(entries: Sequence[CostEntry]) -> list[CostRow]:
    """Return the rows of the cost table, one for each artifact."""
    dense = find_dense(entries)
    return [_cost_row(entry, dense) for entry in entries]


def measurement_rows(entries: Sequence[CostEntry]) -> list[MeasurementRow]:
    """Return a row for every measurement of a file that was not replaced since; the one in the charts comes first."""
    return [
        MeasurementRow(
            number=entry.number,
            label=entry.label,
            is_default=measured is entry.exported.fresh,
            task=f"{measured.task.runtime}, {task_words(measured.task)}",
            machine=measured.target or measured.machine.processor,
            times=_times(measured),
            warnings=measured.doubts,
        )
        for entry in entries
        for measured in entry.exported.measurements
    ]


def has_more(entries: Sequence[CostEntry]) -> bool:
    """Return whether an artifact was measured at other tasks than its default task."""
    return any(len(entry.exported.measurements) > 1 for entry in entries)


def task_words(task: Task) -> str:
    """Return the task of a measurement as text: "1 thread, 20 tokens, 36 objects"."""
    threads = "1 thread" if task.threads == 1 else f"{task.threads} threads"
    tokens = f"lengths as the data's (median {task.tokens} tokens)" if task.lengths else f"{task.tokens} tokens"
    images = "" if task.images == 1 else f"{task.images} images of "
    batch = "" if task.batch == 1 else f"batches of {task.batch}, "
    return f"{threads}, {batch}{tokens}, {images}{task.objects} objects"


def times(value: float) -> str:
    """Return a ratio as text: "×0.25", or "×12" from 10 on."""
    return f"×{value:.2f}" if value < 10 else f"×{value:.0f}"


def _commands(summary: RunSummary, choice: Choice) -> tuple[str, ...]:
    """Return the commands to run so that the ticket to ship is in the cost table; none if nothing is left to run."""
    if choice.picked is not None:
        return choice.picked.commands
    if summary.artifacts or not summary.results or not has_tickets(summary.recipe):
        return ()
    tickets = [group for group in summary.groups if not group.key.method.is_control]
    return export_commands(ticket_of(summary, tickets[0])) if tickets else ()


def _legend(entries: Sequence[CostEntry]) -> list[LegendKey]:
    """Return the legend of the cost charts: a sample for each role of an artifact, and one for the Pareto front."""
    looks = {entry.role: (_colour(entry), _marker(entry)) for entry in entries}
    keys = [LegendKey(dot_key(*look), role) for role, look in looks.items()]
    return [*keys, LegendKey(level_key("front"), "Pareto front: no file is better in both")]


def _colour(entry: CostEntry) -> str:
    """Return the colour of an artifact's dot: one for smaller models, one for dense models, one for masked models."""
    return "s2" if entry.is_smaller else "ink" if entry.exported.artifact.cell is None else "s0"


def _marker(entry: CostEntry) -> str:
    """Return the marker of an artifact's dot, which stands for its precision."""
    return MARKER_OF.get(entry.exported.artifact.precision, "x")


def _dot(entry: CostEntry, axis: CostAxis) -> Dot | None:
    """Return the dot of an artifact; None if its accuracy or the cost `axis` is unknown."""
    value, accuracy = axis.value(entry.exported), entry.accuracy
    if value is None or accuracy is None:
        return None
    artifact = entry.exported.artifact
    return Dot(
        x=value,
        y=accuracy,
        colour=_colour(entry),
        marker=_marker(entry),
        labels=(f"{entry.number} {entry.role}"[:MOST_LETTERS], str(entry.number)),
        title=f"{entry.number} {artifact.name}: {artifact.format} {artifact.precision}, {significant(value)} "
        f"{axis.unit}, accuracy {percent(accuracy)} %",
        is_marked=entry.is_picked,
    )


def _cost_row(entry: CostEntry, dense: CostEntry | None) -> CostRow:
    """Return the row of an artifact as text; `dense` is the artifact that the ratios are relative to."""
    exported, artifact = entry.exported, entry.exported.artifact
    parity, measured = artifact.parity, exported.measurement
    ratios = [ratio(entry, dense, axis) for axis in COST_AXES]
    size, latency, memory = (times(value) if value is not None else None for value in ratios)
    zeros = artifact.prunable_zeros
    return CostRow(
        number=entry.number,
        label=entry.label,
        name=artifact.name,
        cell=artifact.cell or "dense",
        format=artifact.format,
        precision=artifact.precision,
        runtime=measured.task.runtime if measured and measured.task.runtime != artifact.format else None,
        size=significant(exported.size_mb) if exported.size_mb < 100 else f"{exported.size_mb:.0f}",
        size_ratio=size,
        zeros="not counted" if zeros is None else f"{percent(zeros, 1)} %",
        times=_times(measured) if measured else None,
        latency_ratio=latency,
        memory_ratio=memory,
        accuracy=percent(artifact.accuracy.accuracy) if artifact.accuracy else None,
        accuracy_change=exported.accuracy_change,
        parity=f"{parity.max_abs_difference:.1e}" if parity else None,
        changed_answers=f"{parity.changed_answers} of {parity.questions}" if parity else None,
        notes=[*exported.warnings, *([artifact.unproven] if artifact.unproven else [])],
        is_stale=exported.is_stale,
        is_reference=entry is dense,
        is_picked=entry.is_picked,
        command=bench_command(exported.folder) if not exported.fresh and list_serving(artifact.format) else None,
    )


def _times(measured: Measurement) -> MeasuredTimes:
    """Return the times, the memory and the energy of a measurement as text."""
    latency = latency_ms(measured)
    return MeasuredTimes(
        p50=f"{latency.p50:.3g}",
        p90=f"{latency.p90:.3g}",
        p99=f"{latency.p99:.3g}",
        load=_seconds(measured.load_s),
        cold_start=_seconds(measured.cold_load_s),
        peak=_megabytes(measured.peak_bytes),
        steady=_megabytes(measured.steady_bytes),
        energy=None if measured.energy_j is None else significant(1000 * measured.energy_j),
    )


def _megabytes(value: int | None) -> str | None:
    """Return a number of bytes as MB (10^6 bytes); None if it is unknown."""
    return None if value is None else f"{value / 1e6:.0f}"


def _seconds(value: float | None) -> str | None:
    """Return a time as text; None if it is unknown."""
    if value is None:
        return None
    return significant(value, 2) if value < 100 else duration(value)

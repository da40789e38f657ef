"""The report as Markdown that can be pasted into an issue: the verdict, what it costs beside its twins, the methods."""

from __future__ import annotations

from collections.abc import Sequence

from lxcompress.analysis.pick import Choice
from lxcompress.analysis.protocol import fault_lines, protocol_title
from lxcompress.analysis.summary import (
    RunSummary,
    kept_words,
    latency_ms,
    machine_line,
    named_floors,
    plus_minus,
    points,
)
from lxcompress.output import printable_lines
from lxcompress.records import Measurement
from lxcompress.report.costs import (
    COST_AXES,
    Entry,
    find_dense,
    find_front,
    find_missing_baselines,
    number_costs,
    ratio,
    task_words,
    times,
)
from lxcompress.report.curves import headline
from lxcompress.report.markdown import code, escape, table
from lxcompress.report.methods import NOTHING, methods_markdown
from lxcompress.units import percent, significant


def summary_markdown(summary: RunSummary, choice: Choice) -> str:
    """The run in Markdown; every text from data is escaped."""
    entries = number_costs(summary, choice.picked.cost if choice.picked else None)
    parts = [
        f"### {escape(summary.recipe.name)}",
        f"**{escape(headline(summary, choice))}**",
        *_faults(summary),
        *_progress(summary),
        _accuracies(summary, choice),
        *_costs(summary, entries),
        *([methods_markdown(summary).strip()] if summary.groups else []),
        *_doubts(summary, choice),
        f"Run on {escape(machine_line(summary.machine))}; Python {escape(summary.machine.python)}, "
        f"{escape(', '.join(f'{name} {number}' for name, number in summary.machine.packages.items()))}.",
    ]
    return printable_lines("\n\n".join(parts) + "\n")


def _faults(summary: RunSummary) -> list[str]:
    if not summary.recipe.faults:
        return []
    lines = [f"- {code(fault)}: {escape(words)}" for fault, words in fault_lines(summary.recipe)]
    return [f"**{escape(protocol_title(summary.recipe))}**\n" + "\n".join(lines)]


def _progress(summary: RunSummary) -> list[str]:
    if summary.is_complete:
        return []
    return [f"Not complete: {len(summary.results)} of {summary.cells_total} cells are finished."]


def _accuracies(summary: RunSummary, choice: Choice) -> str:
    """The dense model, the pick and the floors."""
    lines = []
    if summary.dense:
        lines.append(["dense", "0", plus_minus(summary.dense.overall), NOTHING, "100"])
    if choice.longer:
        lines.append(["dense, trained twice as long", "0", plus_minus(choice.longer), NOTHING, NOTHING])
    if choice.picked:
        group = choice.picked.group
        beside = points(group.paired.mean) if group.paired else NOTHING
        achieved = percent(group.achieved.mean, 1)
        name = f"**{escape(group.key.series)}**"
        lines.append([name, achieved, plus_minus(group.retrained.overall), beside, kept_words(group) or NOTHING])
    if summary.floors:
        lines += [[f"floor: {name}", "", percent(value), "", ""] for name, value in named_floors(summary.floors)]
    seeds = "one seed, so no spread" if len(summary.recipe.seeds) == 1 else f"{len(summary.recipe.seeds)} seeds"
    return table(["model", "sparsity, %", f"accuracy, % ({seeds})", "against dense", "kept, %"], lines, first_texts=1)


def _costs(summary: RunSummary, entries: Sequence[Entry]) -> list[str]:
    if not entries:
        return ["Nothing is exported yet, so no size, speed or memory is known."]
    dense = find_dense(entries)
    head = ["#", "artifact", "stands for", "format", "MB", "p50, ms", "p90, ms", "peak, MB", "accuracy, %", "front"]
    parts = [table(head, [_cost_line(entry, entries, dense) for entry in entries], first_texts=4)]
    words = [
        f"Latency is of one answer: {each}." for each in sorted({_circumstances(each) for each in _fresh(entries)})
    ]
    if dense:
        words.append(f"× is relative to artifact {dense.number}.")
    parts.append(" ".join([*words, "Front: what no other artifact beats in both accuracy and that cost."]))
    lacking = find_missing_baselines(summary, entries)
    parts += [
        f"{escape(each.ticket)} is shown without {' and without '.join(each.twins)}, which need no pruning: "
        f"{code(each.command)}"
        for each in lacking[:1]
    ]
    return parts


def _fresh(entries: Sequence[Entry]) -> list[Measurement]:
    return [entry.cost.fresh for entry in entries if entry.cost.fresh]


def _circumstances(measured: Measurement) -> str:
    return escape(f"{task_words(measured.task)}, on {measured.target or measured.machine.processor}")


def _cost_line(entry: Entry, entries: Sequence[Entry], dense: Entry | None) -> list[str]:
    artifact, measured = entry.cost.artifact, entry.cost.fresh
    size, latency, memory = (_beside(ratio(entry, dense, trade)) for trade in COST_AXES)
    change = entry.cost.accuracy_change
    front = [trade.title for trade in COST_AXES if entry in find_front(entries, trade)]
    peak = entry.peak_mb
    return [
        str(entry.number),
        f"**{escape(artifact.name)}**" if entry.is_picked else escape(artifact.name),
        escape(entry.kind),
        escape(f"{artifact.format} {artifact.precision}"),
        significant(entry.size_mb) + size,
        significant(latency_ms(measured).p50) if measured else NOTHING,
        significant(entry.latency_p90_ms) + latency if entry.latency_p90_ms is not None else NOTHING,
        f"{peak:.0f}{memory}" if peak is not None else NOTHING,
        NOTHING
        if entry.accuracy is None
        else percent(entry.accuracy) + (f" ({points(change)})" if change is not None else ""),
        ", ".join(front),
    ]


def _beside(value: float | None) -> str:
    return "" if value is None else f" ({times(value)})"


def _doubts(summary: RunSummary, choice: Choice) -> list[str]:
    of_costs = [f"{cost.artifact.name}: {doubt}" for cost in summary.costs for doubt in cost.doubts]
    doubts = dict.fromkeys([*choice.doubts, *of_costs])
    return ["Warnings:\n" + "\n".join(f"- {escape(doubt)}" for doubt in doubts)] if doubts else []

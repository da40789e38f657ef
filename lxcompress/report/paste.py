"""Write a summary in Markdown, to paste into an issue: the verdict, the files with their costs, the methods."""

from __future__ import annotations

from collections.abc import Sequence

from lxcompress.analysis.artifact_costs import (
    COST_AXES,
    CostEntry,
    find_dense,
    find_front,
    find_missing_baselines,
    number_artifacts,
    ratio,
)
from lxcompress.analysis.artifacts import latency_ms
from lxcompress.analysis.choice import Choice
from lxcompress.analysis.floors import named_floors
from lxcompress.analysis.held_out import held_out_words
from lxcompress.analysis.methods import NOTHING
from lxcompress.analysis.protocol import fault_lines, protocol_title
from lxcompress.analysis.summary import RunSummary
from lxcompress.analysis.verdict import headlines
from lxcompress.analysis.words import kept_words, machine_line, plus_minus, points
from lxcompress.output import printable_lines
from lxcompress.records import Measurement
from lxcompress.report.costs import task_words, times
from lxcompress.report.markdown import code, escape, table
from lxcompress.report.methods import methods_markdown
from lxcompress.units import percent, significant


def summary_markdown(summary: RunSummary, choice: Choice) -> str:
    """Return the summary of a run in Markdown; every text from the data is escaped."""
    entries = number_artifacts(summary, choice.picked.exported if choice.picked else None)
    packages = ", ".join(f"{name} {number}" for name, number in summary.machine.packages.items())
    parts = [
        f"### {escape(summary.recipe.name)}",
        *(f"**{escape(sentence)}**" for sentence in headlines(summary, choice)),
        *_faults(summary),
        *_missing(summary),
        _accuracies(summary, choice),
        *([escape(held_out_words(choice.held_out))] if choice.held_out else []),
        *_costs(summary, entries),
        *([methods_markdown(summary).strip()] if summary.groups else []),
        *_warnings(summary, choice),
        f"Run on {escape(machine_line(summary.machine))}; Python {escape(summary.machine.python)}, {escape(packages)}.",
    ]
    return printable_lines("\n\n".join(parts) + "\n")


def _faults(summary: RunSummary) -> list[str]:
    """Return a list of the faults that the run reproduces, under a title; nothing without faults."""
    if not summary.recipe.faults:
        return []
    lines = [f"- {code(fault)}: {escape(words)}" for fault, words in fault_lines(summary.recipe)]
    return [f"**{escape(protocol_title(summary.recipe))}**\n" + "\n".join(lines)]


def _missing(summary: RunSummary) -> list[str]:
    """Return a sentence on how many runs are finished; nothing if all are."""
    if summary.is_complete:
        return []
    return [f"Not complete: {len(summary.results)} of {summary.cells_total} runs (method x sparsity x seed) finished."]


def _accuracies(summary: RunSummary, choice: Choice) -> str:
    """Return a table with the accuracies of the dense model, the pick and the floors."""
    lines = []
    if summary.dense:
        lines.append(["dense", "0", plus_minus(summary.dense.overall), NOTHING, "100"])
    if choice.longer:
        lines.append(["dense, trained twice as long", "0", plus_minus(choice.longer), NOTHING, NOTHING])
    if choice.picked:
        group = choice.picked.group
        against = points(group.paired.mean) if group.paired else NOTHING
        achieved = percent(group.achieved.mean, 1)
        name = f"**{escape(choice.picked.series)}**"
        lines.append([name, achieved, plus_minus(group.retrained.overall), against, kept_words(group) or NOTHING])
    if summary.floors:
        lines += [[f"floor: {name}", "", percent(value), "", ""] for name, value in named_floors(summary.floors)]
    seeds = "one seed, so no spread" if len(summary.recipe.seeds) == 1 else f"{len(summary.recipe.seeds)} seeds"
    return table(["model", "sparsity, %", f"accuracy, % ({seeds})", "against dense", "kept, %"], lines, first_texts=1)


def _costs(summary: RunSummary, entries: Sequence[CostEntry]) -> list[str]:
    """Return the table of the exported files, and below it the names of their folders."""
    if not entries:
        return ["Nothing is exported yet, so no size, speed or memory is known."]
    dense = find_dense(entries)
    head = ["#", "file", "format", "MB", "p50, ms", "p90, ms", "peak, MB", "accuracy, %", "Pareto-optimal"]
    parts = [table(head, [_cost_line(entry, entries, dense) for entry in entries], first_texts=3)]
    fresh = [entry.exported.fresh for entry in entries if entry.exported.fresh]
    words = [f"Latency is of one answer: {task}." for task in sorted({_task_and_machine(found) for found in fresh})]
    if dense:
        words.append(f"× is relative to file {dense.number}.")
    words.append("Pareto-optimal: no other file is as good in both accuracy and that cost, and better in one.")
    parts.append(" ".join(words))
    parts.append("Folders: " + "; ".join(f"{entry.number} is {escape(entry.exported.name)}" for entry in entries) + ".")
    parts += [
        f"{escape(missing.ticket)} must be compared with {' and with '.join(missing.twins)} (no pruning needed), which "
        f"are not exported; export them with: {code(missing.command)}"
        for missing in find_missing_baselines(summary, entries)[:1]
    ]
    return parts


def _task_and_machine(measured: Measurement) -> str:
    """Return the task of a measurement, and the machine or device that it ran on."""
    return escape(f"{task_words(measured.task)}, on {measured.target or measured.machine.processor}")


def _cost_line(entry: CostEntry, entries: Sequence[CostEntry], dense: CostEntry | None) -> list[str]:
    """Return the cells of one exported file; `dense` is the file that the ratios are relative to."""
    exported, artifact = entry.exported, entry.exported.artifact
    measured, change = exported.fresh, exported.accuracy_change
    size, latency, memory = (_in_brackets(ratio(entry, dense, axis)) for axis in COST_AXES)
    front = [axis.title for axis in COST_AXES if entry in find_front(entries, axis)]
    p90, peak = exported.latency_p90_ms, exported.peak_mb
    accuracy = NOTHING if entry.accuracy is None else percent(entry.accuracy)
    return [
        str(entry.number),
        f"**{escape(entry.label)}**" if entry.is_picked else escape(entry.label),
        escape(f"{artifact.format} {artifact.precision}"),
        significant(exported.size_mb) + size,
        significant(latency_ms(measured).p50) if measured else NOTHING,
        significant(p90) + latency if p90 is not None else NOTHING,
        f"{peak:.0f}{memory}" if peak is not None else NOTHING,
        accuracy if change is None else f"{accuracy} ({points(change)})",
        ", ".join(front),
    ]


def _in_brackets(value: float | None) -> str:
    """Return a ratio in brackets; empty if it is unknown."""
    return "" if value is None else f" ({times(value)})"


def _warnings(summary: RunSummary, choice: Choice) -> list[str]:
    """Return a list of the warnings about the choice and the files; nothing if there are none."""
    of_files = [f"{exported.name}: {warning}" for exported in summary.artifacts for warning in exported.warnings]
    warnings = dict.fromkeys([*choice.warnings, *of_files])
    return ["Warnings:\n" + "\n".join(f"- {escape(warning)}" for warning in warnings)] if warnings else []

"""A summary and its choice as one HTML file: no network, no script, from a phone's width to a projector's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from statistics import fmean
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from lxcompress import __version__
from lxcompress.analysis.pick import Choice, compared_words, export_commands, mixed_measurements, ticket_of
from lxcompress.analysis.protocol import fault_lines, has_tickets, protocol_name, protocol_title
from lxcompress.analysis.published import SOURCE, compare
from lxcompress.analysis.summary import (
    ExportedArtifact,
    GroupKey,
    RunSummary,
    SeedGroup,
    kept_words,
    latency_ms,
    machine_line,
    numbered,
    plus_minus,
    points,
)
from lxcompress.analysis.usage import UsageTotals, own_runs, total_usage, usage_doubts
from lxcompress.output import printable_lines
from lxcompress.recipe import Method, dump_recipe
from lxcompress.records import Dense, Floors, Result
from lxcompress.report.chart import key_svg, level_key_svg
from lxcompress.report.costs import (
    cost_rows,
    find_dense,
    find_missing_baselines,
    has_more,
    measurement_rows,
    number_costs,
    task_words,
    trade_legend,
    trade_panels,
    twins_command,
    unplaced_words,
)
from lxcompress.report.curves import (
    NARROW,
    floors_below,
    headline,
    hero,
    is_charted,
    level_legend,
    slots_of,
    stage_panels,
    type_names,
    type_panels,
    wide_hero,
)
from lxcompress.report.kept import show_kept
from lxcompress.report.methods import (
    NOTHING,
    ChartSelection,
    MethodRow,
    MethodTable,
    off_target,
    shown_methods,
    steps_words,
    table_note,
    tabulate,
    time_words,
)
from lxcompress.units import GIGABYTE, WATT_HOUR, duration, energy, percent, short_percent, significant, size_text

LONG = 40
"""Groups beyond which their table is folded away: the methods table says the same in a row each."""


@dataclass(frozen=True)
class Figure:
    """One number of the headline, and what it is."""

    value: str
    name: str


@dataclass(frozen=True)
class ResourceSection:
    """What the study took: figures for all of it, and a table of its groups with what was counted as columns."""

    figures: list[Figure]
    columns: list[str]
    rows: list[tuple[str, str, list[str]]]
    """name, class, a value for each column"""
    doubts: list[str]
    has_usage: bool


def render_html(summary: RunSummary, choice: Choice) -> str:
    """The report as one HTML text."""
    if not has_tickets(summary.recipe):
        choice = replace(choice, picked=None, threshold=None, doubts=summary.doubts)
    template = resources.files("lxcompress.report").joinpath("template.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        percent=percent, plus_minus=plus_minus, points=points, numbered=partial(numbered, "seed")
    )
    return printable_lines(environment.from_string(template).render(**_view(summary, choice)))


def _view(summary: RunSummary, choice: Choice) -> dict[str, Any]:
    """What the template shows, as values; the template only places them."""
    picked = choice.picked
    shown = shown_methods(summary, picked.group.key if picked else None)
    slots = slots_of(summary, shown)
    comparison = compare(summary)
    has_curves = is_charted(summary, shown)
    entries = number_costs(summary, picked.cost if picked else None)
    return {
        "version": __version__,
        "name": summary.recipe.name,
        "verdict": headline(summary, choice),
        "has_tickets": has_tickets(summary.recipe),
        "protocol": protocol_title(summary.recipe),
        "faults": fault_lines(summary.recipe),
        "published": comparison,
        "published_source": SOURCE,
        "rule": choice.rule.words,
        "threshold": choice.threshold,
        "picked": picked,
        "compared": compared_words(picked)[0] if picked else "",
        "compared_command": compared_words(picked)[1] if picked else None,
        "picked_key": picked.group.key if picked else None,
        "figures": _figures(summary, choice),
        "missing": _missing(summary),
        "is_one_seed": len(summary.recipe.seeds) == 1,
        "doubts": choice.doubts,
        "floors_below": floors_below(summary, choice, shown) if has_curves else [],
        "wide": wide_hero(summary, choice, shown) if has_curves else None,
        "narrow": hero(summary, choice, shown, *NARROW) if has_curves else None,
        "legend_keys": [(key_svg(slot), GroupKey(method, 0).series) for method, slot in slots.items()],
        "level_keys": level_legend(summary, choice, shown) if has_curves else [],
        "left_out": _left_out(shown),
        "stages": stage_panels(summary, shown) if has_curves else [],
        "types": type_panels(summary, shown) if has_curves else [],
        "methods": _methods(summary, choice) if summary.groups else None,
        "type_names": type_names(summary),
        "groups": [(_group_key(group, slots), group) for group in summary.groups],
        "is_long": len(summary.groups) > LONG,
        "dense": summary.dense,
        "has_small": any(group.key.method.control == "small-dense" for group in summary.groups),
        "has_structured": any(group.key.method.is_structured for group in summary.groups),
        "has_regrown": any(group.regrown.mean for group in summary.groups),
        "floors": _floor_rows(summary.floors),
        "rejected": choice.rejected,
        "kept": show_kept(summary, slots, picked.group.key.target if picked else None),
        "costs": cost_rows(entries),
        "cost_tasks": sorted({task_words(each.cost.fresh.task) for each in entries if each.cost.fresh}),
        "measurements": measurement_rows(entries) if has_more(entries) else [],
        "trades": trade_panels(entries),
        "trade_keys": trade_legend(entries),
        "unplaced": unplaced_words(entries),
        "has_mark": any(each.is_picked for each in entries),
        "has_energy": any(each.energy_j is not None for cost in summary.costs for each in cost.measurements),
        "reference": find_dense(entries),
        "lacking": find_missing_baselines(summary, entries),
        "twins_command": twins_command(summary, picked.cell) if picked else None,
        "cost_doubts": mixed_measurements(summary),
        "cost_commands": _cost_commands(summary, choice),
        "bill": _bill(summary, summary.taken) if summary.taken else None,
        "facts": _facts(summary),
        "packages": summary.machine.packages,
        "recipe": dump_recipe(summary.recipe),
    }


def _figures(summary: RunSummary, choice: Choice) -> list[Figure]:
    picked = choice.picked
    if picked is None:
        return []
    group = picked.group
    assert group.paired is not None
    assert group.retained is not None
    paired = "points against dense" + (", mean of paired seeds" if len(group.seeds) > 1 else " of the same seed")
    figures = [
        Figure(f"{percent(group.retained, 1)} %", "of dense accuracy kept"),
        Figure(f"{points(group.paired.mean)}", paired),
        Figure(
            f"{percent(group.achieved.mean, 1)} %", f"of prunable weights removed ({percent(group.of_all, 1)} % of all)"
        ),
    ]
    if picked.cost is not None:
        figures += _artifact_figures(picked.cost)
        if picked.cost.fresh is not None:
            figures.append(Figure(f"{latency_ms(picked.cost.fresh).p90:.3g} ms", "p90 latency of one answer"))
    return figures


def _artifact_figures(cost: ExportedArtifact) -> list[Figure]:
    """What the file to ship is, which may be less accurate than the ticket that it was made of."""
    artifact, change = cost.artifact, cost.accuracy_change
    figures = [Figure(f"{cost.size_mb:.3g} MB", f"on disk as {artifact.format} {artifact.precision}")]
    if artifact.accuracy is not None:
        beside = f", {points(change)} from its model's" if change is not None else ""
        figures.insert(0, Figure(f"{percent(artifact.accuracy.accuracy)} %", f"accuracy of the exported file{beside}"))
    return figures


def _missing(summary: RunSummary) -> str | None:
    if summary.is_complete:
        return None
    cells = f"{len(summary.results)} of {summary.cells_total} cells are finished"
    dense = f"; dense {numbered('seed', summary.dense_missing)} not finished" if summary.dense_missing else ""
    return f"This study is not complete: {cells}{dense}."


def _left_out(shown: ChartSelection) -> tuple[str, str, str] | None:
    """Which methods the charts draw, how many they leave to the table, and which; None where they show all."""
    if not shown.left_out:
        return None
    count = len(shown.lines) + len(shown.left_out)
    return (
        f"Drawn are {len(shown.lines)} of {count} methods: the pick, the best structured one and those that keep most "
        "beside the mean of all at the same sparsity, never a control.",
        f"{len(shown.left_out)} are left to the table",
        ", ".join(GroupKey(method, 0).series for method in shown.left_out),
    )


def _group_key(group: SeedGroup, slots: dict[Method, int]) -> Markup:
    """How the charts draw a group; nothing for one that they leave out."""
    method = group.key.method
    if method in slots:
        return key_svg(slots[method])
    kind = {"dense-longer": "longer", "small-dense": "baseline"}.get(method.control or "")
    return level_key_svg(kind) if kind else Markup("")


def _floor_rows(floors: Floors | None) -> list[tuple[str, str, float, dict[str, float]]]:
    if floors is None:
        return []
    return [
        ("majority", "the commonest answer, always", floors.majority.accuracy, floors.majority.by_type),
        (
            "majority per type",
            "the commonest answer of each answer type, which is told",
            floors.majority_per_type.accuracy,
            floors.majority_per_type.by_type,
        ),
        *(
            [
                (
                    "majority per question type",
                    "the commonest answer of each kind of wording",
                    floors.majority_per_question_type.accuracy,
                    floors.majority_per_question_type.by_type,
                )
            ]
            if floors.majority_per_question_type
            else []
        ),
        (
            "question-only",
            "a linear model of the question's words, without the image",
            floors.question_only.accuracy,
            floors.question_only.by_type,
        ),
    ]


def _methods(summary: RunSummary, choice: Choice) -> dict[str, Any]:
    """The methods table and that of the smaller models' sizes, as the template places them."""
    table = tabulate(summary)
    picked = choice.picked.group.key if choice.picked else None
    return {
        "note": table_note(table),
        "targets": [short_percent(target) for target in table.pruned_targets],
        "sections": [(words, [_method_row(table, row, picked) for row in rows]) for words, rows in table.sections],
        "sized_targets": [short_percent(target) for target in table.sized_targets],
        "sized": [_size_row(table, row) for row in table.sized],
    }


def _method_row(table: MethodTable, row: MethodRow, picked: GroupKey | None) -> dict[str, Any]:
    cells = []
    # An unpruned control has one number, which stands for every sparsity.
    is_unpruned = row.method.control == "dense-longer"
    for target in (0.0,) if is_unpruned else table.pruned_targets:
        group = row.groups.get(target)
        words = kept_words(group) if group else None
        if group is None or words is None:
            cells.append((NOTHING, "", []))
            continue
        off = off_target(group)
        lacks = f"{len(group.seeds)} of {len(group.seeds) + len(group.missing)} seeds" if group.missing else None
        notes = [f"at {off}" if off else None, lacks, "the pick" if group.key == picked else None]
        look = ["best" * (group.key in table.best), "pick" * (group.key == picked), "open" * bool(group.missing)]
        cells.append((words, " ".join(filter(None, look)), [note for note in notes if note]))
    return {
        "name": row.name,
        "words": row.words,
        "cells": cells,
        "is_unpruned": is_unpruned,
        "time": time_words(row),
        "steps": steps_words(row.steps),
    }


def _size_row(table: MethodTable, row: MethodRow) -> tuple[str, list[list[str]]]:
    cells = [
        [f"{words(group)}" for words in table.quantities.values()] if (group := row.groups.get(target)) else [NOTHING]
        for target in table.sized_targets
    ]
    return row.name, cells


def _cost_commands(summary: RunSummary, choice: Choice) -> tuple[str, ...]:
    """What is to be run for the cost table to hold the ticket to ship."""
    if choice.picked is not None:
        return choice.picked.commands
    if summary.costs or not summary.results or not has_tickets(summary.recipe):
        return ()
    tickets = [each for each in summary.groups if not each.key.method.is_control]
    return export_commands(ticket_of(summary, tickets[0])) if tickets else ()


def _bill(summary: RunSummary, taken: UsageTotals) -> ResourceSection:
    """Only what was counted has a figure and a column."""
    figures = [Figure(duration(taken.duration_s), f"for {taken.runs} runs, {duration(taken.duration_each_s)} each")]
    if taken.gpu_s:
        figures.append(Figure(significant(taken.gpu_hours), f"GPU hours, {' and '.join(taken.gpus)}".rstrip(", ")))
    if taken.peak_bytes is not None:
        figures.append(Figure(size_text(taken.peak_bytes), "of GPU memory at most"))
    if taken.utilisation is not None:
        figures.append(Figure(f"{percent(taken.utilisation, 0)} %", "mean GPU utilisation"))
    if taken.energy_j is not None and taken.energy_each_j is not None:
        figures.append(Figure(energy(taken.energy_j), f"of energy, {energy(taken.energy_each_j)} a run"))
    rows = [(group.key.label, "", group.taken) for group in summary.groups]
    own = own_runs(summary.recipe, summary.dense_runs)
    if own:
        rows.insert(0, ("dense", "base", total_usage(own)))
    rows.append(("in all", "base", taken))
    columns = {name: cell for name, cell in BILL_COLUMNS.items() if cell(taken) is not None}
    return ResourceSection(
        figures=figures,
        columns=list(columns),
        rows=[(name, kind, [cell(each) or "–" for cell in columns.values()]) for name, kind, each in rows],
        doubts=usage_doubts(taken),
        has_usage=taken.peak_bytes is not None,
    )


def _given(value: float | None, scale: float = 1.0) -> str | None:
    return None if value is None else significant(value / scale)


BILL_COLUMNS: dict[str, Callable[[UsageTotals], str | None]] = {
    "runs": lambda taken: str(taken.runs),
    "time": lambda taken: duration(taken.duration_s),
    "time a run": lambda taken: duration(taken.duration_each_s),
    "peak memory, GB": lambda taken: _given(taken.peak_bytes, GIGABYTE),
    "utilisation": lambda taken: None if taken.utilisation is None else f"{percent(taken.utilisation, 0)} %",
    "energy, kWh": lambda taken: _given(taken.energy_j, 1000 * WATT_HOUR),
    "Wh a run": lambda taken: _given(taken.energy_each_j, WATT_HOUR),
}


def _facts(summary: RunSummary) -> list[tuple[str, str]]:
    """How the study was run, as pairs of a name and what it is."""
    runs = [*summary.dense_runs, *summary.results]
    recipe = summary.recipe
    facts = [
        ("Machine", machine_line(summary.machine)),
        ("Python", summary.machine.python),
        ("Device", ", ".join(sorted({f"{run.device} ({run.precision})" for run in runs})) or "nothing has run yet"),
        ("Data", f"{recipe.data.kind}, model {recipe.model.start}, scope {recipe.prune.scope}"),
        ("Protocol", f"{protocol_name(recipe)}: {', '.join(recipe.faults)}" if recipe.faults else "corrected"),
        ("Seeds", ", ".join(map(str, recipe.seeds))),
    ]
    facts += _questions(summary.dense_runs)
    if summary.results:
        weights = summary.results[0].sparsity
        counted = f"{weights.prunable:,} prunable, {weights.live:,} that the answer depends on, {weights.all:,} in all"
        facts.append(("Weights", f"{counted}; sparsity is the share of prunable weights removed"))
    facts += _durations(summary.dense_runs, summary.results)
    others = {machine_line(run.machine) for run in runs} - {machine_line(summary.machine)}
    facts += [("Also ran on", other) for other in sorted(others)]
    return facts


def _questions(dense: Sequence[Dense]) -> list[tuple[str, str]]:
    return [("Accuracy", f"VQA score over {dense[0].trained.questions:,} validation questions")] if dense else []


def _durations(dense: Sequence[Dense], results: Sequence[Result]) -> list[tuple[str, str]]:
    facts = []
    if dense:
        facts.append(
            ("Dense run", f"{duration(fmean(run.duration_s for run in dense))} each, {dense[0].steps:,} steps")
        )
    if results:
        each = duration(fmean(run.duration_s for run in results))
        counts = sorted({run.steps for run in results})
        steps = f"{counts[0]:,}" + (f" to {counts[-1]:,}" if len(counts) > 1 else "")
        facts.append(("Cell", f"{each} each, {steps} steps of retraining"))
    return facts

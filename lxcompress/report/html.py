"""A summary and its choice as one HTML file: no network, no script, from a phone's width to a projector's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from statistics import fmean
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from lxcompress import __version__
from lxcompress.recipe import Method, dump_recipe
from lxcompress.records import Dense, Floors, Result, Task
from lxcompress.report.chart import (
    Axis,
    Level,
    Line,
    Mark,
    Point,
    accuracy_axis,
    key_svg,
    level_key_svg,
    line_chart,
    sparsity_axis,
)
from lxcompress.report.methods import (
    CONTROL_WORDS,
    MOST_LINES,
    NOTHING,
    MethodTable,
    Row,
    Shown,
    off_target,
    shown_methods,
    steps_words,
    table_note,
    tabulate,
    time_words,
)
from lxcompress.report.pick import Choice, bench_command, export_commands, mixed_measurements, verdict
from lxcompress.report.protocol import NO_TICKETS, fault_lines, has_tickets, protocol_name, protocol_title
from lxcompress.report.published import SOURCE, compare
from lxcompress.report.summary import (
    Cost,
    Group,
    Key,
    Spread,
    Stage,
    Summary,
    kept_words,
    latency_ms,
    machine_line,
    named_floors,
    numbered,
    plus_minus,
    points,
)
from lxcompress.report.usage import Taken, add_up, own_runs, usage_doubts
from lxcompress.units import GIGABYTE, WATT_HOUR, duration, energy, percent, short_percent, significant, size_text

WIDE, NARROW, SMALL = (1080, 450), (360, 340), (350, 290)
LABEL_WIDTH, WIDEST_LABEL = 190, 330
LETTER_WIDTH = 7.3
"""Pixels of one letter of a line's name, on the whole."""

LONG = 40
"""Groups beyond which their table is folded away: the methods table says the same in a row each."""

STAGES: dict[str, str] = {
    "pruned": "straight after pruning the dense model",
    "rewound": "kept weights set back to their start",
    "retrained": "after retraining",
}


@dataclass(frozen=True)
class Figure:
    """One number of the headline, and what it is."""

    value: str
    name: str


@dataclass(frozen=True)
class Bill:
    """What the study took: figures for all of it, and a table of its groups with what was counted as columns."""

    figures: list[Figure]
    columns: list[str]
    rows: list[tuple[str, str, list[str]]]
    """name, class, a value for each column"""
    doubts: list[str]
    has_usage: bool


@dataclass(frozen=True)
class Panel:
    """One small chart and its heading."""

    title: str
    note: str
    chart: Markup


def render_html(summary: Summary, choice: Choice) -> str:
    """The report as one HTML text."""
    if not has_tickets(summary.recipe):
        choice = replace(choice, picked=None, threshold=None, doubts=summary.doubts)
    template = resources.files("lxcompress.report").joinpath("template.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        percent=percent, plus_minus=plus_minus, points=points, numbered=partial(numbered, "seed")
    )
    return environment.from_string(template).render(**_view(summary, choice))


def _view(summary: Summary, choice: Choice) -> dict[str, Any]:
    """What the template shows, as values; the template only places them."""
    picked = choice.picked
    shown = shown_methods(summary, picked.group.key if picked else None)
    slots = _slots(summary, shown)
    comparison = compare(summary)
    is_charted = any(_lines(summary, shown, _overall("retrained"), "retrained"))
    labels = _labels(summary, choice, shown) if is_charted else []
    return {
        "version": __version__,
        "name": summary.recipe.name,
        "verdict": _headline(summary, choice),
        "has_tickets": has_tickets(summary.recipe),
        "protocol": protocol_title(summary.recipe),
        "faults": fault_lines(summary.recipe),
        "published": comparison,
        "published_source": SOURCE,
        "rule": choice.rule.words,
        "threshold": choice.threshold,
        "picked": picked,
        "picked_key": picked.group.key if picked else None,
        "figures": _figures(summary, choice),
        "missing": _missing(summary),
        "doubts": choice.doubts,
        "floors_below": _floors_below(summary, choice, shown) if is_charted else [],
        "wide": _hero(summary, choice, shown, *WIDE, label_width=_label_width(labels)) if is_charted else None,
        "narrow": _hero(summary, choice, shown, *NARROW) if is_charted else None,
        "legend_keys": [(key_svg(slot), Key(method, 0).series) for method, slot in slots.items()],
        "level_keys": _level_legend(summary, choice, shown) if is_charted else [],
        "left_out": _left_out(shown),
        "stages": _stage_panels(summary, shown) if is_charted else [],
        "types": _type_panels(summary, shown) if is_charted else [],
        "methods": _methods(summary, choice) if summary.groups else None,
        "type_names": _type_names(summary),
        "groups": [(_group_key(group, slots), group) for group in summary.groups],
        "is_long": len(summary.groups) > LONG,
        "dense": summary.dense,
        "has_small": any(group.key.method.control == "small-dense" for group in summary.groups),
        "has_structured": any(group.key.method.is_structured for group in summary.groups),
        "has_regrown": any(group.regrown.mean for group in summary.groups),
        "floors": _floor_rows(summary.floors),
        "rejected": choice.rejected,
        "costs": [_cost_row(cost) for cost in summary.costs],
        "cost_tasks": sorted({_task_words(cost.measurement.task) for cost in summary.costs if cost.measurement}),
        "cost_doubts": mixed_measurements(summary),
        "cost_commands": _cost_commands(summary, choice),
        "bill": _bill(summary, summary.taken) if summary.taken else None,
        "facts": _facts(summary),
        "packages": summary.machine.packages,
        "recipe": dump_recipe(summary.recipe),
    }


def _labels(summary: Summary, choice: Choice, shown: Shown) -> list[str]:
    lines, levels = _hero_content(summary, choice, shown)
    return [each.label for each in (*lines, *levels)]


def _headline(summary: Summary, choice: Choice) -> str:
    return verdict(choice) if has_tickets(summary.recipe) else NO_TICKETS


def _figures(summary: Summary, choice: Choice) -> list[Figure]:
    picked = choice.picked
    if picked is None:
        return []
    group = picked.group
    assert group.paired is not None
    assert group.retained is not None
    figures = [
        Figure(f"{percent(group.retained, 1)} %", "of dense accuracy kept"),
        Figure(f"{points(group.paired.mean)}", "points beside dense, mean of paired seeds"),
        Figure(
            f"{percent(group.achieved.mean, 1)} %", f"of prunable weights removed ({percent(group.of_all, 1)} % of all)"
        ),
    ]
    if picked.cost is not None:
        figures.append(Figure(f"{picked.cost.size_mb:.3g} MB", f"on disk as {picked.cost.artifact.format}"))
        if picked.cost.fresh is not None:
            figures.append(Figure(f"{latency_ms(picked.cost.fresh).p90:.3g} ms", "p90 latency of one answer"))
    return figures


def _missing(summary: Summary) -> str | None:
    if summary.is_complete:
        return None
    cells = f"{len(summary.results)} of {summary.cells_total} cells are finished"
    dense = f"; dense {numbered('seed', summary.dense_missing)} not finished" if summary.dense_missing else ""
    return f"This study is not complete: {cells}{dense}."


def _slots(summary: Summary, shown: Shown) -> dict[Method, int]:
    """Each drawn method and its look; by the recipe's order, so that a look never depends on what is finished, but for
    which methods are the best."""
    order = [row.method for row in tabulate(summary).rows if not row.is_baseline]
    order.sort(key=summary.recipe.prune.all_methods().index)
    all_slots = order if len(order) <= MOST_LINES else list(shown.lines)
    return {method: all_slots.index(method) for method in shown.lines}


def _left_out(shown: Shown) -> tuple[str, str, str] | None:
    """Which methods the charts draw, how many they leave to the table, and which; None where they show all."""
    if not shown.left_out:
        return None
    count = len(shown.lines) + len(shown.left_out)
    return (
        f"Drawn are {len(shown.lines)} of {count} methods: the pick, the best structured one and those that keep most "
        "beside the mean of all at the same sparsity, never a control.",
        f"{len(shown.left_out)} are left to the table",
        ", ".join(Key(method, 0).series for method in shown.left_out),
    )


def _lines(summary: Summary, shown: Shown, spread_of: Callable[[Group], Spread | None], stage: str) -> list[Line]:
    return [
        line
        for method, slot in _slots(summary, shown).items()
        if (line := _method_line(summary, method, slot, spread_of, stage)).points
    ]


def _baseline_lines(summary: Summary, spread_of: Callable[[Group], Spread | None]) -> list[Line]:
    """Dense models of the tickets' sizes, where the study has any."""
    methods = [each for each in summary.recipe.prune.all_methods() if each.control == "small-dense"]
    lines = [_method_line(summary, method, 0, spread_of, "trained") for method in methods]
    return [replace(line, is_baseline=True) for line in lines if line.points]


def _method_line(
    summary: Summary, method: Method, slot: int, spread_of: Callable[[Group], Spread | None], stage: str
) -> Line:
    found = [(group, spread_of(group)) for group in summary.groups if group.key.method == method]
    points = tuple(_point(group, spread, stage) for group, spread in found if spread is not None)
    return Line(_short(Key(method, 0).series), slot, points)


def _short(name: str) -> str:
    """A name that fits beside a chart: its middle is left out of one that does not."""
    most = round((WIDEST_LABEL - 20) / LETTER_WIDTH)
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-(most // 2 - 1) :]}"


def _label_width(labels: Sequence[str]) -> int:
    return min(WIDEST_LABEL, max(LABEL_WIDTH, round(LETTER_WIDTH * max(map(len, labels), default=0)) + 20))


def _group_key(group: Group, slots: dict[Method, int]) -> Markup:
    """How the charts draw a group; nothing for one that they leave out."""
    method = group.key.method
    if method in slots:
        return key_svg(slots[method])
    kind = {"dense-longer": "longer", "small-dense": "baseline"}.get(method.control or "")
    return level_key_svg(kind) if kind else Markup("")


def _point(group: Group, spread: Spread, stage: str) -> Point:
    missing = f"; {numbered('seed', group.missing)} missing" if group.missing else ""
    return Point(
        x=group.achieved.mean,
        y=spread.mean,
        std=spread.std,
        seeds=tuple(spread.by_seed.values()),
        title=f"{group.key.label}, {stage}: {plus_minus(spread)} % ({numbered('seed', group.seeds)}{missing})",
        is_whole=group.is_complete,
    )


def _floors_below(summary: Summary, choice: Choice, drawn: Shown) -> list[str]:
    """The floors that the first chart leaves out, in words."""
    _, levels = _hero_content(summary, choice, drawn)
    shown = {level.label for level in levels}
    return [level.label.replace(", ", " ") for level in _floor_levels(summary.floors) if level.label not in shown]


def _hero(summary: Summary, choice: Choice, shown: Shown, width: int, height: int, *, label_width: int = 0) -> Markup:
    """Retrained accuracy over sparsity, with the dense model, what the rule asks, the floors and the pick."""
    lines, levels = _hero_content(summary, choice, shown)
    mark = None
    if choice.picked is not None:
        group = choice.picked.group
        mark = Mark(group.achieved.mean, group.retrained.overall.mean, f"ticket, {short_percent(group.key.target)} %")
    return line_chart(
        lines,
        levels,
        x=sparsity_axis([point.x for line in lines for point in line.points]),
        y=accuracy_axis(_heights(lines, levels)),
        width=width,
        height=height,
        description=f"Retrained accuracy over sparsity. {_headline(summary, choice)}",
        mark=mark,
        label_width=label_width,
        y_title="retrained accuracy, %",
    )


def _hero_content(summary: Summary, choice: Choice, shown: Shown) -> tuple[list[Line], list[Level]]:
    lines = _lines(summary, shown, _overall("retrained"), "retrained")
    lines += _baseline_lines(summary, _overall("retrained")) + _published_lines(summary, shown)
    levels = _dense_levels(summary.dense.overall if summary.dense else None) + _longer_levels(choice)
    if choice.threshold is not None:
        words = f"asked, {percent(choice.threshold)}"
        levels.append(Level(words, "threshold", choice.threshold, title=f"{choice.rule.accuracy_words}: {words} %"))
    return lines, levels + _near(_floor_levels(summary.floors), _heights(lines, levels))


def _published_lines(summary: Summary, shown: Shown) -> list[Line]:
    """The published means beside the run's own lines, each at the sparsity that its result files say it had."""
    comparison = compare(summary)
    if comparison is None:
        return []
    lines = []
    for method, slot in _slots(summary, shown).items():
        rows = [row for key, row in comparison.groups.items() if key.method == method]
        points = tuple(
            Point(
                x=row.removed,
                y=row.mean,
                std=None,
                seeds=(),
                title=f"published, {row.key.label}: {percent(row.mean)} ± {percent(row.std)} % ({row.words})",
            )
            for row in rows
        )
        lines.append(Line(f"published {Key(method, 0).series}", slot, points, is_published=True))
    return [line for line in lines if line.points]


def _stage_panels(summary: Summary, shown: Shown) -> list[Panel]:
    """Pruned, rewound and retrained side by side, on one scale."""
    levels = [*_dense_levels(summary.dense.overall if summary.dense else None), *_floor_levels(summary.floors)]
    by_stage = {name: _lines(summary, shown, _overall(name), name) for name in STAGES}
    x = _x_axis(line for lines in by_stage.values() for line in lines)
    y = accuracy_axis([value for lines in by_stage.values() for value in _heights(lines, levels)])
    return [
        Panel(name, STAGES[name], _small(lines, levels, x, y, f"{name} accuracy over sparsity"))
        for name, lines in by_stage.items()
    ]


def _type_panels(summary: Summary, shown: Shown) -> list[Panel]:
    """Retrained accuracy of each answer type, each on its own scale."""
    panels = []
    for name in _type_names(summary):
        lines = _lines(summary, shown, _of_type(name), f"retrained, {name}")
        lines += _baseline_lines(summary, _of_type(name))
        if not lines:
            continue
        dense = summary.dense.by_type.get(name) if summary.dense else None
        levels = _dense_levels(dense)
        floor = summary.floors.question_only.by_type.get(name) if summary.floors else None
        if floor is not None:
            title = f"question-only floor, {name}: {percent(floor)} %"
            levels += _near([Level("question-only", "floor", floor, title=title)], _heights(lines, levels))
        y = accuracy_axis(_heights(lines, levels))
        note = f"dense {plus_minus(dense)}" if dense else ""
        panels.append(Panel(name, note, _small(lines, levels, _x_axis(lines), y, f"retrained accuracy of {name}")))
    return panels


def _small(lines: Sequence[Line], levels: Sequence[Level], x: Axis, y: Axis, description: str) -> Markup:
    width, height = SMALL
    return line_chart(lines, levels, x=x, y=y, width=width, height=height, description=description)


def _overall(stage: str) -> Callable[[Group], Spread]:
    def spread_of(group: Group) -> Spread:
        scores: Stage = getattr(group, stage)
        return scores.overall

    return spread_of


def _of_type(name: str) -> Callable[[Group], Spread | None]:
    return lambda group: group.retrained.by_type.get(name)


def _type_names(summary: Summary) -> list[str]:
    return list({name: None for group in summary.groups for name in group.retrained.by_type})


def _x_axis(lines: Iterable[Line]) -> Axis:
    return sparsity_axis([point.x for line in lines for point in line.points])


def _heights(lines: Sequence[Line], levels: Sequence[Level]) -> list[float]:
    """Every accuracy that a chart must hold."""
    of_points = [
        value
        for line in lines
        for each in line.points
        for value in (*each.seeds, each.y - (each.std or 0), each.y + (each.std or 0))
    ]
    return of_points + [value for each in levels for value in (each.y - (each.std or 0), each.y + (each.std or 0))]


def _near(levels: Sequence[Level], heights: Sequence[float]) -> list[Level]:
    """The levels that a chart of `heights` can hold without squeezing what it is about into half of its height."""
    low, high = min(heights), max(heights)
    return [level for level in levels if low - (high - low) <= level.y <= high + (high - low)]


def _dense_levels(dense: Spread | None) -> list[Level]:
    if dense is None:
        return []
    return [Level(f"dense, {percent(dense.mean)}", "dense", dense.mean, dense.std, f"dense: {plus_minus(dense)} %")]


def _longer_levels(choice: Choice) -> list[Level]:
    """The dense model trained for twice as long, where the study has that control."""
    longer = choice.longer
    if longer is None:
        return []
    title = f"dense, trained twice as long: {plus_minus(longer)} %"
    return [Level(f"dense, twice the training, {percent(longer.mean)}", "longer", longer.mean, title=title)]


def _floor_levels(floors: Floors | None) -> list[Level]:
    if floors is None:
        return []
    return [
        Level(f"{name}, {percent(value)}", "floor", value, title=f"{name} floor: {percent(value)} %")
        for name, value in named_floors(floors)
    ]


def _level_legend(summary: Summary, choice: Choice, shown: Shown) -> list[tuple[Markup, str]]:
    legend = [(level_key_svg("dense"), f"dense {plus_minus(summary.dense.overall)}")] if summary.dense else []
    if choice.longer is not None:
        legend.append((level_key_svg("longer"), f"dense, twice the training {plus_minus(choice.longer)}"))
    small = _baseline_lines(summary, _overall("retrained"))
    legend += [(level_key_svg("baseline"), f"{line.label}: {CONTROL_WORDS['small-dense']}") for line in small]
    if choice.threshold is not None:
        legend.append((level_key_svg("threshold"), f"asked {percent(choice.threshold)}"))
    if compare(summary) is not None:
        legend.append((level_key_svg("published"), "published"))
    floors = [
        level.label.replace(", ", " ") for level in _hero_content(summary, choice, shown)[1] if level.kind == "floor"
    ]
    if floors:
        legend.append((level_key_svg("floor"), f"floors: {', '.join(floors)}"))
    return legend


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


def _methods(summary: Summary, choice: Choice) -> dict[str, Any]:
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


def _method_row(table: MethodTable, row: Row, picked: Key | None) -> dict[str, Any]:
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


def _size_row(table: MethodTable, row: Row) -> tuple[str, list[list[str]]]:
    cells = [
        [f"{words(group)}" for words in table.quantities.values()] if (group := row.groups.get(target)) else [NOTHING]
        for target in table.sized_targets
    ]
    return row.name, cells


def _cost_row(cost: Cost) -> dict[str, Any]:
    artifact, measured, parity = cost.artifact, cost.measurement, cost.artifact.parity
    latency = latency_ms(measured) if measured else None
    zeros = artifact.prunable_zeros
    return {
        "name": artifact.name,
        "of": artifact.cell or "dense",
        "format": f"{artifact.format} {artifact.precision}",
        "size": f"{cost.size_mb:.3g}",
        "zeros": f"{percent(zeros, 1)} %" if zeros is not None else "not counted",
        "p50": f"{latency.p50:.3g}" if latency else None,
        "p90": f"{latency.p90:.3g}" if latency else None,
        "load": f"{measured.load_s:.2g}" if measured else None,
        "peak": f"{measured.peak_bytes / 1e6:.0f}" if measured else None,
        "parity": f"{parity.max_abs_difference:.1e}",
        "changed": f"{parity.changed_answers} of {parity.questions}",
        "accuracy": percent(artifact.accuracy.accuracy) if artifact.accuracy else None,
        "change": points(cost.accuracy_change) if cost.accuracy_change is not None else None,
        "is_stale": cost.is_stale,
        "doubts": cost.doubts,
        "command": bench_command(cost.folder) if cost.fresh is None else None,
    }


def _task_words(task: Task) -> str:
    threads = "1 thread" if task.threads == 1 else f"{task.threads} threads"
    images = "" if task.images == 1 else f"{task.images} images of "
    return f"{task.runtime}, {threads}, {task.tokens} tokens, {images}{task.objects} objects"


def _cost_commands(summary: Summary, choice: Choice) -> tuple[str, ...]:
    """What is to be run for the cost table to hold the ticket to ship."""
    if choice.picked is not None:
        return choice.picked.commands
    if summary.costs or not summary.results or not has_tickets(summary.recipe):
        return ()
    tickets = [each.key for each in summary.groups if not each.key.method.is_control]
    return export_commands(summary.root, tickets[0].cell(summary.results[0].seed).id) if tickets else ()


def _bill(summary: Summary, taken: Taken) -> Bill:
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
        rows.insert(0, ("dense", "base", add_up(own)))
    rows.append(("in all", "base", taken))
    columns = {name: cell for name, cell in BILL_COLUMNS.items() if cell(taken) is not None}
    return Bill(
        figures=figures,
        columns=list(columns),
        rows=[(name, kind, [cell(each) or "–" for cell in columns.values()]) for name, kind, each in rows],
        doubts=usage_doubts(taken),
        has_usage=taken.peak_bytes is not None,
    )


def _given(value: float | None, scale: float = 1.0) -> str | None:
    return None if value is None else significant(value / scale)


BILL_COLUMNS: dict[str, Callable[[Taken], str | None]] = {
    "runs": lambda taken: str(taken.runs),
    "time": lambda taken: duration(taken.duration_s),
    "time a run": lambda taken: duration(taken.duration_each_s),
    "peak memory, GB": lambda taken: _given(taken.peak_bytes, GIGABYTE),
    "utilisation": lambda taken: None if taken.utilisation is None else f"{percent(taken.utilisation, 0)} %",
    "energy, kWh": lambda taken: _given(taken.energy_j, 1000 * WATT_HOUR),
    "Wh a run": lambda taken: _given(taken.energy_each_j, WATT_HOUR),
}


def _facts(summary: Summary) -> list[tuple[str, str]]:
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

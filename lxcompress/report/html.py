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
from lxcompress.recipe import dump_recipe
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
LABEL_WIDTH = 190

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
    slots = _slots(summary)
    comparison = compare(summary)
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
        "floors_below": _floors_below(summary, choice) if summary.groups else [],
        "wide": _hero(summary, choice, *WIDE, label_width=LABEL_WIDTH) if summary.groups else None,
        "narrow": _hero(summary, choice, *NARROW) if summary.groups else None,
        "legend_keys": [(key_svg(slot), name) for name, slot in slots.items()],
        "level_keys": _level_legend(summary, choice) if summary.groups else [],
        "stages": _stage_panels(summary, choice) if summary.groups else [],
        "types": _type_panels(summary) if summary.groups else [],
        "type_names": _type_names(summary),
        "groups": [(key_svg(slots[_series(group)]), group) for group in summary.groups],
        "dense": summary.dense,
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


def _series(group: Group) -> str:
    """The name of the line that the group lies on."""
    return group.key.series


def _slots(summary: Summary) -> dict[str, int]:
    """Each line's name and its look; by the recipe's order, so that a look never depends on what is finished."""
    names = {_series(group): None for group in summary.groups}
    order = {Key(method, 0).series: index for index, method in enumerate(summary.recipe.prune.all_methods())}
    return {name: order.get(name, len(order) + index) for index, name in enumerate(names)}


def _lines(summary: Summary, spread_of: Callable[[Group], Spread | None], stage: str) -> list[Line]:
    lines = []
    for name, slot in _slots(summary).items():
        found = [(group, spread_of(group)) for group in summary.groups if _series(group) == name]
        lines.append(
            Line(name, slot, tuple(_point(group, spread, stage) for group, spread in found if spread is not None))
        )
    return [line for line in lines if line.points]


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


def _floors_below(summary: Summary, choice: Choice) -> list[str]:
    """The floors that the first chart leaves out, in words."""
    _, levels = _hero_content(summary, choice)
    shown = {level.label for level in levels}
    return [level.label.replace(", ", " ") for level in _floor_levels(summary.floors) if level.label not in shown]


def _hero(summary: Summary, choice: Choice, width: int, height: int, *, label_width: int = 0) -> Markup:
    """Retrained accuracy over sparsity, with the dense model, what the rule asks, the floors and the pick."""
    lines, levels = _hero_content(summary, choice)
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


def _hero_content(summary: Summary, choice: Choice) -> tuple[list[Line], list[Level]]:
    lines = _lines(summary, _overall("retrained"), "retrained") + _published_lines(summary)
    levels = _dense_levels(summary.dense.overall if summary.dense else None)
    if choice.threshold is not None:
        words = f"asked, {percent(choice.threshold)}"
        levels.append(Level(words, "threshold", choice.threshold, title=f"{choice.rule.accuracy_words}: {words} %"))
    return lines, levels + _near(_floor_levels(summary.floors), _heights(lines, levels))


def _published_lines(summary: Summary) -> list[Line]:
    """The published means beside the run's own lines, each at the sparsity that its result files say it had."""
    comparison = compare(summary)
    if comparison is None:
        return []
    slots = _slots(summary)
    lines = []
    for name in slots:
        rows = [
            comparison.groups[group.key]
            for group in summary.groups
            if _series(group) == name and group.key in comparison.groups
        ]
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
        lines.append(Line(f"published {name}", slots[name], points, is_published=True))
    return [line for line in lines if line.points]


def _stage_panels(summary: Summary, choice: Choice) -> list[Panel]:
    """Pruned, rewound and retrained side by side, on one scale."""
    levels = [*_dense_levels(summary.dense.overall if summary.dense else None), *_floor_levels(summary.floors)]
    by_stage = {name: _lines(summary, _overall(name), name) for name in STAGES}
    y = accuracy_axis([value for lines in by_stage.values() for value in _heights(lines, levels)])
    return [
        Panel(name, STAGES[name], _small(lines, levels, _x_axis(summary), y, f"{name} accuracy over sparsity"))
        for name, lines in by_stage.items()
    ]


def _type_panels(summary: Summary) -> list[Panel]:
    """Retrained accuracy of each answer type, each on its own scale."""
    panels = []
    for name in _type_names(summary):
        lines = _lines(summary, _of_type(name), f"retrained, {name}")
        dense = summary.dense.by_type.get(name) if summary.dense else None
        levels = _dense_levels(dense)
        floor = summary.floors.question_only.by_type.get(name) if summary.floors else None
        if floor is not None:
            title = f"question-only floor, {name}: {percent(floor)} %"
            levels += _near([Level("question-only", "floor", floor, title=title)], _heights(lines, levels))
        y = accuracy_axis(_heights(lines, levels))
        note = f"dense {plus_minus(dense)}" if dense else ""
        panels.append(Panel(name, note, _small(lines, levels, _x_axis(summary), y, f"retrained accuracy of {name}")))
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


def _x_axis(summary: Summary) -> Axis:
    return sparsity_axis([group.achieved.mean for group in summary.groups])


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


def _floor_levels(floors: Floors | None) -> list[Level]:
    if floors is None:
        return []
    return [
        Level(f"{name}, {percent(value)}", "floor", value, title=f"{name} floor: {percent(value)} %")
        for name, value in named_floors(floors)
    ]


def _level_legend(summary: Summary, choice: Choice) -> list[tuple[Markup, str]]:
    legend = [(level_key_svg("dense"), f"dense {plus_minus(summary.dense.overall)}")] if summary.dense else []
    if choice.threshold is not None:
        legend.append((level_key_svg("threshold"), f"asked {percent(choice.threshold)}"))
    if compare(summary) is not None:
        legend.append((level_key_svg("published"), "published"))
    floors = [level.label.replace(", ", " ") for level in _hero_content(summary, choice)[1] if level.kind == "floor"]
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
    return export_commands(summary.root, summary.results[0].cell)


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
        facts.append(("Cell", f"{each} each, {results[0].steps:,} steps of retraining"))
    return facts

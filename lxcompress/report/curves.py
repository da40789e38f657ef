"""What the charts of accuracy over sparsity hold: lines, levels and panels, chosen from a summary."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from lxcompress.analysis.pick import Choice, verdict
from lxcompress.analysis.protocol import NO_TICKETS, has_tickets
from lxcompress.analysis.published import compare
from lxcompress.analysis.summary import (
    GroupKey,
    RunSummary,
    SeedGroup,
    Spread,
    Stage,
    named_floors,
    numbered,
    plus_minus,
)
from lxcompress.recipe import Method
from lxcompress.records import Floors
from lxcompress.report.chart import (
    Level,
    LinePoint,
    MethodLine,
    PickMark,
    Span,
    accuracy_span,
    level_key_svg,
    line_chart,
    sparsity_span,
)
from lxcompress.report.methods import CONTROL_WORDS, MOST_LINES, ChartSelection, tabulate
from lxcompress.units import percent, short_percent

WIDE, NARROW, SMALL = (1080, 450), (360, 340), (350, 290)
LABEL_WIDTH, WIDEST_LABEL = 190, 330
LETTER_WIDTH = 7.3
"""Pixels of one letter of a line's name, on the whole."""

STAGES: dict[str, str] = {
    "pruned": "straight after pruning the dense model",
    "rewound": "kept weights set back to their start",
    "retrained": "after retraining",
}


@dataclass(frozen=True)
class Panel:
    """One small chart and its heading."""

    title: str
    note: str
    chart: Markup


def slots_of(summary: RunSummary, shown: ChartSelection) -> dict[Method, int]:
    """Each drawn method and its look; by the recipe's order, so that a look never depends on what is finished, but for
    which methods are the best."""
    order = [row.method for row in tabulate(summary).rows if not row.is_baseline]
    order.sort(key=summary.recipe.prune.all_methods().index)
    all_slots = order if len(order) <= MOST_LINES else list(shown.lines)
    return {method: all_slots.index(method) for method in shown.lines}


def headline(summary: RunSummary, choice: Choice) -> str:
    """The verdict of a run, or that it has no tickets."""
    return verdict(choice) if has_tickets(summary.recipe) else NO_TICKETS


def is_charted(summary: RunSummary, shown: ChartSelection) -> bool:
    """Whether there is a point to draw."""
    return any(_lines(summary, shown, _overall("retrained"), "retrained"))


def wide_hero(summary: RunSummary, choice: Choice, shown: ChartSelection) -> Markup:
    """The hero with its lines' names beside it."""
    lines, levels = _hero_content(summary, choice, shown)
    room = _label_width([each.label for each in (*lines, *levels)])
    return hero(summary, choice, shown, *WIDE, label_width=room)


def hero(
    summary: RunSummary, choice: Choice, shown: ChartSelection, width: int, height: int, *, label_width: int = 0
) -> Markup:
    """Retrained accuracy over sparsity, with the dense model, what the rule asks, the floors and the pick."""
    lines, levels = _hero_content(summary, choice, shown)
    mark = None
    if choice.picked is not None:
        group = choice.picked.group
        mark = PickMark(
            group.achieved.mean, group.retrained.overall.mean, f"ticket, {short_percent(group.key.target)} %"
        )
    return line_chart(
        lines,
        levels,
        x=sparsity_span([point.x for line in lines for point in line.points]),
        y=accuracy_span(_heights(lines, levels)),
        width=width,
        height=height,
        description=f"Retrained accuracy over sparsity. {headline(summary, choice)}",
        mark=mark,
        label_width=label_width,
        y_title="retrained accuracy, %",
    )


def floors_below(summary: RunSummary, choice: Choice, drawn: ChartSelection) -> list[str]:
    """The floors that the first chart leaves out, in words."""
    _, levels = _hero_content(summary, choice, drawn)
    shown = {level.label for level in levels}
    return [level.label.replace(", ", " ") for level in _floor_levels(summary.floors) if level.label not in shown]


def stage_panels(summary: RunSummary, shown: ChartSelection) -> list[Panel]:
    """Pruned, rewound and retrained side by side, on one scale."""
    levels = [*_dense_levels(summary.dense.overall if summary.dense else None), *_floor_levels(summary.floors)]
    by_stage = {name: _lines(summary, shown, _overall(name), name) for name in STAGES}
    x = _x_axis(line for lines in by_stage.values() for line in lines)
    y = accuracy_span([value for lines in by_stage.values() for value in _heights(lines, levels)])
    return [
        Panel(name, STAGES[name], _small(lines, levels, x, y, f"{name} accuracy over sparsity"))
        for name, lines in by_stage.items()
    ]


def type_panels(summary: RunSummary, shown: ChartSelection) -> list[Panel]:
    """Retrained accuracy of each answer type, each on its own scale."""
    panels = []
    for name in type_names(summary):
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
        y = accuracy_span(_heights(lines, levels))
        note = f"dense {plus_minus(dense)}" if dense else ""
        panels.append(Panel(name, note, _small(lines, levels, _x_axis(lines), y, f"retrained accuracy of {name}")))
    return panels


def type_names(summary: RunSummary) -> list[str]:
    return list({name: None for group in summary.groups for name in group.retrained.by_type})


def level_legend(summary: RunSummary, choice: Choice, shown: ChartSelection) -> list[tuple[Markup, str]]:
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


def _hero_content(summary: RunSummary, choice: Choice, shown: ChartSelection) -> tuple[list[MethodLine], list[Level]]:
    lines = _lines(summary, shown, _overall("retrained"), "retrained")
    lines += _baseline_lines(summary, _overall("retrained")) + _published_lines(summary, shown)
    levels = _dense_levels(summary.dense.overall if summary.dense else None) + _longer_levels(choice)
    if choice.threshold is not None:
        words = f"asked, {percent(choice.threshold)}"
        levels.append(Level(words, "threshold", choice.threshold, title=f"{choice.rule.accuracy_words}: {words} %"))
    return lines, levels + _near(_floor_levels(summary.floors), _heights(lines, levels))


def _label_width(labels: Sequence[str]) -> int:
    return min(WIDEST_LABEL, max(LABEL_WIDTH, round(LETTER_WIDTH * max(map(len, labels), default=0)) + 20))


def _lines(
    summary: RunSummary, shown: ChartSelection, spread_of: Callable[[SeedGroup], Spread | None], stage: str
) -> list[MethodLine]:
    return [
        line
        for method, slot in slots_of(summary, shown).items()
        if (line := _method_line(summary, method, slot, spread_of, stage)).points
    ]


def _baseline_lines(summary: RunSummary, spread_of: Callable[[SeedGroup], Spread | None]) -> list[MethodLine]:
    """Dense models of the tickets' sizes, where the study has any."""
    methods = [each for each in summary.recipe.prune.all_methods() if each.control == "small-dense"]
    lines = [_method_line(summary, method, 0, spread_of, "trained") for method in methods]
    return [replace(line, is_baseline=True) for line in lines if line.points]


def _method_line(
    summary: RunSummary, method: Method, slot: int, spread_of: Callable[[SeedGroup], Spread | None], stage: str
) -> MethodLine:
    found = [(group, spread_of(group)) for group in summary.groups if group.key.method == method]
    points = tuple(_point(group, spread, stage) for group, spread in found if spread is not None)
    return MethodLine(_short(GroupKey(method, 0).series), slot, points)


def _short(name: str) -> str:
    """A name that fits beside a chart: its middle is left out of one that does not."""
    most = round((WIDEST_LABEL - 20) / LETTER_WIDTH)
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-(most // 2 - 1) :]}"


def _point(group: SeedGroup, spread: Spread, stage: str) -> LinePoint:
    missing = f"; {numbered('seed', group.missing)} missing" if group.missing else ""
    return LinePoint(
        x=group.achieved.mean,
        y=spread.mean,
        std=spread.std,
        seeds=tuple(spread.by_seed.values()),
        title=f"{group.key.label}, {stage}: {plus_minus(spread)} % ({numbered('seed', group.seeds)}{missing})",
        is_whole=group.is_complete,
    )


def _published_lines(summary: RunSummary, shown: ChartSelection) -> list[MethodLine]:
    """The published means beside the run's own lines, each at the sparsity that its result files say it had."""
    comparison = compare(summary)
    if comparison is None:
        return []
    lines = []
    for method, slot in slots_of(summary, shown).items():
        rows = [row for key, row in comparison.groups.items() if key.method == method]
        points = tuple(
            LinePoint(
                x=row.removed,
                y=row.mean,
                std=None,
                seeds=(),
                title=f"published, {row.key.label}: {percent(row.mean)} ± {percent(row.std)} % ({row.words})",
            )
            for row in rows
        )
        lines.append(MethodLine(f"published {GroupKey(method, 0).series}", slot, points, is_published=True))
    return [line for line in lines if line.points]


def _small(lines: Sequence[MethodLine], levels: Sequence[Level], x: Span, y: Span, description: str) -> Markup:
    width, height = SMALL
    return line_chart(lines, levels, x=x, y=y, width=width, height=height, description=description)


def _overall(stage: str) -> Callable[[SeedGroup], Spread]:
    def spread_of(group: SeedGroup) -> Spread:
        scores: Stage = getattr(group, stage)
        return scores.overall

    return spread_of


def _of_type(name: str) -> Callable[[SeedGroup], Spread | None]:
    return lambda group: group.retrained.by_type.get(name)


def _x_axis(lines: Iterable[MethodLine]) -> Span:
    return sparsity_span([point.x for line in lines for point in line.points])


def _heights(lines: Sequence[MethodLine], levels: Sequence[Level]) -> list[float]:
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

"""Choose the content of the charts of accuracy over sparsity: their lines, horizontal lines and panels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from markupsafe import Markup

from lxcompress.analysis.choice import Choice
from lxcompress.analysis.floors import named_floors
from lxcompress.analysis.groups import GroupKey, SeedGroup, Spread, Stage
from lxcompress.analysis.methods import CONTROL_WORDS, MOST_LINES, ChartSelection, tabulate
from lxcompress.analysis.protocol import NO_TICKETS, has_tickets
from lxcompress.analysis.published import compare
from lxcompress.analysis.summary import RunSummary
from lxcompress.analysis.verdict import verdict
from lxcompress.analysis.words import numbered, plus_minus
from lxcompress.recipe import Method
from lxcompress.records import Floors
from lxcompress.report.chart.axes import Span, accuracy_span, sparsity_span
from lxcompress.report.chart.drawing import ChartSize
from lxcompress.report.chart.keys import level_key, method_key
from lxcompress.report.chart.lines import Level, LineChart, LinePoint, MethodLine, PickMark, line_chart
from lxcompress.report.page import HeroSection, LegendKey, OmittedMethods, Panel, TypeSection
from lxcompress.units import percent, short_percent

WIDE, NARROW, SMALL = ChartSize(1080, 450), ChartSize(360, 340), ChartSize(350, 290)
LABEL_WIDTH, WIDEST_LABEL = 190, 330
LETTER_WIDTH = 7.3
"""The mean width of a letter in the names of lines, in pixels."""

STAGES: dict[str, str] = {
    "pruned": "straight after pruning the dense model",
    "rewound": "kept weights set back to their start",
    "retrained": "after retraining",
}

SpreadOf = Callable[[SeedGroup], Spread | None]
"""A function that returns the accuracies of a group to show, by seed; None if the group has none."""


@dataclass(frozen=True)
class ChartedStudy:
    """What all charts are made from: the summary of the run, the choice, and the methods to draw."""

    summary: RunSummary
    choice: Choice
    shown: ChartSelection

    @cached_property
    def slots(self) -> dict[Method, int]:
        """Method to draw -> the index of its look (colour and marker).

        The order is that of the recipe, so that a look does not change when more runs are finished. It can change only
        if other methods become the best and are drawn.
        """
        order = [row.method for row in tabulate(self.summary).rows if not row.is_baseline]
        order.sort(key=self.summary.recipe.prune.all_methods().index)
        all_slots = order if len(order) <= MOST_LINES else list(self.shown.lines)
        return {method: all_slots.index(method) for method in self.shown.lines}

    @cached_property
    def has_curves(self) -> bool:
        """Return whether there is at least one point to draw."""
        return any(_lines(self, _overall("retrained"), "retrained"))


def headline(summary: RunSummary, choice: Choice) -> str:
    """Return the verdict of a run, or a sentence that the run has no tickets."""
    return verdict(choice) if has_tickets(summary.recipe) else NO_TICKETS


def hero_section(study: ChartedStudy) -> HeroSection:
    """Return the section with the main chart, retrained accuracy over sparsity, for wide and for narrow screens."""
    lines, levels = _hero_content(study)
    shown = {level.label for level in levels}
    below = [level for level in _floor_levels(study.summary.floors) if level.label not in shown]
    wide = replace(WIDE, label_width=_label_width([line.label for line in lines] + [level.label for level in levels]))
    return HeroSection(
        wide=hero(study, wide),
        narrow=hero(study, NARROW),
        is_one_seed=len(study.summary.recipe.seeds) == 1,
        floors_below=[level.label.replace(", ", " ") for level in below],
        published=compare(study.summary),
        omitted=_omitted(study.shown),
    )


def hero(study: ChartedStudy, size: ChartSize) -> Markup:
    """Return the main chart as SVG: retrained accuracy over sparsity.

    It shows the dense model, the threshold of the rule, the floors and the pick too.
    """
    lines, levels = _hero_content(study)
    mark, picked = None, study.choice.picked
    if picked is not None:
        group = picked.group
        label = f"ticket, {short_percent(group.key.target)} %"
        mark = PickMark(group.achieved.mean, group.retrained.overall.mean, label)
    chart = LineChart(
        lines,
        levels,
        x=_x_axis(lines),
        y=accuracy_span(_heights(lines, levels)),
        description=f"Retrained accuracy over sparsity. {headline(study.summary, study.choice)}",
        mark=mark,
        y_title="retrained accuracy, %",
    )
    return line_chart(chart, size)


def method_legend(study: ChartedStudy) -> list[LegendKey]:
    """Return the legend of the drawn methods."""
    return [LegendKey(method_key(slot), GroupKey(method, 0).series) for method, slot in study.slots.items()]


def level_legend(study: ChartedStudy) -> list[LegendKey]:
    """Return the legend of the horizontal lines in the main chart."""
    summary, choice = study.summary, study.choice
    legend = []
    if summary.dense:
        legend.append(LegendKey(level_key("dense"), f"dense {plus_minus(summary.dense.overall)}"))
    if choice.longer is not None:
        legend.append(LegendKey(level_key("longer"), f"dense, twice the training {plus_minus(choice.longer)}"))
    small = _baseline_lines(summary, _overall("retrained"))
    legend += [LegendKey(level_key("baseline"), f"{line.label}: {CONTROL_WORDS['small-dense']}") for line in small]
    if choice.threshold is not None:
        legend.append(LegendKey(level_key("threshold"), f"threshold {percent(choice.threshold)}"))
    if compare(summary) is not None:
        legend.append(LegendKey(level_key("published"), "published"))
    floors = [level.label.replace(", ", " ") for level in _hero_content(study)[1] if level.kind == "floor"]
    if floors:
        legend.append(LegendKey(level_key("floor"), f"floors: {', '.join(floors)}"))
    return legend


def stage_panels(study: ChartedStudy) -> list[Panel]:
    """Return three charts with one scale: the accuracies at the stages pruned, rewound and retrained."""
    summary = study.summary
    levels = [*_dense_levels(summary.dense.overall if summary.dense else None), *_floor_levels(summary.floors)]
    by_stage = {name: _lines(study, _overall(name), name) for name in STAGES}
    x = _x_axis(line for lines in by_stage.values() for line in lines)
    y = accuracy_span([value for lines in by_stage.values() for value in _heights(lines, levels)])
    return [
        Panel(name, STAGES[name], line_chart(LineChart(lines, levels, x, y, f"{name} accuracy over sparsity"), SMALL))
        for name, lines in by_stage.items()
    ]


def type_section(study: ChartedStudy) -> TypeSection | None:
    """Return the section with the retrained accuracy of each answer type; None if the data have no types.

    Each chart has its own scale.
    """
    summary = study.summary
    names = list({name: None for group in summary.groups for name in group.retrained.by_type})
    panels = [panel for name in names if (panel := _type_panel(study, name)) is not None]
    if not panels:
        return None
    has_small = any(group.key.method.control == "small-dense" for group in summary.groups)
    return TypeSection(panels, names, has_small)


def _type_panel(study: ChartedStudy, name: str) -> Panel | None:
    """Return the chart of the retrained accuracy of one answer type; None if there is nothing to draw."""
    summary = study.summary
    lines = [*_lines(study, _of_type(name), f"retrained, {name}"), *_baseline_lines(summary, _of_type(name))]
    if not lines:
        return None
    dense = summary.dense.by_type.get(name) if summary.dense else None
    levels = _dense_levels(dense)
    floor = summary.floors.question_only.by_type.get(name) if summary.floors else None
    if floor is not None:
        title = f"question-only floor, {name}: {percent(floor)} %"
        levels += _near([Level("question-only", "floor", floor, title=title)], _heights(lines, levels))
    y = accuracy_span(_heights(lines, levels))
    chart = LineChart(lines, levels, _x_axis(lines), y, f"retrained accuracy of {name}")
    return Panel(name, f"dense {plus_minus(dense)}" if dense else "", line_chart(chart, SMALL))


def _omitted(shown: ChartSelection) -> OmittedMethods | None:
    """Return which methods only the tables show; None if the charts draw all methods."""
    if not shown.left_out:
        return None
    count = len(shown.lines) + len(shown.left_out)
    return OmittedMethods(
        f"The charts draw {len(shown.lines)} of {count} methods: the pick, the best structured one, and those that "
        "keep most compared with the mean of all at the same sparsity; never a control.",
        f"{len(shown.left_out)} methods are in the tables only",
        ", ".join(GroupKey(method, 0).series for method in shown.left_out),
    )


def _hero_content(study: ChartedStudy) -> tuple[list[MethodLine], list[Level]]:
    """Return the lines and the horizontal lines of the main chart."""
    summary, choice = study.summary, study.choice
    lines = _lines(study, _overall("retrained"), "retrained")
    lines += _baseline_lines(summary, _overall("retrained")) + _published_lines(study)
    levels = _dense_levels(summary.dense.overall if summary.dense else None) + _longer_levels(choice)
    if choice.threshold is not None:
        words = f"threshold, {percent(choice.threshold)}"
        levels.append(Level(words, "threshold", choice.threshold, title=f"{choice.rule.accuracy_words}: {words} %"))
    return lines, levels + _near(_floor_levels(summary.floors), _heights(lines, levels))


def _label_width(labels: Sequence[str]) -> int:
    """Return the width in pixels for the names of the lines."""
    return min(WIDEST_LABEL, max(LABEL_WIDTH, round(LETTER_WIDTH * max(map(len, labels), default=0)) + 20))


def _lines(study: ChartedStudy, spread_of: SpreadOf, stage: str) -> list[MethodLine]:
    """Return the lines of the drawn methods that have at least one point.

    `spread_of` returns the accuracies of a group to show.
    """
    lines = [_method_line(study.summary, method, spread_of, stage) for method in study.slots]
    slotted = [replace(line, slot=slot) for line, slot in zip(lines, study.slots.values(), strict=True)]
    return [line for line in slotted if line.points]


def _baseline_lines(summary: RunSummary, spread_of: SpreadOf) -> list[MethodLine]:
    """Return the lines of dense models that are as small as the tickets; none if the study has no such control."""
    methods = [method for method in summary.recipe.prune.all_methods() if method.control == "small-dense"]
    lines = [_method_line(summary, method, spread_of, "trained") for method in methods]
    return [replace(line, is_baseline=True) for line in lines if line.points]


def _method_line(summary: RunSummary, method: Method, spread_of: SpreadOf, stage: str) -> MethodLine:
    """Return the line of one method, with a point for each group that has a finished run."""
    found = [(group, spread_of(group)) for group in summary.groups if group.key.method == method]
    points = tuple(_point(group, spread, stage) for group, spread in found if spread is not None)
    return MethodLine(_short(GroupKey(method, 0).series), 0, points)


def _short(name: str) -> str:
    """Return a name that fits next to a chart; a long name loses its middle."""
    most = round((WIDEST_LABEL - 20) / LETTER_WIDTH)
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-(most // 2 - 1) :]}"


def _point(group: SeedGroup, spread: Spread, stage: str) -> LinePoint:
    """Return the point of one group, with its tooltip."""
    missing = f"; {numbered('seed', group.missing)} missing" if group.missing else ""
    return LinePoint(
        x=group.achieved.mean,
        y=spread.mean,
        std=spread.std,
        seeds=tuple(spread.by_seed.values()),
        title=f"{group.key.label}, {stage}: {plus_minus(spread)} % ({numbered('seed', group.seeds)}{missing})",
        is_whole=group.is_complete,
    )


def _published_lines(study: ChartedStudy) -> list[MethodLine]:
    """Return the published mean accuracies of the drawn methods, at the sparsities in the published result files."""
    comparison = compare(study.summary)
    if comparison is None:
        return []
    lines = []
    for method, slot in study.slots.items():
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


def _overall(stage: str) -> Callable[[SeedGroup], Spread]:
    """Return a function that returns the accuracies of a group at `stage` over all questions, by seed."""

    def spread_of(group: SeedGroup) -> Spread:
        scores: Stage = getattr(group, stage)
        return scores.overall

    return spread_of


def _of_type(name: str) -> SpreadOf:
    """Return a function that returns the retrained accuracies of a group for one answer type, by seed."""
    return lambda group: group.retrained.by_type.get(name)


def _x_axis(lines: Iterable[MethodLine]) -> Span:
    """Return the range of the sparsity axis for these lines."""
    return sparsity_span([point.x for line in lines for point in line.points])


def _heights(lines: Sequence[MethodLine], levels: Sequence[Level]) -> list[float]:
    """Return every accuracy that the range of a chart must include."""
    points = [point for line in lines for point in line.points]
    seeds = [value for point in points for value in point.seeds]
    ends = [_band(point) for point in points] + [_band(level) for level in levels]
    return seeds + [value for low, high in ends for value in (low, high)]


def _band(item: LinePoint | Level) -> tuple[float, float]:
    """Return the lower and the upper end of mean ± one standard deviation."""
    return item.y - (item.std or 0), item.y + (item.std or 0)


def _near(levels: Sequence[Level], heights: Sequence[float]) -> list[Level]:
    """Return the levels that are close enough to `heights`, the accuracies of a chart, to be drawn in it.

    Other levels would squeeze the lines of the chart into less than half of its height.
    """
    low, high = min(heights), max(heights)
    return [level for level in levels if low - (high - low) <= level.y <= high + (high - low)]


def _dense_levels(dense: Spread | None) -> list[Level]:
    """Return the horizontal line of the dense model; none if its accuracy is unknown."""
    if dense is None:
        return []
    return [Level(f"dense, {percent(dense.mean)}", "dense", dense.mean, dense.std, f"dense: {plus_minus(dense)} %")]


def _longer_levels(choice: Choice) -> list[Level]:
    """Return the horizontal line of the dense model trained twice as long; none if the study lacks this control."""
    longer = choice.longer
    if longer is None:
        return []
    title = f"dense, trained twice as long: {plus_minus(longer)} %"
    return [Level(f"dense, twice the training, {percent(longer.mean)}", "longer", longer.mean, title=title)]


def _floor_levels(floors: Floors | None) -> list[Level]:
    """Return a horizontal line for each floor."""
    if floors is None:
        return []
    return [
        Level(f"{name}, {percent(value)}", "floor", value, title=f"{name} floor: {percent(value)} %")
        for name, value in named_floors(floors)
    ]

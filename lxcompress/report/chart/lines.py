"""Draw accuracy over sparsity: a line with a band for each method, horizontal lines, and a ring around the pick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lxcompress.report.chart.axes import Span, percent_axes, write_titles
from lxcompress.report.chart.drawing import ChartSize, Marker, Plot, open_drawing
from lxcompress.report.chart.labels import Box, LabelWriter, spread_apart
from lxcompress.report.chart.style import (
    BOTTOM,
    CLASS,
    DASHES,
    LABEL_GAP,
    LABEL_SIZE,
    LEFT,
    OCTAGON,
    RIGHT,
    TOP,
    method_colour,
    method_marker,
)
from lxcompress.report.chart.svg import to_markup


@dataclass(frozen=True)
class LinePoint:
    """A point of a line: a group of runs (one method and sparsity).

    `x` is the sparsity and `y` the mean accuracy, both 0-1. `std` is the standard deviation of the accuracy, `seeds`
    holds the accuracy of each seed, and `title` is the tooltip. `is_whole` says whether the runs of all seeds are
    finished.
    """

    x: float
    y: float
    std: float | None
    seeds: tuple[float, ...]
    title: str
    is_whole: bool = True


@dataclass(frozen=True)
class MethodLine:
    """The line of one method; `slot` chooses its colour and its marker.

    `is_published` marks the results of the published study, and `is_baseline` a dense model.
    """

    label: str
    slot: int
    points: tuple[LinePoint, ...]
    is_published: bool = False
    is_baseline: bool = False

    @property
    def is_quiet(self) -> bool:
        """Return whether the line is thin and dashed, and drawn behind the methods of the run."""
        return self.is_published or self.is_baseline

    @property
    def colour(self) -> str:
        """The colour of the line: that of text for a baseline, else that of the method."""
        return "ink" if self.is_baseline else method_colour(self.slot)


@dataclass(frozen=True)
class Level:
    """A horizontal line over the whole chart, at the accuracy `y` (0-1); `kind` is a key of DASHES."""

    label: str
    kind: str
    y: float
    std: float | None = None
    title: str = ""


@dataclass(frozen=True)
class PickMark:
    """The ring around the point of the picked group, and the label of the ring."""

    x: float
    y: float
    label: str


@dataclass(frozen=True)
class LineChart:
    """The content of a chart of accuracy over sparsity; screen readers read `description` aloud."""

    lines: Sequence[MethodLine]
    levels: Sequence[Level]
    x: Span
    y: Span
    description: str
    mark: PickMark | None = None
    y_title: str = "accuracy, %"


def line_chart(chart: LineChart, size: ChartSize) -> Markup:
    """Return the chart as SVG. If `size` has a label width, each line has its name at the right.

    Published results are thin and dashed, in the colour of the method that they are compared with. A dense baseline
    with a line is thin and dashed too, in the colour of text.
    """
    with open_drawing(size.width, size.height) as drawing:
        plot = drawing.plot(LEFT, TOP, size.width - RIGHT - size.label_width, size.height - BOTTOM)
        percent_axes(plot, chart.x, chart.y, size.width - size.label_width)
        write_titles(plot, "sparsity, %", chart.y_title)
        for level in chart.levels:
            _draw_level(plot, level, chart.y)
        for line in chart.lines:
            if not line.is_quiet:
                _draw_band(plot, line, chart.y)
        for line in sorted(chart.lines, key=lambda line: not line.is_quiet):
            _draw_line(plot, line)
        if chart.mark:
            _draw_mark(plot, chart.mark, chart.lines)
        if size.label_width:
            _draw_names(plot, chart.lines, chart.levels)
        return to_markup(drawing, chart.description)


def _draw_level(plot: Plot, level: Level, y: Span) -> None:
    """Draw a horizontal line, and a band of one standard deviation around it if that is known."""
    colour, width, dashes = DASHES[level.kind]
    left, right = plot.axes.get_xlim()
    if level.std:
        low, high = max(level.y - level.std, y[0]), min(level.y + level.std, y[1])
        plot.band([left, right], [100 * low] * 2, [100 * high] * 2, colour, alpha=0.09)
    tip = plot.drawing.tip(level.title or level.label)
    plot.line([left, right], [100 * level.y] * 2, colour, linewidth=width, linestyle=dashes, gid=tip)


def _draw_band(plot: Plot, line: MethodLine, y: Span) -> None:
    """Fill the band of mean ± one standard deviation over neighbouring points.

    A point without a standard deviation interrupts the band.
    """
    runs: list[list[LinePoint]] = [[]]
    for point in line.points:
        if point.std is None:
            runs.append([])
        else:
            runs[-1].append(point)
    for run in runs:
        if len(run) > 1:
            plot.band(
                [100 * point.x for point in run],
                [100 * max(point.y - (point.std or 0), y[0]) for point in run],
                [100 * min(point.y + (point.std or 0), y[1]) for point in run],
                line.colour,
                alpha=0.15,
                gid=f"{CLASS}band",
            )


def _draw_line(plot: Plot, line: MethodLine) -> None:
    """Draw the line of a method, a marker at each of its points, and a faint dot for each seed."""
    xs, ys = [100 * point.x for point in line.points], [100 * point.y for point in line.points]
    if line.is_quiet:
        kind = "baseline" if line.is_baseline else "published"
        _, width, dashes = DASHES[kind]
        plot.line(xs, ys, line.colour, linewidth=width, linestyle=dashes, alpha=0.85, gid=f"{CLASS}line {kind}")
        for point in line.points:
            plot.marker(Marker(100 * point.x, 100 * point.y, line.colour, OCTAGON, point.title))
        return
    plot.line(xs, ys, line.colour, linewidth=2.4, solid_joinstyle="round", solid_capstyle="round")
    seeds = [(100 * point.x, 100 * value) for point in line.points if len(point.seeds) > 1 for value in point.seeds]
    if seeds:
        plot.dots([x for x, _ in seeds], [y for _, y in seeds], line.colour)
    shape = method_marker(line.slot)
    for point in line.points:
        plot.marker(Marker(100 * point.x, 100 * point.y, line.colour, shape, point.title, point.is_whole))


def _draw_mark(plot: Plot, mark: PickMark, lines: Sequence[MethodLine]) -> None:
    """Draw the ring around the pick, and write its label where the label covers no point."""
    plot.ring(100 * mark.x, 100 * mark.y, 19)
    writer = LabelWriter(plot.drawing, Box(LEFT, TOP - 8, plot.right, plot.drawing.height - BOTTOM))
    writer.keep_free((plot.position(100 * point.x, 100 * point.y) for line in lines for point in line.points), 5)
    writer.write(plot.position(100 * mark.x, 100 * mark.y), [mark.label], 15, weight="bold")


def _draw_names(plot: Plot, lines: Sequence[MethodLine], levels: Sequence[Level]) -> None:
    """Write the name of each line at its right end; names that would overlap are moved apart."""
    drawing, right = plot.drawing, plot.right
    wanted = []
    for line in lines:
        if line.points:
            x, y = plot.position(100 * line.points[-1].x, 100 * line.points[-1].y)
            wanted.append((y, x + 8, line.colour, "medium" if line.is_quiet else "semibold", line.label))
    for level in levels:
        colour, weight = DASHES[level.kind][0], "semibold" if level.kind == "dense" else "medium"
        wanted.append((plot.position(0, 100 * level.y)[1], right, colour, weight, level.label))
    wanted.sort(key=lambda label: label[0])
    heights = spread_apart([label[0] for label in wanted], gap=LABEL_GAP, low=TOP, high=drawing.height - BOTTOM)
    for height, (own_height, end, colour, weight, words) in zip(heights, wanted, strict=True):
        drawing.stroke([max(end, right), right + 12], [own_height, height], colour, linewidth=1, alpha=0.5)
        drawing.text(right + 16, height, words, ha="left", fontsize=LABEL_SIZE, weight=weight, color=colour)

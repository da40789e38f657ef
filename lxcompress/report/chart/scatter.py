"""Draw accuracy against a cost: a dot for each artifact, and the Pareto front as a stair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lxcompress.report.chart.axes import Span, cost_axes, write_titles
from lxcompress.report.chart.drawing import ChartSize, Marker, Plot, open_drawing
from lxcompress.report.chart.labels import Box, LabelWriter
from lxcompress.report.chart.style import BOTTOM, DASHES, LEFT, RIGHT, TOP
from lxcompress.report.chart.svg import to_markup


@dataclass(frozen=True)
class Dot:
    """The dot of an artifact: its cost `x`, its accuracy `y` (0-1), its look and its tooltip `title`.

    `labels` are the labels to try, the longest first. `is_marked` says whether a ring is drawn around the dot.
    """

    x: float
    y: float
    colour: str
    marker: str
    labels: tuple[str, ...]
    title: str
    is_marked: bool = False


@dataclass(frozen=True)
class CostChart:
    """The content of a chart of accuracy against a cost; `front` holds the corners (cost, accuracy) of the stair."""

    dots: Sequence[Dot]
    front: Sequence[Span]
    y: Span
    x_title: str
    description: str


def cost_chart(chart: CostChart, size: ChartSize) -> Markup:
    """Return the chart of accuracy against a cost as SVG."""
    with open_drawing(size.width, size.height) as drawing:
        plot = drawing.plot(LEFT, TOP, size.width - RIGHT, size.height - BOTTOM)
        is_log = cost_axes(plot, [dot.x for dot in chart.dots], chart.y)
        x_title = f"{chart.x_title}, logarithmic" if is_log else chart.x_title
        write_titles(plot, x_title, "accuracy of the exported file, %")
        if chart.front:
            _draw_front(plot, chart.front)
        for dot in chart.dots:
            plot.marker(Marker(dot.x, 100 * dot.y, dot.colour, dot.marker, dot.title))
            if dot.is_marked:
                plot.ring(dot.x, 100 * dot.y, 15)
        _label_dots(plot, chart.dots)
        return to_markup(drawing, chart.description)


def _draw_front(plot: Plot, front: Sequence[Span]) -> None:
    """Draw the Pareto front as a stair, up to the right edge of the axes."""
    colour, width, dashes = DASHES["front"]
    ends = [*front, (plot.axes.get_xlim()[1], front[-1][1])]
    look = {"linewidth": width, "linestyle": dashes, "drawstyle": "steps-post", "alpha": 0.7}
    plot.line([x for x, _ in ends], [100 * y for _, y in ends], colour, **look)


def _label_dots(plot: Plot, dots: Sequence[Dot]) -> None:
    """Write next to each dot the longest of its labels that fits and covers nothing."""
    drawing = plot.drawing
    positions = [plot.position(dot.x, 100 * dot.y) for dot in dots]
    writer = LabelWriter(drawing, Box(LEFT, TOP - 8, drawing.width - 2, drawing.height - BOTTOM + 2))
    writer.keep_free(positions, 6)
    for dot, position in zip(dots, positions, strict=True):
        writer.write(position, dot.labels, 13 if dot.is_marked else 9)

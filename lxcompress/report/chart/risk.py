"""Draw the risk of models over their coverage: how often they are wrong if they answer only what they are sure of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lxcompress.report.chart.axes import accuracy_span, percent_axes, write_titles
from lxcompress.report.chart.drawing import ChartSize, open_drawing
from lxcompress.report.chart.style import BOTTOM, DASHES, LEFT, RIGHT, TOP, method_colour
from lxcompress.report.chart.svg import to_markup


@dataclass(frozen=True)
class RiskLine:
    """The risk (0-1) of one model at each coverage; `slot` chooses its colour, and None is the dense model."""

    slot: int | None
    coverage: Sequence[float]
    risk: Sequence[float]


def risk_chart(lines: Sequence[RiskLine], description: str, size: ChartSize) -> Markup:
    """Return the chart as SVG; screen readers read `description` aloud."""
    with open_drawing(size.width, size.height) as drawing:
        plot = drawing.plot(LEFT, TOP, size.width - RIGHT, size.height - BOTTOM)
        span = accuracy_span([value for line in lines for value in line.risk])
        percent_axes(plot, (0.0, 1.0), (0.0, span[1]), size.width)
        write_titles(plot, "coverage, %", "risk, %")
        for line in lines:
            across = [100 * value for value in line.coverage]
            up = [100 * value for value in line.risk]
            if line.slot is None:
                colour, width, dashes = DASHES["dense"]
                plot.line(across, up, colour, linewidth=width, linestyle=dashes)
            else:
                plot.line(across, up, method_colour(line.slot), linewidth=2.0)
        return to_markup(drawing, description)

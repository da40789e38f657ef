"""The axes of a chart: the range that each axis shows, its ticks and its title."""

from __future__ import annotations

from collections.abc import Sequence

from lxcompress.report.chart.drawing import Plot
from lxcompress.report.chart.style import HEX, TITLE_SIZE

Span = tuple[float, float]
"""The smallest and the largest value of an axis."""


def sparsity_span(values: Sequence[float]) -> Span:
    """Return the range of an axis for sparsities (0-1), rounded outwards to tens of percent.

    The range starts at 0 if the lowest sparsity is near 0.
    """
    low = max(0.0, (10 * (min(values) - 0.03)) // 1 / 10)
    high = min(1.0, -((-10 * (max(values) + 0.03)) // 1) / 10)
    return (0.0 if low <= 0.2 else low), high


def accuracy_span(values: Sequence[float]) -> Span:
    """Return the range of an axis for accuracies: a little wider than their own range, and within 0-1."""
    low, high = min(values), max(values)
    margin = max(0.06 * (high - low), 0.005)
    return max(0.0, low - margin), min(1.0, high + margin)


def percent_axes(plot: Plot, x: Span, y: Span, width: int) -> None:
    """Set the ranges `x` and `y` (0-1) of both axes, in percent, with as many ticks as fit into `width` pixels."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes = plot.axes
    axes.set_xlim(100 * x[0], 100 * x[1])
    axes.set_ylim(100 * y[0], 100 * y[1])
    axes.xaxis.set_major_locator(MaxNLocator(10 if width > 420 else 5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_major_formatter(plain)
    axes.yaxis.set_major_formatter(plain)
    axes.tick_params(axis="y", length=0, pad=8)
    axes.tick_params(axis="x", length=5, pad=4)
    axes.grid(axis="y", color=HEX["rule"], linewidth=1)


def cost_axes(plot: Plot, values: Sequence[float], y: Span) -> bool:
    """Set the axis x for a cost and the axis y for accuracy; return whether x is logarithmic.

    The axis x is logarithmic if the largest cost is more than ten times the smallest. Otherwise it starts at 0.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    axes, low, high = plot.axes, min(values), max(values)
    percent_axes(plot, (0, 1), y, 0)
    is_log = low > 0 and high > 10 * low
    if is_log:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.4, high * 1.4)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(0, 1.12 * high or 1)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return is_log


def write_titles(plot: Plot, x_title: str, y_title: str) -> None:
    """Write the title of the axis x below the axes, and that of the axis y above them."""
    drawing, box = plot.drawing, plot.axes.get_position()
    middle = drawing.width * (box.x0 + box.x1) / 2
    drawing.text(middle, drawing.height - 9, x_title, ha="center", fontsize=TITLE_SIZE)
    drawing.text(6, 11, y_title, ha="left", fontsize=TITLE_SIZE)

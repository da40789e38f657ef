"""Draw the small samples for a legend: the line of a method, a horizontal line, or the dot of an artifact."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from markupsafe import Markup

from lxcompress.report.chart.drawing import Marker, Plot, open_drawing
from lxcompress.report.chart.style import DASHES, method_colour, method_marker
from lxcompress.report.chart.svg import to_markup


@cache
def method_key(slot: int) -> Markup:
    """Return a sample of the line and the marker of a method."""
    colour, marker = method_colour(slot), method_marker(slot)

    def draw(plot: Plot) -> None:
        plot.line([1, 29], [6, 6], colour, linewidth=2.4, solid_capstyle="butt")
        plot.marker(Marker(15, 6, colour, marker))

    return _key(draw)


@cache
def level_key(kind: str) -> Markup:
    """Return a sample of a horizontal line of a chart; `kind` is a key of DASHES."""
    colour, width, dashes = DASHES[kind]
    return _key(lambda plot: plot.line([1, 29], [6, 6], colour, linewidth=width, linestyle=dashes))


@cache
def dot_key(colour: str, marker: str) -> Markup:
    """Return a sample of the dot of an artifact."""
    return _key(lambda plot: plot.marker(Marker(7, 6, colour, marker)), width=14)


def _key(draw: Callable[[Plot], None], width: int = 30) -> Markup:
    """Return a sample of `width` pixels, which the function `draw` draws."""
    with open_drawing(width, 12) as drawing:
        draw(drawing.canvas())
        return to_markup(drawing, None)

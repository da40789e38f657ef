"""Draw fractions as shaded cells: a column for each method, a row for each part or layer of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lxcompress.report.chart.drawing import Marker, Plot, open_drawing
from lxcompress.report.chart.style import method_colour, method_marker
from lxcompress.report.chart.svg import to_markup

ROW, COLUMN_HEAD, GAP = 21, 26, 8
"""Heights in pixels: of a row, of the heads of the columns, and of a gap between two groups of rows."""


@dataclass(frozen=True)
class HeatColumn:
    """One column, which is a method: `slot` chooses its marker, and `title` names the method in tooltips."""

    slot: int
    title: str


@dataclass(frozen=True)
class HeatMap:
    """The content of a map of shaded cells.

    A row is a name, and a fraction (0-1) for each column; None is unknown. `breaks` holds the indexes of the rows that
    a gap precedes.
    """

    columns: Sequence[HeatColumn]
    rows: Sequence[tuple[str, Sequence[float | None]]]
    breaks: Sequence[int]
    description: str


def heat_map(heat: HeatMap, *, width: int, name_width: int) -> Markup:
    """Return the map as SVG. It is `width` pixels wide, and `name_width` of these hold the names of the rows."""
    height = COLUMN_HEAD + ROW * len(heat.rows) + GAP * len(heat.breaks) + 4
    cell_width = (width - name_width) / len(heat.columns)
    with open_drawing(width, height) as drawing:
        plot = drawing.canvas()
        for index, column in enumerate(heat.columns):
            centre = name_width + cell_width * (index + 0.5)
            plot.marker(Marker(centre, 12, method_colour(column.slot), method_marker(column.slot), column.title))
        top = float(COLUMN_HEAD)
        for number, (name, shares) in enumerate(heat.rows):
            top += GAP * (number in heat.breaks)
            drawing.text(name_width - 8, top + ROW / 2, name, ha="right", color="ink")
            for index, (column, share) in enumerate(zip(heat.columns, shares, strict=True)):
                box = (name_width + cell_width * index, top, cell_width)
                _draw_cell(plot, box, share, f"{column.title}, {name}: {_share_words(share)}")
            top += ROW
        return to_markup(drawing, heat.description)


def _share_words(share: float | None) -> str:
    """Return the kept fraction of the weights as text."""
    return "unknown" if share is None else f"{100 * share:.1f} % kept"


def _draw_cell(plot: Plot, box: tuple[float, float, float], share: float | None, title: str) -> None:
    """Draw one cell; `box` is its left edge, its top and its width in pixels."""
    left, top, width = box
    shade = 0.0 if share is None else 0.05 + 0.55 * share
    plot.rectangle((left + 1, top + 1), (width - 2, ROW - 2), alpha=shade, title=title)
    words, colour = ("–", "soft") if share is None else (f"{100 * share:.0f}", "ink")
    plot.drawing.text(left + width / 2, top + ROW / 2, words, ha="center", color=colour)

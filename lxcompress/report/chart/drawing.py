"""A drawing in pixels on a matplotlib figure: axes, lines, markers, text and tooltips.

matplotlib computes positions and ticks, and writes the SVG. The module `chart.svg` then removes everything that may not
occur twice in a page, such as identifiers.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

from lxcompress.quiet import quiet_loggers
from lxcompress.report.chart.style import HEX, MARKER_SIZES, TICK_SIZE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ChartSize:
    """The size of a chart in pixels. The names of lines take `label_width` pixels of the width, at the right."""

    width: int
    height: int
    label_width: int = 0


@dataclass(frozen=True)
class Marker:
    """A marker at the position (x, y) of some axes. It is hollow unless `is_whole`. `title` is its tooltip."""

    x: float
    y: float
    colour: str
    shape: str
    title: str = ""
    is_whole: bool = True


@dataclass
class Drawing:
    """A drawing in progress: the figure, its size in pixels, and {mark of a drawn shape: its tooltip} in `tips`."""

    figure: Figure
    width: int
    height: int
    tips: dict[str, str] = field(default_factory=dict)

    def plot(self, left: float, top: float, right: float, bottom: float) -> Plot:
        """Add axes to the drawing and return them; the four edges are in pixels from the upper left corner."""
        box = (left / self.width, 1 - bottom / self.height, (right - left) / self.width, (bottom - top) / self.height)
        axes = self.figure.add_axes(box, facecolor="none")
        axes.spines[["left", "right", "top"]].set_visible(False)
        axes.spines["bottom"].set(color=HEX["soft"], linewidth=1)
        axes.tick_params(labelsize=TICK_SIZE, labelcolor=HEX["soft"], color=HEX["soft"], width=1)
        axes.set_axisbelow(True)
        return Plot(self, axes)

    def canvas(self) -> Plot:
        """Add and return invisible axes over the whole drawing; their positions are in pixels from the upper left."""
        limits: dict[str, Any] = {"xlim": (0, self.width), "ylim": (self.height, 0)}
        axes = self.figure.add_axes((0, 0, 1, 1), facecolor="none", **limits)
        axes.set_axis_off()
        return Plot(self, axes)

    def tip(self, title: str) -> str:
        """Store the tooltip `title`, and return the mark that connects a shape with this tooltip."""
        name = f"tip-{len(self.tips)}"
        self.tips[name] = clean(title)
        return name

    def text(self, x: float, y: float, words: str, **look: Any) -> None:
        """Write text at a position in pixels from the upper left; no character has a special meaning."""
        look = {"fontsize": TICK_SIZE, "va": "center_baseline", **look}
        look["color"] = HEX[look.get("color", "soft")]
        found = self.figure.text(x / self.width, 1 - y / self.height, clean(words), **look)
        found.set_parse_math(False)

    def stroke(self, xs: Sequence[float], ys: Sequence[float], colour: str, **look: Any) -> None:
        """Draw a line through positions in pixels from the upper left."""
        from matplotlib.lines import Line2D

        across, up = [x / self.width for x in xs], [1 - y / self.height for y in ys]
        self.figure.add_artist(Line2D(across, up, color=HEX[colour], transform=self.figure.transFigure, **look))

    def svg(self) -> str:
        """Return the drawing as the SVG that matplotlib writes."""
        written = BytesIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        self.figure.savefig(written, format="svg", metadata=nothing, facecolor="none")
        return written.getvalue().decode()


@dataclass(frozen=True)
class Plot:
    """The axes of a drawing, with functions that draw at positions of these axes."""

    drawing: Drawing
    axes: Axes

    @property
    def right(self) -> float:
        """The right edge of the axes, in pixels from the left edge of the drawing."""
        return self.drawing.width * self.axes.get_position().x1

    def position(self, x: float, y: float) -> tuple[float, float]:
        """Return the position of the point (x, y) of the axes, in pixels from the upper left of the drawing."""
        across, up = self.axes.transData.transform((x, y))
        return float(across), self.drawing.height - float(up)

    def line(self, xs: Sequence[float], ys: Sequence[float], colour: str, **look: Any) -> None:
        """Draw a line; parts outside of the axes are drawn too."""
        self.axes.plot(xs, ys, color=HEX[colour], clip_on=False, **look)

    def band(
        self, xs: Sequence[float], lows: Sequence[float], highs: Sequence[float], colour: str, **look: Any
    ) -> None:
        """Fill the area between the lines `lows` and `highs`."""
        self.axes.fill_between(xs, lows, highs, color=HEX[colour], linewidth=0, clip_on=False, **look)

    def dots(self, xs: Sequence[float], ys: Sequence[float], colour: str) -> None:
        """Draw a faint dot at each position."""
        self.axes.plot(
            xs, ys, "o", clip_on=False, markersize=3.6, markerfacecolor=HEX[colour], markeredgewidth=0, alpha=0.5
        )

    def ring(self, x: float, y: float, size: float) -> None:
        """Draw a ring around a point."""
        look: dict[str, Any] = {"markersize": size, "markerfacecolor": "none", "markeredgewidth": 1.8}
        self.axes.plot([x], [y], "o", clip_on=False, markeredgecolor=HEX["ink"], **look)

    def marker(self, marker: Marker) -> None:
        """Draw one marker at its position."""
        from matplotlib.lines import Line2D

        edge = ("card", 1.2) if marker.is_whole else (marker.colour, 2.0)
        artist = Line2D(
            [marker.x],
            [marker.y],
            linestyle="none",
            marker=marker.shape,
            markersize=MARKER_SIZES.get(marker.shape, 8.0),
            markerfacecolor=HEX[marker.colour if marker.is_whole else "card"],
            markeredgecolor=HEX[edge[0]],
            markeredgewidth=edge[1],
            clip_on=False,
            gid=self.drawing.tip(marker.title) if marker.title else None,
        )
        self.axes.add_artist(artist)  # not plot(), which would compute new limits each time

    def rectangle(self, corner: tuple[float, float], size: tuple[float, float], *, alpha: float, title: str) -> None:
        """Fill a rectangle in the accent colour; `title` is its tooltip."""
        from matplotlib.patches import Rectangle

        look: dict[str, Any] = {
            "facecolor": HEX["accent"],
            "alpha": alpha,
            "gid": self.drawing.tip(title),
            "clip_on": False,
        }
        self.axes.add_artist(Rectangle(corner, *size, **look))


@contextmanager
def open_drawing(width: int, height: int) -> Iterator[Drawing]:
    """Yield an empty drawing. The user's matplotlibrc has no effect, and matplotlib's settings are restored.

    Messages of matplotlib are dropped: that it builds a font cache, or that its font lacks a letter. They do not
    matter, because the browser chooses the font.
    """
    with quiet_loggers("matplotlib"):
        import matplotlib
        from matplotlib.figure import Figure

        with matplotlib.rc_context(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            matplotlib.rcdefaults()
            matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "lxcompress", "path.simplify": False})
            yield Drawing(Figure(figsize=(width / 72, height / 72), dpi=72, facecolor="none"), width, height)


def clean(words: str) -> str:
    """Return text on one line, with a replacement for each character that XML cannot contain."""
    line = " ".join(words.split())
    return "".join("\ufffd" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in line)

"""The report's charts, drawn by matplotlib: inline SVG that takes its colours from the page's style sheet.

matplotlib places, ticks and measures; what it writes is then stripped of all that a page cannot have twice or does not
want: identifiers, a style sheet that would reach beyond the drawing, its fonts. Colours are names (`var(--ink)`), so
that one drawing serves light, dark and print. Text stays text, and points carry their numbers as tooltips.
"""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from lxcompress.quiet import quiet_loggers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("card", "ink", "soft", "rule", "accent", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7")
"""The page's variables that a chart is drawn in."""
_HEX = {name: f"#fe{index:02x}01" for index, name in enumerate(COLOURS)}
_NAMES = {code: f"var(--{name})" for name, code in _HEX.items()}
# Series beyond these share the last look; a chart of more is not drawn (report/methods.py).
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "h")
SLOTS = len(MARKERS)
DOT = "8"
"""The marker, an octagon, of what others published and of dense baselines."""
MARKER_SIZES = {DOT: 6.2, "o": 8.4, "s": 7.6, "D": 7.2, "^": 9.0, "v": 9.0, "P": 9.2, "X": 9.0, "h": 9.2}
DASHES: Mapping[str, tuple[str, float, Any]] = {
    "dense": ("ink", 1.8, "-"),
    "longer": ("ink", 1.6, (0, (7.5, 2, 1.2, 2))),
    "baseline": ("ink", 1.4, (0, (2, 2))),
    "threshold": ("ink", 1.3, (0, (5, 4))),
    "floor": ("soft", 1.5, (0, (1, 3))),
    "published": ("soft", 1.3, (0, (4, 3))),
    "front": ("accent", 1.6, "-"),
}
"""Look of a line that is not a method's: colour, width, dashes."""
TICK, TITLE, LABEL = 12, 12, 13
LABEL_GAP = 15.0
LETTER = 0.6
"""Width of a letter in the page's font, as a share of its size, on the wide side."""
BOTTOM, TOP, LEFT, RIGHT = 44, 30, 46, 14
ROW, COLUMN_HEAD = 21, 26
"""Heights in a heat map."""
Span = tuple[float, float]
"""The least and the greatest value of an axis."""


@dataclass(frozen=True)
class LinePoint:
    """One group: sparsity and mean accuracy (0-1), its standard deviation, its seeds' values, and what to say of it."""

    x: float
    y: float
    std: float | None
    seeds: tuple[float, ...]
    title: str
    is_whole: bool = True


@dataclass(frozen=True)
class MethodLine:
    """One method; `slot` chooses its colour and marker."""

    label: str
    slot: int
    points: tuple[LinePoint, ...]
    is_published: bool = False
    is_baseline: bool = False

    @property
    def is_quiet(self) -> bool:
        """Whether it is a dash behind the run's own lines."""
        return self.is_published or self.is_baseline

    @property
    def colour(self) -> str:
        return "ink" if self.is_baseline else f"s{_slot(self.slot)}"


@dataclass(frozen=True)
class Level:
    """A horizontal line over the whole chart; `kind` (of DASHES) chooses its look."""

    label: str
    kind: str
    y: float
    std: float | None = None
    title: str = ""


@dataclass(frozen=True)
class PickMark:
    """The ring around one point, with a word beside it."""

    x: float
    y: float
    label: str


@dataclass(frozen=True)
class Dot:
    """An artifact: what it costs, its accuracy (0-1), its look, and the labels to try beside it, the fullest first."""

    x: float
    y: float
    colour: str
    marker: str
    labels: tuple[str, ...]
    title: str
    is_marked: bool = False


@dataclass(frozen=True)
class _Box:
    """A rectangle in pixels from the upper left."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: _Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def is_within(self, other: _Box) -> bool:
        return (
            other.left <= self.left
            and self.right <= other.right
            and other.top <= self.top
            and self.bottom <= other.bottom
        )


@dataclass
class _Sheet:
    """A drawing under way: its figure in pixels, and what its points say."""

    figure: Figure
    width: int
    height: int
    tips: dict[str, str] = field(default_factory=dict)

    def axes(self, left: float, top: float, right: float, bottom: float) -> Axes:
        """Axes within those edges, in pixels from the upper left."""
        place = (left / self.width, 1 - bottom / self.height, (right - left) / self.width, (bottom - top) / self.height)
        found = self.figure.add_axes(place, facecolor="none")
        found.spines[["left", "right", "top"]].set_visible(False)
        found.spines["bottom"].set(color=_HEX["soft"], linewidth=1)
        found.tick_params(labelsize=TICK, labelcolor=_HEX["soft"], color=_HEX["soft"], width=1)
        found.set_axisbelow(True)
        return found

    def tip(self, title: str) -> str:
        """The mark of an artist that shows `title` when it is pointed at."""
        name = f"tip-{len(self.tips)}"
        self.tips[name] = _clean(title)
        return name

    def text(self, x: float, y: float, words: str, **look: Any) -> None:
        """Words at a place in pixels from the upper left, taken as they are."""
        look = {"fontsize": TICK, "va": "center_baseline", **look}
        look["color"] = _HEX[look.get("color", "soft")]
        found = self.figure.text(x / self.width, 1 - y / self.height, _clean(words), **look)
        found.set_parse_math(False)

    def stroke(self, xs: Sequence[float], ys: Sequence[float], colour: str, **look: Any) -> None:
        """A line between places in pixels from the upper left."""
        from matplotlib.lines import Line2D

        across, up = [x / self.width for x in xs], [1 - y / self.height for y in ys]
        self.figure.add_artist(Line2D(across, up, color=_HEX[colour], transform=self.figure.transFigure, **look))


def line_chart(
    lines: Sequence[MethodLine],
    levels: Sequence[Level],
    *,
    x: Span,
    y: Span,
    width: int,
    height: int,
    description: str,
    mark: PickMark | None = None,
    label_width: int = 0,
    y_title: str = "accuracy, %",
) -> Markup:
    """Accuracy over sparsity: lines with bands, levels across, one mark.

    `label_width` pixels at the right hold each line's name, 0 leaves naming to a legend beside it. What others
    published is dashed and thin, in the colour of the line that it is held against; a dense baseline that has a line is
    so too, in ink.
    """
    with _sheet(width, height) as sheet:
        axes = sheet.axes(LEFT, TOP, width - RIGHT - label_width, height - BOTTOM)
        _percents(axes, x, y, width - label_width)
        _titles(sheet, axes, "sparsity, %", y_title)
        for level in levels:
            _draw_level(sheet, axes, level, y)
        for line in lines:
            if not line.is_quiet:
                _draw_band(axes, line, y)
        for line in sorted(lines, key=lambda each: not each.is_quiet):
            _draw_line(sheet, axes, line)
        if mark:
            _draw_mark(sheet, axes, mark, lines)
        if label_width:
            _draw_labels(sheet, axes, lines, levels)
        return _markup(sheet, description)


def trade_chart(
    dots: Sequence[Dot], front: Sequence[Span], *, y: Span, width: int, height: int, description: str, x_title: str
) -> Markup:
    """Accuracy over what it costs: a dot an artifact, and the front, corners of a stair from (cost, accuracy) up."""
    with _sheet(width, height) as sheet:
        axes = sheet.axes(LEFT, TOP, width - RIGHT, height - BOTTOM)
        is_log = _costs(axes, [dot.x for dot in dots], y)
        _titles(sheet, axes, f"{x_title}, logarithmic" if is_log else x_title, "accuracy of the exported file, %")
        colour, line_width, dashes = DASHES["front"]
        if front:
            ends = [*front, (axes.get_xlim()[1], front[-1][1])]
            axes.plot(
                [x for x, _ in ends],
                [100 * each for _, each in ends],
                color=_HEX[colour],
                linewidth=line_width,
                linestyle=dashes,
                drawstyle="steps-post",
                alpha=0.7,
                clip_on=False,
            )
        for dot in dots:
            _draw_marker(sheet, axes, dot.x, 100 * dot.y, dot.colour, dot.marker, title=dot.title)
            if dot.is_marked:
                _draw_ring(axes, dot.x, 100 * dot.y, 15)
        _label_dots(sheet, axes, dots)
        return _markup(sheet, description)


def heat_map(
    rows: Sequence[tuple[str, Sequence[float | None]]],
    slots: Sequence[int],
    *,
    width: int,
    name_width: int,
    breaks: Sequence[int],
    description: str,
    titles: Sequence[str],
) -> Markup:
    """Shares (0-1, None: not there) as shaded cells with their percentages; a column is headed by its method's marker.

    A gap stands before each row whose number is among `breaks`; `titles` name the columns in tooltips.
    """
    gap = 8
    height = COLUMN_HEAD + ROW * len(rows) + gap * len(breaks) + 4
    cell = (width - name_width) / len(slots)
    with _sheet(width, height) as sheet:
        axes = sheet.figure.add_axes((0, 0, 1, 1), facecolor="none", xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        for column, (slot, title) in enumerate(zip(slots, titles, strict=True)):
            place = name_width + cell * (column + 0.5)
            _draw_marker(sheet, axes, place, 12, f"s{_slot(slot)}", MARKERS[_slot(slot)], title=title)
        top = float(COLUMN_HEAD)
        for number, (name, shares) in enumerate(rows):
            top += gap * (number in breaks)
            sheet.text(name_width - 8, top + ROW / 2, name, ha="right", color="ink")
            for column, share in enumerate(shares):
                tip = f"{titles[column]}, {name}: {_kept(share)}"
                _draw_cell(sheet, axes, name_width + cell * column, top, cell, share, tip)
            top += ROW
        return _markup(sheet, description)


def sparsity_span(values: Sequence[float]) -> Span:
    """Tens of percent around the sparsities; from 0 where they begin low."""
    low = max(0.0, (10 * (min(values) - 0.03)) // 1 / 10)
    high = min(1.0, -((-10 * (max(values) + 0.03)) // 1) / 10)
    return (0.0 if low <= 0.2 else low), high


def accuracy_span(values: Sequence[float]) -> Span:
    """The accuracies with a little air on both sides, within 0-1."""
    low, high = min(values), max(values)
    air = max(0.06 * (high - low), 0.005)
    return max(0.0, low - air), min(1.0, high + air)


@cache
def key_svg(slot: int) -> Markup:
    """A legend's sample of a method's line."""
    colour, marker = f"s{_slot(slot)}", MARKERS[_slot(slot)]

    def draw(sheet: _Sheet, axes: Axes) -> None:
        axes.plot([1, 29], [6, 6], color=_HEX[colour], linewidth=2.4, solid_capstyle="butt", clip_on=False)
        _draw_marker(sheet, axes, 15, 6, colour, marker)

    return _key(draw)


@cache
def level_key_svg(kind: str) -> Markup:
    """A legend's sample of a level."""
    colour, width, dashes = DASHES[kind]
    look = {"color": _HEX[colour], "linewidth": width, "linestyle": dashes, "clip_on": False}
    return _key(lambda sheet, axes: axes.plot([1, 29], [6, 6], **look))


@cache
def dot_key_svg(colour: str, marker: str) -> Markup:
    """A legend's sample of an artifact."""
    return _key(lambda sheet, axes: _draw_marker(sheet, axes, 7, 6, colour, marker), width=14)


def spread_apart(places: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Ascending `places` moved as little as it takes to stand `gap` apart and, where they fit, between low and high."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap) if moved else max(place, low))
    ceiling = high
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - gap
    return moved


def _slot(slot: int) -> int:
    return min(slot, SLOTS - 1)


def _kept(share: float | None) -> str:
    return "not there" if share is None else f"{100 * share:.1f} % stay"


def _key(draw: Callable[[_Sheet, Axes], object], width: int = 30) -> Markup:
    with _sheet(width, 12) as sheet:
        axes = sheet.figure.add_axes((0, 0, 1, 1), facecolor="none", xlim=(0, width), ylim=(12, 0))
        axes.set_axis_off()
        draw(sheet, axes)
        return _markup(sheet, None)


# Each drawing has settings of its own, whatever the user's matplotlibrc says, and leaves the library as it was. What
# the library has to remark on (a font cache that it makes, a letter that its own font lacks) is not the user's concern:
# the browser chooses the font.
@contextmanager
def _sheet(width: int, height: int) -> Iterator[_Sheet]:
    with quiet_loggers("matplotlib"):
        import matplotlib
        from matplotlib.figure import Figure

        with matplotlib.rc_context(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            matplotlib.rcdefaults()
            matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "lxcompress", "path.simplify": False})
            yield _Sheet(Figure(figsize=(width / 72, height / 72), dpi=72, facecolor="none"), width, height)


def _percents(axes: Axes, x: Span, y: Span, width: int) -> None:
    """Both axes in percent, with as many ticks as there is room for."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_xlim(100 * x[0], 100 * x[1])
    axes.set_ylim(100 * y[0], 100 * y[1])
    axes.xaxis.set_major_locator(MaxNLocator(10 if width > 420 else 5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_major_formatter(plain)
    axes.yaxis.set_major_formatter(plain)
    axes.tick_params(axis="y", length=0, pad=8)
    axes.tick_params(axis="x", length=5, pad=4)
    axes.grid(axis="y", color=_HEX["rule"], linewidth=1)


def _costs(axes: Axes, values: Sequence[float], y: Span) -> bool:
    """A cost along x, from nothing; logarithmic where the dearest is more than tenfold the cheapest, which it says."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    low, high = min(values), max(values)
    _percents(axes, (0, 1), y, 0)
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


def _titles(sheet: _Sheet, axes: Axes, x_title: str, y_title: str) -> None:
    place = axes.get_position()
    sheet.text(sheet.width * (place.x0 + place.x1) / 2, sheet.height - 9, x_title, ha="center", fontsize=TITLE)
    sheet.text(6, 11, y_title, ha="left", fontsize=TITLE)


def _draw_level(sheet: _Sheet, axes: Axes, level: Level, y: Span) -> None:
    colour, width, dashes = DASHES[level.kind]
    left, right = axes.get_xlim()
    if level.std:
        low, high = max(level.y - level.std, y[0]), min(level.y + level.std, y[1])
        axes.fill_between(
            [left, right], 100 * low, 100 * high, color=_HEX[colour], alpha=0.09, linewidth=0, clip_on=False
        )
    axes.plot(
        [left, right],
        [100 * level.y] * 2,
        color=_HEX[colour],
        linewidth=width,
        linestyle=dashes,
        clip_on=False,
        gid=sheet.tip(level.title or level.label),
    )


def _draw_band(axes: Axes, line: MethodLine, y: Span) -> None:
    """Mean ± one standard deviation, over each stretch of neighbours whose spread is known."""
    stretches: list[list[LinePoint]] = [[]]
    for point in line.points:
        if point.std is None:
            stretches.append([])
        else:
            stretches[-1].append(point)
    for stretch in stretches:
        if len(stretch) > 1:
            axes.fill_between(
                [100 * each.x for each in stretch],
                [100 * max(each.y - (each.std or 0), y[0]) for each in stretch],
                [100 * min(each.y + (each.std or 0), y[1]) for each in stretch],
                color=_HEX[line.colour],
                alpha=0.15,
                linewidth=0,
                clip_on=False,
                gid=f"{CLASS}band",
            )


def _draw_line(sheet: _Sheet, axes: Axes, line: MethodLine) -> None:
    xs, ys = [100 * each.x for each in line.points], [100 * each.y for each in line.points]
    colour = _HEX[line.colour]
    if line.is_quiet:
        kind = "baseline" if line.is_baseline else "published"
        look = {"linewidth": DASHES[kind][1], "linestyle": DASHES[kind][2], "alpha": 0.85, "gid": f"{CLASS}line {kind}"}
        axes.plot(xs, ys, color=colour, clip_on=False, **look)
        for point in line.points:
            _draw_marker(sheet, axes, 100 * point.x, 100 * point.y, line.colour, DOT, title=point.title)
        return
    axes.plot(xs, ys, color=colour, linewidth=2.4, solid_joinstyle="round", solid_capstyle="round", clip_on=False)
    seeds = [(100 * each.x, 100 * value) for each in line.points if len(each.seeds) > 1 for value in each.seeds]
    if seeds:
        across, up = zip(*seeds, strict=True)
        look = {"markersize": 3.6, "markerfacecolor": colour, "markeredgewidth": 0, "alpha": 0.5}
        axes.plot(across, up, "o", clip_on=False, **look)
    for point in line.points:
        marker = MARKERS[_slot(line.slot)]
        _draw_marker(
            sheet, axes, 100 * point.x, 100 * point.y, line.colour, marker, title=point.title, is_whole=point.is_whole
        )


def _draw_marker(
    sheet: _Sheet,
    axes: Axes,
    x: float,
    y: float,
    colour: str,
    marker: str,
    *,
    title: str = "",
    is_whole: bool = True,
) -> None:
    """One marker; hollow where the group is not whole."""
    from matplotlib.lines import Line2D

    edge = ("card", 1.2) if is_whole else (colour, 2.0)
    drawn = Line2D(
        [x],
        [y],
        linestyle="none",
        marker=marker,
        markersize=MARKER_SIZES.get(marker, 8.0),
        markerfacecolor=_HEX[colour if is_whole else "card"],
        markeredgecolor=_HEX[edge[0]],
        markeredgewidth=edge[1],
        clip_on=False,
        gid=sheet.tip(title) if title else None,
    )
    axes.add_artist(drawn)  # not plot(), which would look for new limits each time


def _draw_ring(axes: Axes, x: float, y: float, size: float) -> None:
    look = {"markersize": size, "markerfacecolor": "none", "markeredgecolor": _HEX["ink"], "markeredgewidth": 1.8}
    axes.plot([x], [y], "o", clip_on=False, **look)


def _draw_mark(sheet: _Sheet, axes: Axes, mark: PickMark, lines: Sequence[MethodLine]) -> None:
    """The ring, and its word where it covers no point."""
    _draw_ring(axes, 100 * mark.x, 100 * mark.y, 19)
    points = [_place(sheet, axes, 100 * each.x, 100 * each.y) for line in lines for each in line.points]
    taken = [_Box(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    frame = _Box(LEFT, TOP - 8, sheet.width * axes.get_position().x1, sheet.height - BOTTOM)
    _write_beside(sheet, _place(sheet, axes, 100 * mark.x, 100 * mark.y), [mark.label], 15, frame, taken, weight=680)


def _draw_labels(sheet: _Sheet, axes: Axes, lines: Sequence[MethodLine], levels: Sequence[Level]) -> None:
    """Each line's name at its right end, moved apart where they would cover each other."""
    right = sheet.width * axes.get_position().x1
    wanted = []
    for line in lines:
        if line.points:
            end = _place(sheet, axes, 100 * line.points[-1].x, 100 * line.points[-1].y)
            wanted.append((end[1], end[0] + 8, line.colour, 450 if line.is_quiet else 600, line.label))
    for level in levels:
        colour, weight = DASHES[level.kind][0], 600 if level.kind == "dense" else 450
        wanted.append((_place(sheet, axes, 0, 100 * level.y)[1], right, colour, weight, level.label))
    wanted.sort(key=lambda label: label[0])
    places = spread_apart([each[0] for each in wanted], gap=LABEL_GAP, low=TOP, high=sheet.height - BOTTOM)
    for place, (height, end, colour, weight, words) in zip(places, wanted, strict=True):
        sheet.stroke([max(end, right), right + 12], [height, place], colour, linewidth=1, alpha=0.5)
        sheet.text(right + 16, place, words, ha="left", fontsize=LABEL, weight=weight, color=colour)


def _label_dots(sheet: _Sheet, axes: Axes, dots: Sequence[Dot]) -> None:
    """The fullest label that fits beside each dot and covers nothing; none where none fits."""
    spots = [_place(sheet, axes, dot.x, 100 * dot.y) for dot in dots]
    taken = [_Box(x - 6, y - 6, x + 6, y + 6) for x, y in spots]
    frame = _Box(LEFT, TOP - 8, sheet.width - 2, sheet.height - BOTTOM + 2)
    for dot, spot in zip(dots, spots, strict=True):
        _write_beside(sheet, spot, dot.labels, 13 if dot.is_marked else 9, frame, taken)


def _write_beside(
    sheet: _Sheet,
    spot: tuple[float, float],
    tries: Sequence[str],
    gap: float,
    frame: _Box,
    taken: list[_Box],
    *,
    weight: int = 400,
) -> None:
    """The first of the words that fits within `frame` beside a spot, off the boxes that are `taken`, to which it adds
    its own."""
    for words in tries:
        width = LETTER * TICK * len(words)
        for left, middle in _beside(*spot, width, gap):
            box = _Box(left, middle - 7, left + width, middle + 7)
            if box.is_within(frame) and not any(box.meets(other) for other in taken):
                taken.append(box)
                sheet.text(left, middle, words, ha="left", color="ink", gid=f"{CLASS}halo", weight=weight)
                return


def _beside(x: float, y: float, width: float, gap: float) -> list[tuple[float, float]]:
    """Where words may begin: above, at the right, the left, below, and at the corners."""
    right, left, centre = x + gap, x - gap - width, x - width / 2
    return [
        (centre, y - gap - 5),
        (right, y),
        (left, y),
        (centre, y + gap + 5),
        (right, y - 11),
        (right, y + 11),
        (left, y - 11),
        (left, y + 11),
    ]


def _draw_cell(
    sheet: _Sheet, axes: Axes, left: float, top: float, width: float, share: float | None, title: str
) -> None:
    from matplotlib.patches import Rectangle

    shade = 0.0 if share is None else 0.05 + 0.55 * share
    cell = Rectangle(
        (left + 1, top + 1),
        width - 2,
        ROW - 2,
        facecolor=_HEX["accent"],
        alpha=shade,
        gid=sheet.tip(title),
        clip_on=False,
    )
    axes.add_artist(cell)
    words = "–" if share is None else f"{100 * share:.0f}"
    sheet.text(left + width / 2, top + ROW / 2, words, ha="center", color="soft" if share is None else "ink")


def _place(sheet: _Sheet, axes: Axes, x: float, y: float) -> tuple[float, float]:
    """Where a value of the axes falls, in pixels from the upper left."""
    across, up = axes.transData.transform((x, y))
    return float(across), sheet.height - float(up)


def _clean(words: str) -> str:
    """Words on one line, without characters that XML cannot hold."""
    line = " ".join(words.split())
    return "".join("\ufffd" if unicodedata.category(each) in ("Cc", "Cs") else each for each in line)


CLASS = "class "
"""Before what an artist's shapes are called in the page."""
NUMBER = re.compile(r"-?\d+\.\d+")
SIZE = re.compile(r"([\d.]+)px")
WEIGHT = re.compile(r"\b(bold|[1-9]\d\d)\b")


def _markup(sheet: _Sheet, description: str | None) -> Markup:
    """The drawing as an SVG element for a page; one without a description is an ornament."""
    text = io.BytesIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    sheet.figure.savefig(text, format="svg", metadata=nothing, facecolor="none")
    drawn = ET.fromstring(text.getvalue().decode())
    shapes = {each.get("id"): each for each in drawn.iter() if _tag(each) == "path" and each.get("id")}
    about = {"role": "img", "aria-label": _clean(description)} if description else {"aria-hidden": "true"}
    page = ET.Element(
        "svg",
        {
            "class": "chart" if description else "key",
            "viewBox": f"0 0 {sheet.width} {sheet.height}",
            "xmlns": "http://www.w3.org/2000/svg",
            **about,
        },
    )
    _flatten(drawn, page, shapes=shapes, tips=sheet.tips)
    return Markup(ET.tostring(page, encoding="unicode"))  # escaped by ElementTree


def _flatten(
    node: ET.Element, out: ET.Element, *, shapes: Mapping[str | None, ET.Element], tips: Mapping[str, str]
) -> None:
    """Appends what `node` draws to `out`: groups only where they have a tooltip, and no identifiers."""
    for child in node:
        kind, name = _tag(child), child.get("id", "")
        if kind == "g" and name in tips:
            group = ET.SubElement(out, "g", {"class": "tip"})
            ET.SubElement(group, "title").text = tips[name]
            _flatten(child, group, shapes=shapes, tips=tips)
        elif kind == "g":
            known = len(out)
            _flatten(child, out, shapes=shapes, tips=tips)
            if name.startswith(CLASS):
                for drawn in out[known:]:
                    drawn.set("class", name.removeprefix(CLASS))
        elif kind == "use":
            shape = shapes[next(value for key, value in child.items() if key.endswith("href"))[1:]]
            place = {"transform": f"translate({child.get('x')} {child.get('y')})"}
            style = f"{shape.get('style', '')}; {child.get('style', '')}"
            _append(out, "path", {"d": shape.get("d", ""), **place, "style": style})
        elif kind == "path" and not _is_invisible(child):
            _append(out, "path", {key: child.attrib[key] for key in ("d", "style") if key in child.attrib})
        elif kind == "text":
            kept = {key: value for key, value in child.items() if key in ("x", "y", "style")}
            _append(out, "text", kept).text = child.text


def _append(out: ET.Element, kind: str, attributes: Mapping[str, str]) -> ET.Element:
    """A shape with short numbers, and the style of the page."""
    short = {key: NUMBER.sub(_shorten, value.replace("\n", " ").strip()) for key, value in attributes.items()}
    if "style" in short:
        short["style"] = _style(short["style"])
    return ET.SubElement(out, kind, short)


def _style(text: str) -> str:
    """A style of matplotlib's in the page's colours and font."""
    pairs = [pair.partition(":") for pair in text.split(";") if pair.strip()]
    style: dict[str, str] = {}
    for key, value in ((key.strip(), value.strip()) for key, _, value in pairs):
        if key.startswith("font"):
            size, weight = SIZE.search(value), WEIGHT.search(value)
            style |= {"font-size": f"{size[1]}px"} if size else {}
            style |= {"font-weight": weight[1]} if weight else {}
        else:
            style[key] = _NAMES.get(value, value)
    return ";".join(f"{key}:{value}" for key, value in style.items())


def _is_invisible(path: ET.Element) -> bool:
    """A background that is not painted, or a path of no points."""
    return "id" in path.attrib or "style" not in path.attrib or path.get("style") == "fill: none" or not path.get("d")


def _shorten(found: re.Match[str]) -> str:
    return f"{float(found[0]):.4g}"


def _tag(node: ET.Element) -> str:
    """The name of an element without its name space."""
    return node.tag.rpartition("}")[2]

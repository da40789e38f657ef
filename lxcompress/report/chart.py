"""Accuracy over sparsity as inline SVG: lines with bands, levels across, one mark; colours come from the page's CSS.

What others published is dashed and thin, in the colour of the line that it is held against; a dense baseline that has
a line is so too, in ink.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

# Series beyond these share the last look; a chart of more is not drawn (report/methods.py).
SLOTS = 8
LABEL_GAP = 15.0


@dataclass(frozen=True)
class Point:
    """One group: sparsity and mean accuracy (0-1), its standard deviation, its seeds' values, and what to say of it."""

    x: float
    y: float
    std: float | None
    seeds: tuple[float, ...]
    title: str
    is_whole: bool = True


@dataclass(frozen=True)
class Line:
    """One method; `slot` chooses its colour and marker."""

    label: str
    slot: int
    points: tuple[Point, ...]
    is_published: bool = False
    is_baseline: bool = False

    @property
    def is_quiet(self) -> bool:
        """Whether it is a dash behind the run's own lines."""
        return self.is_published or self.is_baseline

    @property
    def look(self) -> str:
        """Its classes in the page's style sheet."""
        if self.is_baseline:
            return "baseline"
        return f"s{_slot(self.slot)} published" if self.is_published else f"s{_slot(self.slot)}"


@dataclass(frozen=True)
class Level:
    """A horizontal line over the whole chart; `kind` (dense, longer, threshold, floor) chooses its look."""

    label: str
    kind: str
    y: float
    std: float | None = None
    title: str = ""


@dataclass(frozen=True)
class Mark:
    """The ring around one point, with a word beside it."""

    x: float
    y: float
    label: str


@dataclass(frozen=True)
class Axis:
    """A range and the ticks in it."""

    low: float
    high: float
    ticks: tuple[float, ...]


@dataclass(frozen=True)
class Frame:
    """Where data falls on the drawing, in pixels."""

    left: float
    top: float
    right: float
    bottom: float
    x: Axis
    y: Axis

    def at_x(self, value: float) -> float:
        return self.left + (value - self.x.low) / (self.x.high - self.x.low) * (self.right - self.left)

    def at_y(self, value: float) -> float:
        return self.bottom - (value - self.y.low) / (self.y.high - self.y.low) * (self.bottom - self.top)


def line_chart(
    lines: Sequence[Line],
    levels: Sequence[Level],
    *,
    x: Axis,
    y: Axis,
    width: int,
    height: int,
    description: str,
    mark: Mark | None = None,
    label_width: int = 0,
    y_title: str = "accuracy, %",
) -> Markup:
    """The chart; `label_width` pixels at the right hold each line's name, 0 leaves naming to a legend beside it."""
    frame = Frame(46, 30, width - 14 - label_width, height - 44, x, y)
    parts = [
        _grid(frame, y_title),
        *(_level(level, frame) for level in levels),
        *(_band(line, frame) for line in lines if not line.is_quiet),
        *(_quiet(line, frame) for line in lines if line.is_quiet),
        *(_line(line, frame) for line in lines if not line.is_quiet),
        _mark(mark, frame) if mark else Markup(""),
        _labels(lines, levels, frame) if label_width else Markup(""),
    ]
    head = Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}" xmlns="http://www.w3.org/2000/svg">'
    ).format(width, height, description)
    return head + Markup("").join(parts) + Markup("</svg>")


def sparsity_axis(values: Sequence[float]) -> Axis:
    """Tens of percent around the sparsities; from 0 where they begin low."""
    low = max(0.0, math.floor((min(values) - 0.03) * 10) / 10)
    high = min(1.0, math.ceil((max(values) + 0.03) * 10) / 10)
    low = 0.0 if low <= 0.2 else low
    count = round((high - low) * 10)
    return Axis(low, high, tuple(low + step / 10 for step in range(count + 1)))


def accuracy_axis(values: Sequence[float], most_ticks: int = 7) -> Axis:
    """Round ticks around the accuracies, a little air on both sides."""
    low, high = min(values), max(values)
    air = max(0.06 * (high - low), 0.005)
    low, high = max(0.0, low - air), min(1.0, high + air)
    step = next((each for each in (0.005, 0.01, 0.02, 0.05, 0.1) if (high - low) / each <= most_ticks), 0.2)
    first, last = math.floor(low / step), math.ceil(high / step)
    return Axis(first * step, last * step, tuple(index * step for index in range(first, last + 1)))


def marker(slot: int, x: float, y: float, *, is_whole: bool = True, title: str = "") -> Markup:
    """The slot's marker: circle, square, diamond, triangle ...; hollow where the group is not whole."""
    kind = "" if is_whole else " hollow"
    shapes = (
        "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0Z",
        "M-4 -4H4V4H-4Z",
        "M0 -5.6L5.6 0L0 5.6L-5.6 0Z",
        "M0 -5.4L5.2 4H-5.2Z",
        "M0 5.4L5.2 -4H-5.2Z",
        "M-5 -1.6H-1.6V-5H1.6V-1.6H5V1.6H1.6V5H-1.6V1.6H-5Z",
        "M-6 -2.8H6V2.8H-6Z",
        "M-2.8 -6H2.8V6H-2.8Z",
    )
    tip = Markup("<title>{}</title>").format(title) if title else Markup("")
    place = Markup('<path class="marker s{}{}" transform="translate({:.1f} {:.1f})" d="{}">').format(
        _slot(slot), kind, x, y, shapes[_slot(slot)]
    )
    return place + tip + Markup("</path>")


def key_svg(slot: int) -> Markup:
    """A legend's sample of a line."""
    return (
        Markup(
            '<svg class="key" viewBox="0 0 30 12" aria-hidden="true" xmlns="http://www.w3.org/2000/svg">'
            '<path class="line s{}" d="M1 6H29"/>'
        ).format(_slot(slot))
        + marker(slot, 15, 6)
        + Markup("</svg>")
    )


def level_key_svg(kind: str) -> Markup:
    """A legend's sample of a level."""
    return Markup(
        '<svg class="key" viewBox="0 0 30 12" aria-hidden="true" xmlns="http://www.w3.org/2000/svg">'
        '<path class="level {}" d="M1 6H29"/></svg>'
    ).format(kind)


def _slot(slot: int) -> int:
    return min(slot, SLOTS - 1)


def _grid(frame: Frame, y_title: str) -> Markup:
    digits = 1 if any(round(100 * tick, 6) % 1 for tick in frame.y.ticks) else 0
    parts = []
    for tick in frame.y.ticks:
        height = frame.at_y(tick)
        parts.append(
            Markup(
                '<path class="grid" d="M{:.1f} {:.1f}H{:.1f}"/><text class="tick" x="{:.1f}" y="{:.1f}" '
                'text-anchor="end">{}</text>'
            ).format(frame.left, height, frame.right, frame.left - 8, height + 4, f"{100 * tick:.{digits}f}")
        )
    # Eleven tens do not fit a phone's width.
    every = 2 if len(frame.x.ticks) > 6 and frame.right - frame.left < 330 else 1
    for index, tick in enumerate(frame.x.ticks):
        if index % every:
            continue
        across = frame.at_x(tick)
        parts.append(
            Markup(
                '<path class="axis" d="M{0:.1f} {1:.1f}v5"/><text class="tick" x="{0:.1f}" y="{2:.1f}" '
                'text-anchor="middle">{3}</text>'
            ).format(across, frame.bottom, frame.bottom + 19, f"{100 * tick:.0f}")
        )
    parts.append(
        Markup(
            '<path class="axis" d="M{0:.1f} {1:.1f}H{2:.1f}"/><text class="title" x="{3:.1f}" y="{4:.1f}" '
            'text-anchor="middle">sparsity, %</text><text class="title" x="6" y="14">{5}</text>'
        ).format(frame.left, frame.bottom, frame.right, (frame.left + frame.right) / 2, frame.bottom + 38, y_title)
    )
    return Markup("").join(parts)


def _level(level: Level, frame: Frame) -> Markup:
    height = frame.at_y(level.y)
    tip = Markup("<title>{}</title>").format(level.title or level.label)
    band = Markup("")
    if level.std:
        top, bottom = (
            frame.at_y(min(level.y + level.std, frame.y.high)),
            frame.at_y(max(level.y - level.std, frame.y.low)),
        )
        band = Markup('<rect class="band {}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
            level.kind, frame.left, top, frame.right - frame.left, bottom - top
        )
    across = Markup('<path class="level {}" d="M{:.1f} {:.1f}H{:.1f}">').format(
        level.kind, frame.left, height, frame.right
    )
    return band + across + tip + Markup("</path>")


def _band(line: Line, frame: Frame) -> Markup:
    """Mean ± one standard deviation, over each stretch of neighbours whose spread is known."""
    stretches: list[list[Point]] = [[]]
    for point in line.points:
        if point.std is None:
            stretches.append([])
        else:
            stretches[-1].append(point)
    parts = []
    for stretch in stretches:
        if len(stretch) < 2:
            continue
        upper = [(frame.at_x(each.x), frame.at_y(min(each.y + (each.std or 0), frame.y.high))) for each in stretch]
        lower = [(frame.at_x(each.x), frame.at_y(max(each.y - (each.std or 0), frame.y.low))) for each in stretch]
        outline = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*upper, *reversed(lower)])
        parts.append(Markup('<polygon class="band s{}" points="{}"/>').format(_slot(line.slot), outline))
    return Markup("").join(parts)


def _line(line: Line, frame: Frame) -> Markup:
    places = [(frame.at_x(each.x), frame.at_y(each.y)) for each in line.points]
    parts = [_path(line, frame)]
    for point, (x, y) in zip(line.points, places, strict=True):
        if len(point.seeds) > 1:
            parts += [
                Markup('<circle class="seed s{}" cx="{:.1f}" cy="{:.1f}" r="1.6"/>').format(
                    _slot(line.slot), x, frame.at_y(value)
                )
                for value in point.seeds
            ]
        parts.append(marker(line.slot, x, y, is_whole=point.is_whole, title=point.title))
    return Markup("").join(parts)


def _quiet(line: Line, frame: Frame) -> Markup:
    """A dash from dot to dot, which takes no eye from the run's own lines."""
    parts = [_path(line, frame)]
    for point in line.points:
        dot = Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="2.4"><title>{}</title></circle>')
        parts.append(dot.format(line.look, frame.at_x(point.x), frame.at_y(point.y), point.title))
    return Markup("").join(parts)


def _path(line: Line, frame: Frame) -> Markup:
    if len(line.points) < 2:
        return Markup("")
    path = "M" + "L".join(f"{frame.at_x(each.x):.1f} {frame.at_y(each.y):.1f}" for each in line.points)
    return Markup('<path class="line {}" d="{}"/>').format(line.look, path)


def _mark(mark: Mark, frame: Frame) -> Markup:
    x, y = frame.at_x(mark.x), frame.at_y(mark.y)
    # Beside the upper edge there is no room above the point.
    below = y - frame.top < 34
    return Markup(
        '<circle class="ring" cx="{0:.1f}" cy="{1:.1f}" r="9.5"/>'
        '<text class="mark" x="{0:.1f}" y="{2:.1f}" text-anchor="middle">{3}</text>'
    ).format(x, y, y + 26 if below else y - 17, mark.label)


def _labels(lines: Sequence[Line], levels: Sequence[Level], frame: Frame) -> Markup:
    """Each line's name at its right end, moved apart where they would cover each other."""
    wanted = [
        (frame.at_y(line.points[-1].y), frame.at_x(line.points[-1].x), line.look, line.label)
        for line in lines
        if line.points
    ]
    wanted += [(frame.at_y(level.y), frame.right, level.kind, level.label) for level in levels]
    wanted.sort(key=lambda label: label[0])
    parts = []
    places = spread_apart([label[0] for label in wanted], gap=LABEL_GAP, low=frame.top, high=frame.bottom)
    for place, (height, end, kind, text) in zip(places, wanted, strict=True):
        parts.append(
            Markup(
                '<path class="leader {0}" d="M{1:.1f} {2:.1f}L{3:.1f} {4:.1f}"/>'
                '<text class="label {0}" x="{5:.1f}" y="{6:.1f}">{7}</text>'
            ).format(
                kind, max(end + 8, frame.right), height, frame.right + 12, place, frame.right + 16, place + 4, text
            )
        )
    return Markup("").join(parts)


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

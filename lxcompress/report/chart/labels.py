"""Write labels that cover nothing: a label is written where it fits, and left out if it fits nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lxcompress.report.chart.drawing import Drawing
from lxcompress.report.chart.style import CLASS, LETTER_SHARE, TICK_SIZE


@dataclass(frozen=True)
class Box:
    """A rectangle; its edges are in pixels from the upper left corner of the drawing."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Return whether this rectangle and `other` overlap."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def is_within(self, other: Box) -> bool:
        """Return whether this rectangle lies inside `other`."""
        return (
            other.left <= self.left
            and self.right <= other.right
            and other.top <= self.top
            and self.bottom <= other.bottom
        )


@dataclass
class LabelWriter:
    """Writes labels into the rectangle `frame`. No label covers a rectangle of `occupied`.

    Each label that was written is added to `occupied`.
    """

    drawing: Drawing
    frame: Box
    occupied: list[Box] = field(default_factory=list)

    def keep_free(self, positions: Iterable[tuple[float, float]], reach: float) -> None:
        """Keep labels off each position, up to `reach` pixels away from it in each direction."""
        self.occupied += [Box(x - reach, y - reach, x + reach, y + reach) for x, y in positions]

    def write(self, position: tuple[float, float], labels: Sequence[str], gap: float, weight: str = "normal") -> None:
        """Write the first of `labels` that fits next to a position, `gap` pixels away; write nothing if none fits.

        `weight` is a name: before version 3.11, matplotlib writes no SVG of text whose weight is a number.
        """
        for words in labels:
            width = LETTER_SHARE * TICK_SIZE * len(words)
            for left, middle in _starts(*position, width, gap):
                box = Box(left, middle - 7, left + width, middle + 7)
                if box.is_within(self.frame) and not any(box.meets(other) for other in self.occupied):
                    self.occupied.append(box)
                    look = {"ha": "left", "color": "ink", "gid": f"{CLASS}halo", "weight": weight}
                    self.drawing.text(left, middle, words, **look)
                    return


def spread_apart(positions: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Return ascending positions that are at least `gap` apart and between `low` and `high`.

    Each position is moved as little as possible.
    """
    moved: list[float] = []
    for position in positions:
        moved.append(max(position, moved[-1] + gap) if moved else max(position, low))
    ceiling = high
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - gap
    return moved


def _starts(x: float, y: float, width: float, gap: float) -> list[tuple[float, float]]:
    """Return the possible positions of a label around a point: the left end and the middle height of its text.

    They are above, right, left and below the point, and at the four corners.
    """
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

"""The look of the charts: colours of the page's style sheet, markers, dashes, sizes in pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COLOURS = ("card", "ink", "soft", "rule", "accent", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7")
"""The variables of the page's style sheet that a chart uses."""
HEX = {name: f"#fe{index:02x}01" for index, name in enumerate(COLOURS)}
"""A colour of the page -> the code that stands for it while matplotlib draws."""
NAMES = {code: f"var(--{name})" for name, code in HEX.items()}
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "h")
SLOTS = len(MARKERS)
"""How many methods look different; the ones after these share the last look (no chart draws so many)."""
OCTAGON = "8"
"""The marker of published results and of dense baselines."""
MARKER_SIZES = {OCTAGON: 6.2, "o": 8.4, "s": 7.6, "D": 7.2, "^": 9.0, "v": 9.0, "P": 9.2, "X": 9.0, "h": 9.2}
DASHES: Mapping[str, tuple[str, float, Any]] = {
    "dense": ("ink", 1.8, "-"),
    "longer": ("ink", 1.6, (0, (7.5, 2, 1.2, 2))),
    "baseline": ("ink", 1.4, (0, (2, 2))),
    "threshold": ("ink", 1.3, (0, (5, 4))),
    "floor": ("soft", 1.5, (0, (1, 3))),
    "published": ("soft", 1.3, (0, (4, 3))),
    "front": ("accent", 1.6, "-"),
}
"""The look of a line that is not a method's: colour, width, dashes."""
TICK_SIZE, TITLE_SIZE, LABEL_SIZE = 12, 12, 13
LABEL_GAP = 15.0
LETTER_SHARE = 0.6
"""The width of a letter as a share of the font size; the page's font is a little narrower."""
BOTTOM, TOP, LEFT, RIGHT = 44, 30, 46, 14
"""The margins around the axes."""
CLASS = "class "
"""The prefix by which matplotlib's `gid` carries a class of the page."""


def method_slot(slot: int) -> int:
    """Return the index of a method's look."""
    return min(slot, SLOTS - 1)


def method_colour(slot: int) -> str:
    """Return the colour of a method."""
    return f"s{method_slot(slot)}"


def method_marker(slot: int) -> str:
    """Return the marker of a method."""
    return MARKERS[method_slot(slot)]

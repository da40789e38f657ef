"""The look of the charts: colours of the page's style sheet, markers, dashes, and sizes in pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COLOURS = ("card", "ink", "soft", "rule", "accent", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7")
"""The names of the colours in the page's style sheet that a chart uses."""
HEX = {name: f"#fe{index:02x}01" for index, name in enumerate(COLOURS)}
"""Name of a colour of the page -> the colour code that stands for this colour while matplotlib draws."""
NAMES = {code: f"var(--{name})" for name, code in HEX.items()}
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "h")
SLOTS = len(MARKERS)
"""How many methods have different looks; further methods share the last look (no chart draws so many)."""
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
"""Kind of a line that belongs to no method -> its look: colour, width and dashes."""
TICK_SIZE, TITLE_SIZE, LABEL_SIZE = 12, 12, 13
LABEL_GAP = 15.0
LETTER_SHARE = 0.6
"""The width of a letter, divided by the font size; the page's font is a little narrower."""
BOTTOM, TOP, LEFT, RIGHT = 44, 30, 46, 14
"""The margins around the axes, in pixels."""
CLASS = "class "
"""The prefix of a matplotlib `gid` that holds the name of a class in the page's style sheet."""


def method_slot(slot: int) -> int:
    """Return the index of the look (colour and marker) of a method."""
    return min(slot, SLOTS - 1)


def method_colour(slot: int) -> str:
    """Return the name of the colour of the method with the index `slot`."""
    return f"s{method_slot(slot)}"


def method_marker(slot: int) -> str:
    """Return the matplotlib marker of the method with the index `slot`."""
    return MARKERS[method_slot(slot)]

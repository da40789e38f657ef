"""Format numbers for people: bytes, seconds, joules, percentages."""

import math

MEGABYTE = 1_000_000
GIGABYTE = 1_000_000_000
WATT_HOUR = 3600
"""Joules."""


def size_text(size_bytes: int) -> str:
    """Return a size with three significant digits: 153 B, 64.3 kB, 21.7 MB, 17 GB."""
    for power, unit in ((9, "GB"), (6, "MB"), (3, "kB")):
        if size_bytes >= 0.9995 * 10**power:
            return f"{float(f'{size_bytes / 10**power:.3g}'):g} {unit}"
    return f"{size_bytes} B"


def energy(joules: float) -> str:
    """Return `joules` as 4.2 Wh or 1.3 kWh."""
    watt_hours = joules / WATT_HOUR
    return f"{significant(watt_hours / 1000)} kWh" if watt_hours >= 1000 else f"{significant(watt_hours)} Wh"


def significant(value: float, digits: int = 3) -> str:
    """Return `value` with `digits` significant digits and no exponent: 0.0123, 4.56, 789, 12345."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{places}f}"


def duration(seconds: float) -> str:
    """Return `seconds` as 12 s, 3 min 20 s or 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def percent(fraction: float, digits: int = 2) -> str:
    """Return a fraction, 0-1, as a percentage without the sign: 0.7027 -> '70.27'."""
    return f"{100 * fraction:.{digits}f}"


def short_percent(fraction: float) -> str:
    """Return the shortest exact percentage of a fraction: 0.5 -> '50', 0.875 -> '87.5'."""
    return f"{round(100 * fraction, 6):g}"

"""Numbers as people read them: bytes, seconds, percentages."""

MEGABYTE = 1_000_000


def megabytes(size_bytes: int) -> str:
    """`size_bytes` in MB (10^6 bytes) with three significant digits."""
    return f"{size_bytes / MEGABYTE:.3g} MB"


def duration(seconds: float) -> str:
    """`seconds` as 12 s, 3 min 20 s or 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def percent(fraction: float, digits: int = 2) -> str:
    """A fraction of 0..1 as a percentage without its sign: 0.7027 -> '70.27'."""
    return f"{100 * fraction:.{digits}f}"


def short_percent(fraction: float) -> str:
    """The shortest exact percentage of a fraction: 0.5 -> '50', 0.875 -> '87.5'."""
    return f"{round(100 * fraction, 6):g}"

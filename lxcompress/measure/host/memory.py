"""Memory of this process: its peak, and its present value."""

from __future__ import annotations

import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_rss_bytes() -> int:
    """Return the peak resident set of this process, in bytes."""
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    # VmHWM starts at 0 at exec, unlike ru_maxrss, which a child inherits from the process that started it.
    return _linux_status("VmHWM") or _posix_peak()


def rss_bytes() -> int:
    """Return the present resident set of this process, in bytes."""
    held = _linux_status("VmRSS")
    if held is None:
        import psutil

        held = psutil.Process().memory_info().rss
    return held


def _linux_status(name: str) -> int | None:
    """Return a figure of /proc/self/status, in bytes; None on other systems."""
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def _posix_peak() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, all others kibibytes

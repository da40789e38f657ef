"""Energy that the processor took, as Linux counts it (RAPL); absent where the system does not tell, never guessed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
_MICROJOULE = 1e-6


@dataclass(frozen=True)
class Counter:
    """What a processor package has taken, in microjoules; it starts at 0 again beyond `most`."""

    taken: int
    most: int


def read_energy(root: Path = POWERCAP) -> dict[str, Counter] | None:
    """The counter of each processor package; None where there is none, or where this user may not read it.

    Packages alone: what their parts (cores, graphics) took is in theirs already, and psys counts the whole board.
    """
    counters: dict[str, Counter] = {}
    try:
        for zone in sorted(root.glob("intel-rapl:*")):
            if (zone / "name").read_text(encoding="ascii").startswith("package"):
                counters[zone.name] = Counter(_read(zone / "energy_uj"), _read(zone / "max_energy_range_uj"))
    except (OSError, ValueError):
        return None
    return counters or None


def joules_between(before: dict[str, Counter] | None, after: dict[str, Counter] | None) -> float | None:
    """Joules that all packages took between two readings, each of which came round once at most; None if not told."""
    if before is None or after is None or before.keys() != after.keys():
        return None
    return _MICROJOULE * sum(_advance(before[zone], after[zone]) for zone in before)


def _advance(before: Counter, after: Counter) -> int:
    gone = after.taken - before.taken
    return gone if gone >= 0 else gone + after.most + 1


def _read(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))

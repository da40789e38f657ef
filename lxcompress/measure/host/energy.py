"""Energy of the processor, as Linux counts it (RAPL); None where the system does not count it, never estimated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
_MICROJOULE = 1e-6


@dataclass(frozen=True)
class Counter:
    """The energy of a processor package, in microjoules; the counter starts at 0 again after `largest`."""

    value: int
    largest: int


def read_energy(root: Path = POWERCAP) -> dict[str, Counter] | None:
    """Return the counter of each processor package; None where there is none, or where this user may not read it.

    Only packages are read: they include their parts (cores, graphics), while psys counts the whole board.
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
    """Return the joules of all packages between two readings, during which a counter may start again once.

    None if a reading is missing.
    """
    if before is None or after is None or before.keys() != after.keys():
        return None
    return _MICROJOULE * sum(_advance(before[zone], after[zone]) for zone in before)


def _advance(before: Counter, after: Counter) -> int:
    difference = after.value - before.value
    return difference if difference >= 0 else difference + after.largest + 1


def _read(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))

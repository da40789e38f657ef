"""Write numbers of a study as text: percentages, signed differences, lists of seeds, the machine."""

from __future__ import annotations

from collections.abc import Sequence

from lxcompress.analysis.groups import SeedGroup, Spread
from lxcompress.records import Machine
from lxcompress.units import percent


def plus_minus(spread: Spread, digits: int = 2) -> str:
    """Return mean and standard deviation in percent, such as '62.10 ± 0.35'; with one seed only the mean."""
    mean = percent(spread.mean, digits)
    return mean if spread.std is None else f"{mean} ± {percent(spread.std, digits)}"


def points(difference: float, digits: int = 2) -> str:
    """Return a difference of two fractions in percentage points, with a sign: +0.52 or −0.52, but never −0.00."""
    text = f"{100 * difference:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text.replace("-", "+")


def numbered(noun: str, values: Sequence[object]) -> str:
    """Return a noun with its numbers: 'seed 1', 'seeds 0 and 2' or 'seeds 0, 1 and 2'."""
    words = [str(value) for value in values]
    return f"{noun} {words[0]}" if len(words) == 1 else f"{noun}s {listed(words)}"


def listed(words: Sequence[str]) -> str:
    """Return the words as an English list: 'a', 'a and b', 'a, b and c'."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def kept_words(group: SeedGroup, digits: int = 1) -> str | None:
    """Return the share of the dense accuracy that a group keeps, in percent, such as '98.1 ± 0.3'; None if unknown."""
    if group.retained is None:
        return None
    std = group.ratios.std if group.ratios else None
    mean = percent(group.retained, digits)
    return mean if std is None else f"{mean} ± {percent(std, digits)}"


def machine_line(machine: Machine) -> str:
    """Return the machine as one line of text: processor, cores, memory, accelerator and operating system."""
    memory = f"{machine.memory_bytes / 1e9:.0f} GB"
    parts = [machine.processor, f"{machine.cores} cores", memory, machine.accelerator or "", machine.system]
    return ", ".join(part for part in parts if part)

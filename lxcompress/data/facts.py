"""Facts: the statistics of a data set that a check reports, besides errors and warnings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

SPLITS = ("train", "valid", "test")
"""The names of the splits; a data set without a test split has the first two."""
WHOLE = "all"
"""The key of a fact about the whole data set."""

Unit = Literal["", "share", "bytes"]
Value = int | float | str


@dataclass(frozen=True)
class Fact:
    """A fact: its name, and a number or text for each split, or one for the whole data set under the key WHOLE.

    A value with the unit "share" is a fraction, 0-1.
    """

    name: str
    values: Mapping[str, Value]
    unit: Unit = ""


class FactSheet:
    """The facts of a data set, in reading order."""

    def __init__(self) -> None:
        self._facts: list[Fact] = []

    @property
    def facts(self) -> tuple[Fact, ...]:
        """Return the facts so far."""
        return tuple(self._facts)

    def add(self, name: str, values: Mapping[str, Value] | Value, unit: Unit = "") -> None:
        """Add a fact: a value for each split, or one value for the whole data set. An empty mapping adds nothing."""
        given = values if isinstance(values, Mapping) else {WHOLE: values}
        if given:
            self._facts.append(Fact(name, given, unit))

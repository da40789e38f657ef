"""Problems: the policy by which a reader treats an error in a file: raise the first error, or collect all errors.

`load_task` reads with `Problems.strict()`. `lxcompress data check` uses the same readers with `Problems.collect()`,
which turns each error into a Finding, leaves out the bad record or file, and reads on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from lxcompress.errors import DataError, LxError
from lxcompress.progress import Progress, no_progress

Severity = Literal["error", "warning"]
Item = TypeVar("Item")

NAMED = 3
"""How many names a sentence lists before it says how many more there are."""


@dataclass(frozen=True)
class Finding:
    """A problem of a data set, with its remedy. An error must be fixed; a warning should be looked at."""

    severity: Severity
    where: str
    """the file or the setting that the problem is about"""
    sentence: str


class Problems:
    """The errors and warnings that readers report, under one of two policies: strict or collect."""

    def __init__(self, *, is_strict: bool, progress: Progress) -> None:
        self.progress = progress
        self._is_strict = is_strict
        self._findings: dict[Finding, None] = {}

    @classmethod
    def strict(cls, progress: Progress = no_progress) -> Problems:
        """Return the policy that raises the first error and ignores warnings."""
        return cls(is_strict=True, progress=progress)

    @classmethod
    def collect(cls, progress: Progress = no_progress) -> Problems:
        """Return the policy that stores errors and warnings, each once, and raises nothing."""
        return cls(is_strict=False, progress=progress)

    @property
    def errors(self) -> int:
        """Return the number of errors that were collected so far."""
        return sum(finding.severity == "error" for finding in self._findings)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return the findings that were collected so far, errors first."""
        return tuple(sorted(self._findings, key=lambda finding: finding.severity))

    def add(self, error: LxError, *, count: int = 1) -> None:
        """Raise `error`, or store it as a finding; `count` is the number of similar errors that it stands for."""
        if self._is_strict:
            raise error
        finding = as_finding(error)
        more = f" (the first of {count:,} such problems)" if count > 1 else ""
        self._keep(Finding(finding.severity, finding.where, finding.sentence + more))

    def warn(self, where: object, sentence: str) -> None:
        """Store a warning about the file or setting `where`; under the strict policy, do nothing."""
        if not self._is_strict:
            self._keep(Finding("warning", str(where), sentence))

    def attempt(self, read: Callable[[], Item]) -> Item | None:
        """Call `read` and return its result; if it raises a DataError, `add` the error and return None."""
        try:
            return read()
        except DataError as error:
            self.add(error)
            return None

    def read_records(self, records: Iterable[Any], read: Callable[[Any, int], Item]) -> list[Item]:
        """Return the results of `read(record, index)`; report and leave out the records for which it raises DataError.

        Errors that differ only in their numbers become one finding.
        """
        if self._is_strict:
            return [read(record, index) for index, record in enumerate(records)]
        items: list[Item] = []
        first: dict[str, DataError] = {}
        counts: Counter[str] = Counter()
        for index, record in enumerate(records):
            try:
                items.append(read(record, index))
            except DataError as error:
                kind = _kind_of(str(error))
                first.setdefault(kind, error)
                counts[kind] += 1
        for kind, earliest in first.items():
            self.add(earliest, count=counts[kind])
        return items

    def _keep(self, finding: Finding) -> None:
        """Store a finding, unless it is stored already."""
        self._findings.setdefault(finding)


def as_finding(error: LxError) -> Finding:
    """Return an error as a Finding; the message of an LxError begins with the file or setting that it is about."""
    where, _, sentence = str(error).partition(": ")
    return Finding("error", where, sentence)


def several(names: Sequence[object], noun: str) -> str:
    """Return names with a noun, as text: "image 7", or "5 images (7, 8, 9 and 2 more)"."""
    return f"{noun} {names[0]}" if len(names) == 1 else f"{count_of(len(names), noun)} ({few(names)})"


def few(names: Iterable[object]) -> str:
    """Return the first names of a list, and how many more there are, as text: "7, 8, 9 and 2 more"."""
    texts = list(map(str, names))
    more = len(texts) - NAMED
    return ", ".join(texts[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


def count_of(count: int, noun: str) -> str:
    """Return a number with a noun, as text: "1 row", "3 rows"."""
    return f"{count:,} {noun}" + ("s" if count != 1 else "")


def percent(share: float) -> str:
    """Return a fraction (0-1) as a percentage with three digits: 0.9412 -> "94.1 %"."""
    return f"{100 * share:.3g} %"


def _kind_of(sentence: str) -> str:
    """Return the part of an error message that is equal in similar errors.

    It is the text after "expected", or without that word the remedy; numbers are replaced by "#".
    """
    _, has_expected, expected = sentence.rpartition(", expected ")
    return re.sub(r"\d+", "#", expected if has_expected else sentence.rpartition("; ")[2])

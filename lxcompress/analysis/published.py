"""The table of the published study, and which groups of a run can be compared with it (docs/reproduction.md)."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType

from lxcompress.analysis.groups import GroupKey
from lxcompress.analysis.summary import RunSummary
from lxcompress.recipe import VqaData, plain_method

SOURCE = "Hashemi et al. 2023, arXiv 2310.15325, table 5.1 of the thesis"
QUESTIONS = 25_994
"""The questions of VQA v2.0's minival split, on which the published accuracies were scored."""


@dataclass(frozen=True)
class PublishedGroup:
    """One group of the published table; all values are 0-1.

    `removed` is the sparsity that the published result files hold, which differs from the printed one in `key`. `std`
    is the population's standard deviation over `runs` files.
    """

    key: GroupKey
    removed: float
    mean: float
    std: float
    runs: int

    @property
    def words(self) -> str:
        """The share that was removed, and the number of runs."""
        return f"{100 * self.removed:.1f} % removed, {self.runs} runs"


@dataclass(frozen=True)
class PublishedTable:
    """The published table: the accuracy of the unpruned baseline, and each group."""

    dense: float
    groups: Mapping[GroupKey, PublishedGroup]


@dataclass(frozen=True)
class PublishedComparison:
    """The published rows of a run's groups; `warning` tells why the two differ in what they were scored on."""

    dense: float
    groups: Mapping[GroupKey, PublishedGroup]
    warning: str | None


@cache
def published_table() -> PublishedTable:
    """Return the table of published.csv, which is a file of this package."""
    text = resources.files("lxcompress.analysis").joinpath("published.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    groups = [_read(row) for row in rows if row["criterion"] != "dense"]
    return PublishedTable(
        dense=next(_fraction(row["mean"]) for row in rows if row["criterion"] == "dense"),
        groups=MappingProxyType({group.key: group for group in groups}),
    )


def compare(summary: RunSummary) -> PublishedComparison | None:
    """Return the published rows for the groups of `summary`; None unless it studies VQA with image features."""
    data = summary.recipe.data
    if not isinstance(data, VqaData) or data.features is None:
        return None
    table = published_table()
    groups = {group.key: table.groups[group.key] for group in summary.groups if group.key in table.groups}
    return PublishedComparison(table.dense, groups, _warning(summary)) if groups else None


def _warning(summary: RunSummary) -> str | None:
    counted = {result.retrained.questions for result in summary.results}
    if counted == {QUESTIONS}:
        return None
    counts = " or ".join(f"{count:,}" for count in sorted(counted))
    return f"this run is scored on {counts} questions, the published table on the {QUESTIONS:,} of VQA v2.0's minival"


def _read(row: Mapping[str, str]) -> PublishedGroup:
    return PublishedGroup(
        key=GroupKey(plain_method(row["criterion"]), _fraction(row["sparsity"])),
        removed=_fraction(row["removed"]),
        mean=_fraction(row["mean"]),
        std=_fraction(row["std"]),
        runs=int(row["runs"]),
    )


def _fraction(percent: str) -> float:
    """Return a percentage as the nearest fraction, which equals the 0.7 of a recipe; 70 / 100 may not."""
    return float(f"{percent}e-2")

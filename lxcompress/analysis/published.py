"""The results table of the published study, and the groups of a run to compare with it (docs/reproduction.md)."""

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
"""The number of questions in VQA v2.0's minival split, which the published accuracies were measured on."""


@dataclass(frozen=True)
class PublishedGroup:
    """One row of the published table: a method at one sparsity. All values are fractions (0-1).

    `removed` is the sparsity in the published result files, which differs from the printed sparsity in `key`. `mean` is
    the mean accuracy, and `std` its population standard deviation, both over `runs` files.
    """

    key: GroupKey
    removed: float
    mean: float
    std: float
    runs: int

    @property
    def words(self) -> str:
        """The removed share of the weights and the number of runs, as text."""
        return f"{100 * self.removed:.1f} % removed, {self.runs} runs"


@dataclass(frozen=True)
class PublishedTable:
    """The published table: the accuracy (0-1) of the unpruned baseline, and the row of each group."""

    dense: float
    groups: Mapping[GroupKey, PublishedGroup]


@dataclass(frozen=True)
class PublishedComparison:
    """The published rows for the groups of a run.

    `dense` is the published accuracy (0-1) of the unpruned baseline. `warning` is a sentence if the run was scored on
    other questions than the published study; else None.
    """

    dense: float
    groups: Mapping[GroupKey, PublishedGroup]
    warning: str | None


@cache
def published_table() -> PublishedTable:
    """Return the table in published.csv, a file of this package."""
    text = resources.files("lxcompress.analysis").joinpath("published.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    groups = [_read(row) for row in rows if row["criterion"] != "dense"]
    return PublishedTable(
        dense=next(_fraction(row["mean"]) for row in rows if row["criterion"] == "dense"),
        groups=MappingProxyType({group.key: group for group in groups}),
    )


def compare(summary: RunSummary) -> PublishedComparison | None:
    """Return the published rows for the groups of `summary`; None unless the study uses VQA with image features."""
    data = summary.recipe.data
    if not isinstance(data, VqaData) or data.features is None:
        return None
    table = published_table()
    groups = {group.key: table.groups[group.key] for group in summary.groups if group.key in table.groups}
    return PublishedComparison(table.dense, groups, _warning(summary)) if groups else None


def _warning(summary: RunSummary) -> str | None:
    """Return a warning if the run was scored on another number of questions than the published study; else None."""
    counted = {result.retrained.questions for result in summary.results}
    if counted == {QUESTIONS}:
        return None
    counts = " or ".join(f"{count:,}" for count in sorted(counted))
    return f"this run is scored on {counts} questions, the published table on the {QUESTIONS:,} of VQA v2.0's minival"


def _read(row: Mapping[str, str]) -> PublishedGroup:
    """Return the group in one row of published.csv."""
    return PublishedGroup(
        key=GroupKey(plain_method(row["criterion"]), _fraction(row["sparsity"])),
        removed=_fraction(row["removed"]),
        mean=_fraction(row["mean"]),
        std=_fraction(row["std"]),
        runs=int(row["runs"]),
    )


def _fraction(percent: str) -> float:
    """Return a percentage as a fraction: "70" is exactly the 0.7 of a recipe, which 70 / 100 may not be."""
    return float(f"{percent}e-2")

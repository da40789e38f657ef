"""The published study's table, and which groups of a run may be held against it: docs/reproduction.md."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType

from lxcompress.analysis.summary import GroupKey, RunSummary
from lxcompress.recipe import VqaData, plain_method

SOURCE = "Hashemi et al. 2023, arXiv 2310.15325, table 5.1 of the thesis"
QUESTIONS = 25_994
"""Of VQA v2.0's minival split, on which the published accuracies were scored."""


@dataclass(frozen=True)
class PublishedGroup:
    """One group of the published table, 0-1. `removed` is what its result files say was removed for the `printed`
    sparsity; `std` is the population's, over `runs` files."""

    key: GroupKey
    removed: float
    mean: float
    std: float
    runs: int

    @property
    def words(self) -> str:
        """What was removed, and over how many runs."""
        return f"{100 * self.removed:.1f} % removed, {self.runs} runs"


@dataclass(frozen=True)
class PublishedTable:
    """The published table: the unpruned baseline, and each group."""

    dense: float
    groups: Mapping[GroupKey, PublishedGroup]


@dataclass(frozen=True)
class PublishedComparison:
    """The published rows of a run's groups, and what keeps the two from being like for like."""

    dense: float
    groups: Mapping[GroupKey, PublishedGroup]
    doubt: str | None


@cache
def published_table() -> PublishedTable:
    """The table that is shipped as published.csv."""
    text = resources.files("lxcompress.analysis").joinpath("published.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    groups = [_read(row) for row in rows if row["criterion"] != "dense"]
    return PublishedTable(
        dense=next(_fraction(row["mean"]) for row in rows if row["criterion"] == "dense"),
        groups=MappingProxyType({group.key: group for group in groups}),
    )


def compare(summary: RunSummary) -> PublishedComparison | None:
    """The published rows for the groups of `summary`; None unless it answers VQA's questions with their images."""
    data = summary.recipe.data
    if not isinstance(data, VqaData) or data.features is None:
        return None
    table = published_table()
    groups = {group.key: table.groups[group.key] for group in summary.groups if group.key in table.groups}
    return PublishedComparison(table.dense, groups, _doubt(summary)) if groups else None


def _doubt(summary: RunSummary) -> str | None:
    asked = {each.retrained.questions for each in summary.results}
    if asked == {QUESTIONS}:
        return None
    counts = " or ".join(f"{count:,}" for count in sorted(asked))
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
    """A percentage as the nearest fraction: the 0.7 of a recipe, not 70 / 100 with a last digit of its own."""
    return float(f"{percent}e-2")

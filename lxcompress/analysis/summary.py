"""A study as values: the groups over seeds, the dense baseline, the floors and the exported artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lxcompress.analysis.artifacts import ExportedArtifact, read_artifacts
from lxcompress.analysis.floors import highest_floor
from lxcompress.analysis.groups import (
    GroupKey,
    SeedGroup,
    Spread,
    Stage,
    group_keys,
    make_group,
    make_stage,
    make_twin_groups,
)
from lxcompress.analysis.usage import UsageTotals, own_runs, total_usage
from lxcompress.catalog.formats import all_formats
from lxcompress.confidence.record import AnswerConfidence, read_confidence
from lxcompress.recipe import Recipe, dense_id
from lxcompress.records import Dense, Floors, Machine, Result
from lxcompress.rundir import Run, RunDir, twins_of
from lxcompress.units import percent


@dataclass(frozen=True)
class RunSummary:
    """The summary of the records of a study. `dense` and `usage` are None while no run is finished.

    `groups` has one entry for each method and sparsity with a finished cell; `unstarted` holds the keys of the others.
    `dense_missing` holds the seeds whose dense run is not finished. `twins` are groups of one seed that were drawn to
    compare the picked ticket with; they are not part of the recipe. `results` are the records of the finished cells.
    """

    root: Path
    recipe: Recipe
    machine: Machine
    floors: Floors | None
    dense: Stage | None
    dense_missing: tuple[int, ...]
    groups: tuple[SeedGroup, ...]
    twins: tuple[SeedGroup, ...]
    unstarted: tuple[GroupKey, ...]
    artifacts: tuple[ExportedArtifact, ...]
    usage: UsageTotals | None
    dense_runs: tuple[Dense, ...]
    results: tuple[Result, ...]
    twin_results: tuple[Result, ...]
    warnings: tuple[str, ...]

    @cached_property
    def result_by_cell(self) -> dict[str, Result]:
        """The records of the finished cells and of the twins: id of a cell -> its record."""
        return {result.cell: result for result in (*self.twin_results, *self.results)}

    @cached_property
    def missing_libraries(self) -> dict[str, str | None]:
        """Return, by format, a clause that names the libraries that are not installed here; None if none is missing."""
        return {spec.name: spec.find_missing() for spec in all_formats()}

    @cached_property
    def confidences(self) -> dict[str, AnswerConfidence]:
        """The measured confidences: id of a dense run, id of a cell, or name of an artifact -> its answers.

        Models whose reliability was not measured are left out. Raises RunError for a damaged record.
        """
        run = RunDir(self.root)
        folders = {dense_id(dense.seed): run.dense(dense.seed) for dense in self.dense_runs}
        folders |= {result.cell: self.root / run.twins.drawn / result.cell for result in self.twin_results}
        folders |= {result.cell: self.root / run.drawn / result.cell for result in self.results}
        folders |= {exported.name: exported.folder for exported in self.artifacts}
        found = {name: read_confidence(folder) for name, folder in folders.items()}
        return {name: answers for name, answers in found.items() if answers is not None}

    @property
    def cells_total(self) -> int:
        """The number of cells (method x sparsity x seed) that the recipe has."""
        return len(self.recipe.cells())

    @property
    def is_complete(self) -> bool:
        """Return whether every dense run and every cell is finished."""
        return not self.dense_missing and len(self.results) == self.cells_total


def summarise(run: Run) -> RunSummary:
    """Return the summary of a study, including its artifacts. Raises RunError for a damaged record of an artifact."""
    dense = {seed: run.dense[seed] for seed in run.recipe.seeds if seed in run.dense}
    cells = [cell for cell in run.recipe.cells() if cell.id in run.results]
    results = [run.results[cell.id] for cell in cells]
    by_group: dict[tuple[str, float], list[Result]] = {}
    for cell in cells:
        by_group.setdefault((cell.method.id, cell.sparsity), []).append(run.results[cell.id])
    groups, unstarted = [], []
    for key in group_keys(run.recipe):
        finished = by_group.get((key.method.id, key.target), [])
        if finished:
            groups.append(make_group(key, finished, dense, run.recipe.seeds))
        else:
            unstarted.append(key)
    runs: list[Dense | Result] = [*own_runs(run.recipe, dense.values()), *results]
    twin_results = list(twins_of(run).values())
    return RunSummary(
        root=run.dir.root,
        recipe=run.recipe,
        machine=run.machine,
        floors=run.floors,
        dense=make_stage({seed: record.trained for seed, record in dense.items()}) if dense else None,
        dense_missing=tuple(seed for seed in run.recipe.seeds if seed not in dense),
        groups=tuple(groups),
        twins=tuple(make_twin_groups(twin_results, dense)),
        unstarted=tuple(unstarted),
        artifacts=tuple(read_artifacts(run)),
        usage=total_usage(runs) if runs else None,
        dense_runs=tuple(dense.values()),
        results=tuple(results),
        twin_results=tuple(twin_results),
        warnings=tuple(_warnings(run, list(dense.values()), results)),
    )


def _warnings(run: Run, dense: Sequence[Dense], results: Sequence[Result]) -> list[str]:
    """Return what a reader should know before trusting the accuracies of a study."""
    warnings = []
    if len(run.recipe.seeds) == 1:
        warnings.append("one seed: the spread is not known, so small differences may be chance; study more seeds")
    runs: list[Dense | Result] = [*dense, *results]
    kinds = sorted({f"{record.device} ({record.precision})" for record in runs})
    if len(kinds) > 1:
        warnings.append(f"the runs used different devices or precisions: {', '.join(kinds)}")
    losses = [tuple(epoch.train_loss for epoch in record.epochs) for record in dense]
    if len(dense) > 1 and losses[0] and len(set(losses)) == 1:
        warnings.append(
            "the dense runs of all seeds have the same losses: they look like one run, so their spread is not known"
        )
    if run.floors is None:
        warnings.append("the floors were not measured: how much is answered without the image is not known")
    elif (
        dense
        and Spread({record.seed: record.trained.accuracy for record in dense}).mean <= (highest_floor(run.floors)[1])
    ):
        name, value = highest_floor(run.floors)
        warnings.append(
            f"the dense model does not beat the {name} floor ({percent(value)} %): no result of this study means much"
        )
    return warnings

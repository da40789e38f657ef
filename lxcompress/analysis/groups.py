"""Groups over seeds: the finished runs of one method at one sparsity, with means and standard deviations.

A cell is the run of one method, one sparsity and one seed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from pydantic import ValidationError

from lxcompress.analysis.usage import UsageTotals, total_usage
from lxcompress.recipe import Cell, Method, Recipe
from lxcompress.records import Dense, Result, Score
from lxcompress.units import short_percent


@dataclass(frozen=True)
class Spread:
    """The values of a quantity by seed, for at least one seed."""

    by_seed: Mapping[int, float]

    @property
    def mean(self) -> float:
        """The mean of the values over seeds."""
        return statistics.fmean(self.by_seed.values())

    @cached_property
    def std(self) -> float | None:
        """The sample standard deviation over seeds; None with one seed."""
        return statistics.stdev(self.by_seed.values()) if len(self.by_seed) > 1 else None

    @property
    def standard_error(self) -> float | None:
        """The standard error of the mean; None with one seed."""
        return None if self.std is None else self.std / math.sqrt(len(self.by_seed))


@dataclass(frozen=True)
class Stage:
    """The accuracies (0-1) at one stage of the runs, by seed: over all questions, and for each answer type."""

    overall: Spread
    by_type: Mapping[str, Spread]


@dataclass(frozen=True)
class GroupKey:
    """The method and the target sparsity of a group; together with a seed they name a cell."""

    method: Method
    target: float

    @property
    def series(self) -> str:
        """The short name of the method, such as low-magnitude; the granularity `weight` is left out."""
        words = self.method.id if self.method.name else self.method.id.replace("-weight-", "-", 1)
        return words.removesuffix("-weight")

    @property
    def label(self) -> str:
        """The short name of the method with the target sparsity, such as low-magnitude at 70 %.

        A method that changes the regions only has no sparsity to name: regions-18.
        """
        if self.method.dense:
            return self.series
        return f"{self.series} at {short_percent(self.target)} %"

    def cell(self, seed: int) -> Cell:
        """Return the cell of this method and sparsity with `seed`."""
        return Cell(self.method, self.target, seed)


@dataclass(frozen=True)
class SeedGroup:
    """The finished cells of one method and sparsity, over seeds. A value that no record holds is None.

    `missing` holds the seeds whose cell or dense run is not finished. `achieved` is the sparsity that was reached: the
    removed fraction of the prunable weights. `of_live` and `of_all` are the removed fractions of the weights that an
    answer depends on, and of all weights.

    `paired` is the retrained accuracy minus the dense accuracy of the same seed, and `ratios` is the first divided by
    the second. `retained` is the mean retrained accuracy divided by the mean dense accuracy of the same seeds. These
    three are None while no seed of the group has a dense run.

    `removed` is the mean number of removed weights. `regrown` is the number of removed weights that are not zero after
    retraining. `parameters` and `flops` are means over the retrained models. `cell_s` is the mean time of a cell in
    seconds, including the time to draw its ticket. `steps` is the mean number of training steps divided by that of the
    dense run.
    """

    key: GroupKey
    missing: tuple[int, ...]
    achieved: Spread
    of_live: float
    of_all: float
    removed: float
    regrown: Spread
    pruned: Stage
    rewound: Stage
    retrained: Stage
    paired: Spread | None
    retained: float | None
    ratios: Spread | None
    parameters: float | None
    flops: float | None
    cell_s: float
    steps: float | None
    usage: UsageTotals

    @property
    def is_complete(self) -> bool:
        """Return whether the cell and the dense run of every seed are finished."""
        return not self.missing

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds whose cell is finished."""
        return tuple(self.retrained.overall.by_seed)

    @property
    def best_seed(self) -> int:
        """The seed with the best retrained accuracy; of equally good seeds the smallest."""
        scores = self.retrained.overall.by_seed
        return max(scores, key=lambda seed: (scores[seed], -seed))


def group_keys(recipe: Recipe) -> list[GroupKey]:
    """Return the key of every group of `recipe`: one method after the other, each by increasing sparsity."""
    return [
        GroupKey(method, target)
        for method in recipe.prune.all_methods()
        for target in method.targets(recipe.prune.sparsities)
    ]


def make_group(key: GroupKey, results: Sequence[Result], dense: Mapping[int, Dense], seeds: Iterable[int]) -> SeedGroup:
    """Return the group of `results`, which have the method and sparsity of `key`.

    `dense` holds the finished dense runs by seed. `seeds` are the seeds that the group will have when it is complete.
    """
    by_seed = {result.seed: result for result in results}
    shared = [seed for seed in by_seed if seed in dense]
    retrained = {seed: by_seed[seed].retrained.accuracy for seed in shared}
    baseline = {seed: dense[seed].trained.accuracy for seed in shared}
    is_comparable = bool(shared) and statistics.fmean(baseline.values()) > 0
    ratios = {seed: retrained[seed] / baseline[seed] for seed in shared if baseline[seed] > 0}
    return SeedGroup(
        key=key,
        missing=tuple(seed for seed in seeds if seed not in shared),
        achieved=Spread({seed: result.sparsity.achieved for seed, result in by_seed.items()}),
        of_live=statistics.fmean(result.sparsity.of_live for result in results),
        of_all=statistics.fmean(result.sparsity.of_all for result in results),
        removed=statistics.fmean(result.sparsity.prunable - result.sparsity.kept for result in results),
        regrown=Spread({seed: result.regrown for seed, result in by_seed.items()}),
        pruned=make_stage({seed: result.pruned for seed, result in by_seed.items()}),
        rewound=make_stage({seed: result.rewound for seed, result in by_seed.items()}),
        retrained=make_stage({seed: result.retrained for seed, result in by_seed.items()}),
        paired=Spread({seed: retrained[seed] - baseline[seed] for seed in shared}) if shared else None,
        retained=Spread(retrained).mean / Spread(baseline).mean if is_comparable else None,
        ratios=Spread(ratios) if ratios else None,
        parameters=_mean_of_known([result.parameters for result in results]),
        flops=_mean_of_known([result.flops for result in results]),
        cell_s=statistics.fmean(result.duration_s for result in results),
        steps=_mean_of_known([by_seed[seed].steps / dense[seed].steps for seed in shared if dense[seed].steps]),
        usage=total_usage(results),
    )


def make_twin_groups(results: Iterable[Result], dense: Mapping[int, Dense]) -> list[SeedGroup]:
    """Return a group of one seed for each finished twin; twins with a method unknown to this version are left out."""
    groups = []
    for result in results:
        settings = {name: value for name, value in result.method.items() if name != "id"}
        try:
            key = GroupKey(Method.model_validate(settings), result.target)
        except ValidationError:  # written by a version that knew other methods; the recipe's tickets are unaffected
            continue
        if key.cell(result.seed).id == result.cell:
            groups.append(make_group(key, [result], dense, [result.seed]))
    return groups


def make_stage(scores: Mapping[int, Score]) -> Stage:
    """Return the accuracies at one stage; `scores` holds the score of each seed."""
    types = {name: None for score in scores.values() for name in score.by_type}
    return Stage(
        overall=Spread({seed: score.accuracy for seed, score in scores.items()}),
        by_type={
            name: Spread({seed: score.by_type[name] for seed, score in scores.items() if name in score.by_type})
            for name in types
        },
    )


def _mean_of_known(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None; None if all are None."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None

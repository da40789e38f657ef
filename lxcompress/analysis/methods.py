"""Tabulate the methods of a study: what each keeps at each sparsity, what it costs, and which ones a chart shows.

A group holds the runs of one method and one sparsity over all seeds; one of these runs is a cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from lxcompress.analysis.groups import GroupKey, SeedGroup
from lxcompress.analysis.summary import RunSummary
from lxcompress.analysis.usage import own_runs
from lxcompress.analysis.words import plus_minus
from lxcompress.recipe import Control, Method
from lxcompress.units import duration, percent, significant

Kind = Literal["unstructured", "structured", "compound", "regions", "control"]
TICKET_KINDS: tuple[Kind, ...] = ("unstructured", "structured", "compound")
"""The kinds of methods that remove weights; the best of each kind is marked at each sparsity."""

KIND_WORDS: Mapping[Kind, str] = {
    "unstructured": "unstructured: zeros within matrices of full size",
    "structured": "structured: smaller matrices, heads or layers left out",
    "compound": "compound: smaller matrices first, then zeros within them",
    "regions": "fewer regions: no weight is removed, and the model sees less of an image",
    "control": "controls: to compare with, never to ship",
}
CONTROL_WORDS: Mapping[Control, str] = {
    "shuffled": "same counts in each layer, other positions",
    "reinitialised": "same mask, new random weights",
    "dense-longer": "no pruning, {times} the training",
    "small-dense": "a dense model of equal size, trained from fresh weights",
}
NOTHING = "–"
"""The text in a cell of a table that has no value."""

MOST_LINES = 8
"""The largest number of lines that a reader can tell apart; with more methods, a chart shows the best BEST_LINES."""
BEST_LINES = 6


@dataclass(frozen=True)
class MethodRow:
    """One method, and its groups by target sparsity. A sparsity without a finished run is left out."""

    method: Method
    groups: Mapping[float, SeedGroup]

    @property
    def name(self) -> str:
        """The short name of the method."""
        return GroupKey(self.method, 0.0).series

    @property
    def kind(self) -> Kind:
        """The kind of the method."""
        return kind_of(self.method)

    @property
    def words(self) -> str:
        """The purpose of a control; for a method that the recipe names, the id made of its settings; else empty."""
        if self.method.control:
            times = "twice" if self.method.length == 2 else f"{self.method.length} times"
            words = CONTROL_WORDS[self.method.control].format(times=times)
            is_redrawn = self.method.control == "reinitialised" and self.method.schedule == "iterative-retrain"
            return f"{words} in every round, so that later masks follow from them" if is_redrawn else words
        plain = self.method.model_copy(update={"name": None})
        return "" if plain.id == self.method.id else GroupKey(plain, 0.0).series

    @property
    def is_baseline(self) -> bool:
        """Return whether the method trains a dense model, which the charts draw like the dense run."""
        return self.method.control in ("dense-longer", "small-dense")

    @property
    def cell_s(self) -> float | None:
        """The mean time of a run of this method in seconds, with the time to draw its ticket; None if unknown."""
        counted = [(group.cell_s, len(group.seeds)) for group in self.groups.values()]
        cells = sum(count for _, count in counted)
        return sum(seconds * count for seconds, count in counted) / cells if cells else None

    @property
    def steps(self) -> tuple[float, float] | None:
        """The fewest and the most training steps of a run over sparsities, as multiples of the dense run's; or None."""
        known = [group.steps for group in self.groups.values() if group.steps is not None]
        return (min(known), max(known)) if known else None

    @property
    def is_sized(self) -> bool:
        """Return whether the method makes an answer cheaper, and the size or work of at least one model is known."""
        return _changes_work(self.method) and any(group.parameters or group.flops for group in self.groups.values())


@dataclass(frozen=True)
class MethodTable:
    """All methods of a study, by kind in the order of KIND_WORDS; the controls come last.

    `targets` are the target sparsities. `best` holds, for each sparsity, the best complete group of each kind of
    ticket: the one that keeps most of the dense accuracy. `parameters` and `flops` are those of
    the dense model, if known. `dense` is a sentence about the dense model.
    """

    targets: tuple[float, ...]
    rows: tuple[MethodRow, ...]
    best: frozenset[GroupKey]
    dense: str
    parameters: float | None
    flops: float | None

    @property
    def sections(self) -> list[tuple[str, list[MethodRow]]]:
        """The rows of each kind of method, with the title of the kind; kinds without a row are left out."""
        by_kind = {words: [row for row in self.rows if row.kind == kind] for kind, words in KIND_WORDS.items()}
        return [(words, rows) for words, rows in by_kind.items() if rows]

    @property
    def controls(self) -> dict[str, str]:
        """Name of each control of the study -> what it controls for."""
        return {
            f"{row.method.control}{row.method.epochs_factor or ''}": row.words
            for row in self.rows
            if row.method.control
        }

    @property
    def pruned_targets(self) -> tuple[float, ...]:
        """The target sparsities, without that of an unpruned control (0)."""
        return tuple(target for target in self.targets if target > 0)

    @property
    def sized(self) -> list[MethodRow]:
        """The rows of the methods that make smaller models whose size is known."""
        return [row for row in self.rows if row.is_sized]

    @property
    def sized_targets(self) -> tuple[float, ...]:
        """The target sparsities of the methods in `sized`."""
        return tuple(target for target in self.targets if any(target in row.groups for row in self.sized))

    @property
    def quantities(self) -> dict[str, Callable[[SeedGroup], str]]:
        """Name of a quantity -> the function that writes it for a smaller model, with its share of the dense model."""
        return {
            "parameters": lambda group: _with_share(group.parameters, self.parameters),
            "FLOPs": lambda group: _with_share(group.flops, self.flops),
        }


@dataclass(frozen=True)
class ChartSelection:
    """The methods that a chart draws as lines, in the recipe's order, and the methods that only the tables show."""

    lines: tuple[Method, ...]
    left_out: tuple[Method, ...]


def tabulate(summary: RunSummary) -> MethodTable:
    """Return the table of all methods of a study, including methods without a finished run."""
    groups = {group.key: group for group in summary.groups}
    rows = []
    for method in summary.recipe.prune.all_methods():
        keys = [GroupKey(method, target) for target in method.targets(summary.recipe.prune.sparsities)]
        rows.append(MethodRow(method, {key.target: groups[key] for key in keys if key in groups}))
    kinds: list[Kind] = list(KIND_WORDS)
    targets = {target for row in rows for target in row.method.targets(summary.recipe.prune.sparsities)}
    whole = [group for row in rows for group in row.groups.values() if not _changes_work(row.method)]
    return MethodTable(
        targets=tuple(sorted(targets)),
        rows=tuple(sorted(rows, key=lambda row: kinds.index(row.kind))),
        best=frozenset(_best_keys(rows, targets)),
        dense=_dense_words(summary),
        parameters=next((group.parameters for group in whole if group.parameters), None),
        flops=next((group.flops for group in whole if group.flops), None),
    )


def kind_of(method: Method) -> Kind:
    """Return the kind of the method, by what it removes."""
    if method.is_control:
        return "control"
    if method.first:
        return "compound"
    if method.dense:
        return "regions"
    return "structured" if method.is_structured else "unstructured"


def off_target(group: SeedGroup) -> str | None:
    """Return the reached sparsity, such as '48.7 %', if it is over 0.05 points away from the target; else None."""
    is_off = abs(group.achieved.mean - group.key.target) > 0.0005
    return f"{percent(group.achieved.mean, 1)} %" if is_off else None


def shown_methods(summary: RunSummary, picked: GroupKey | None = None) -> ChartSelection:
    """Return the methods that a chart draws: all of them, or the best BEST_LINES if there are more than MOST_LINES.

    The best methods keep most of the dense accuracy, compared with the mean of all methods at the same sparsity. The
    best structured method and the picked one are then always drawn, and controls never. Dense baselines are in neither
    part of the result: the charts draw them in another way.
    """
    rows = [row for row in tabulate(summary).rows if not row.is_baseline]
    order = summary.recipe.prune.all_methods()
    started = [row for row in rows if row.groups]
    if len(rows) <= MOST_LINES:
        return ChartSelection(tuple(sorted((row.method for row in started), key=order.index)), ())
    advantage = _advantages(started)
    tickets = sorted((row for row in started if row.kind != "control"), key=lambda row: -advantage[row.method])
    first = [row.method for row in tickets if picked is not None and row.method == picked.method]
    first += [row.method for row in tickets if row.kind == "structured"][:1]
    ranked = list(dict.fromkeys([*first, *(row.method for row in tickets)]))
    chosen = ranked[:BEST_LINES]
    rest = [row.method for row in rows if row.method not in chosen]
    return ChartSelection(tuple(sorted(chosen, key=order.index)), tuple(rest))


def _best_keys(rows: Sequence[MethodRow], targets: Iterable[float]) -> list[GroupKey]:
    """Return for each sparsity the key of the best complete group of each kind of ticket.

    The best group keeps most of the dense accuracy.
    """
    best = []
    for target in targets:
        for kind in TICKET_KINDS:
            found = [row.groups[target] for row in rows if row.kind == kind and target in row.groups]
            known = [(group.retained, group.key) for group in found if group.is_complete and group.retained is not None]
            if known:
                best.append(max(known, key=lambda pair: pair[0])[1])
    return best


def _advantages(rows: Sequence[MethodRow]) -> dict[Method, float]:
    """Return for each method the accuracy that it keeps minus the mean of all methods at the same sparsity.

    The difference is averaged over the sparsities of the method. So a method with one sparsity only, such as N:M, can
    be compared with the others. It is -inf for a method without a known value.
    """
    kept: dict[float, dict[Method, float]] = {}
    for row in rows:
        for target, group in row.groups.items():
            if group.retained is not None:
                kept.setdefault(target, {})[row.method] = group.retained
    means = {target: fmean(shares.values()) for target, shares in kept.items()}
    found = {}
    for row in rows:
        beyond = [kept[target][row.method] - mean for target, mean in means.items() if row.method in kept[target]]
        found[row.method] = fmean(beyond) if beyond else float("-inf")
    return found


def _dense_words(summary: RunSummary) -> str:
    """Return a sentence about the accuracy, the time and the steps of the dense runs; empty if none is finished."""
    own = own_runs(summary.recipe, summary.dense_runs)
    if summary.dense is None or not own:
        return ""
    time = duration(fmean(run.duration_s for run in own))
    return f" Dense scores {plus_minus(summary.dense.overall)} % in {time} and {own[0].steps:,} steps."


def _changes_work(method: Method) -> bool:
    """Return whether the models of a method are smaller than the dense model, or see fewer regions."""
    return method.makes_smaller_models or method.control == "small-dense" or method.regions is not None


def _with_share(value: float | None, whole: float | None) -> str:
    """Return a number with its share of the number of the dense model, such as "1.21 M (50 %)"."""
    if value is None:
        return NOTHING
    return _count(value) + (f" ({percent(value / whole, 0)} %)" if whole else "")


def _count(value: float) -> str:
    """Return a large number with a unit: 1.21 M, 10.5 G."""
    for scale, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= 0.9995 * scale:
            return f"{significant(value / scale)}{unit}"
    return f"{value:.0f}"

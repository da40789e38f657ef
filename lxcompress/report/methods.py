"""A study's methods side by side: what each keeps at each sparsity, what it takes, and which ones a chart shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from lxcompress.analysis.pick import spread_json
from lxcompress.analysis.summary import GroupKey, RunSummary, SeedGroup, kept_words, plus_minus
from lxcompress.analysis.usage import own_runs
from lxcompress.recipe import Control, Method
from lxcompress.report.markdown import escape
from lxcompress.report.markdown import table as markdown_table
from lxcompress.units import duration, percent, short_percent, significant

Kind = Literal["unstructured", "structured", "control"]

KIND_WORDS: Mapping[Kind, str] = {
    "unstructured": "unstructured: zeros within matrices of full size",
    "structured": "structured: smaller matrices, heads or layers left out",
    "control": "controls: to compare with, never to ship",
}
CONTROL_WORDS: Mapping[Control, str] = {
    "shuffled": "same counts in each layer, other places",
    "reinitialised": "same mask, weights drawn anew",
    "dense-longer": "no pruning, {times} the training",
    "small-dense": "a dense model of equal size, trained from fresh weights",
}
NOTHING = "–"

MOST_LINES = 8
"""Lines that a chart can hold apart; a study of more methods shows the best BEST_LINES."""
BEST_LINES = 6


@dataclass(frozen=True)
class MethodRow:
    """One method and its groups by target sparsity; those without a finished cell are absent."""

    method: Method
    groups: Mapping[float, SeedGroup]

    @property
    def name(self) -> str:
        return GroupKey(self.method, 0.0).series

    @property
    def kind(self) -> Kind:
        if self.method.is_control:
            return "control"
        return "structured" if self.method.is_structured else "unstructured"

    @property
    def words(self) -> str:
        """What a control controls for; else how its method would be called if it had no name of its own."""
        if self.method.control:
            times = "twice" if self.method.length == 2 else f"{self.method.length} times"
            words = CONTROL_WORDS[self.method.control].format(times=times)
            is_redrawn = self.method.control == "reinitialised" and self.method.schedule == "iterative-retrain"
            return f"{words} in every round, which makes later masks its own" if is_redrawn else words
        made = self.method.model_copy(update={"name": None}).id
        return "" if made == self.method.id else GroupKey(self.method.model_copy(update={"name": None}), 0.0).series

    @property
    def is_baseline(self) -> bool:
        """Whether it is a dense model, which the charts draw as the dense run is drawn."""
        return self.method.control in ("dense-longer", "small-dense")

    @property
    def cell_s(self) -> float | None:
        """Mean time of a cell, drawing its ticket included."""
        counted = [(group.cell_s, len(group.seeds)) for group in self.groups.values()]
        cells = sum(count for _, count in counted)
        return sum(seconds * count for seconds, count in counted) / cells if cells else None

    @property
    def steps(self) -> tuple[float, float] | None:
        """Training steps of a cell as a multiple of the dense run's: the least and the most of its sparsities."""
        known = [group.steps for group in self.groups.values() if group.steps is not None]
        return (min(known), max(known)) if known else None

    @property
    def is_sized(self) -> bool:
        """Whether its models are smaller ones, whose size is known."""
        is_smaller = self.method.is_structured or self.method.control == "small-dense"
        return is_smaller and any(group.parameters or group.flops for group in self.groups.values())


@dataclass(frozen=True)
class MethodTable:
    """Every method of a study, unstructured ones first and controls last; `best` holds, for each sparsity, the complete
    group that keeps most of the unstructured ones and of the structured ones.

    `parameters` and `flops` are of the dense model, where they are known.
    """

    targets: tuple[float, ...]
    rows: tuple[MethodRow, ...]
    best: frozenset[GroupKey]
    dense: str
    parameters: float | None
    flops: float | None

    @property
    def sections(self) -> list[tuple[str, list[MethodRow]]]:
        """The rows of each kind under its words; no kind without a row."""
        by_kind = {words: [row for row in self.rows if row.kind == kind] for kind, words in KIND_WORDS.items()}
        return [(words, rows) for words, rows in by_kind.items() if rows]

    @property
    def controls(self) -> dict[str, str]:
        """What each kind of control that is there controls for."""
        return {
            f"{row.method.control}{row.method.epochs_factor or ''}": row.words
            for row in self.rows
            if row.method.control
        }

    @property
    def pruned_targets(self) -> tuple[float, ...]:
        return tuple(target for target in self.targets if target > 0)

    @property
    def sized(self) -> list[MethodRow]:
        return [row for row in self.rows if row.is_sized]

    @property
    def sized_targets(self) -> tuple[float, ...]:
        return tuple(target for target in self.targets if any(target in row.groups for row in self.sized))

    @property
    def quantities(self) -> dict[str, Callable[[SeedGroup], str]]:
        """What is counted of a smaller model, in words, with its share of the dense model's."""
        return {
            "parameters": lambda group: _with_share(group.parameters, self.parameters),
            "FLOPs": lambda group: _with_share(group.flops, self.flops),
        }


@dataclass(frozen=True)
class ChartSelection:
    """The methods that a chart draws as lines, in the recipe's order, and those it leaves to the table."""

    lines: tuple[Method, ...]
    left_out: tuple[Method, ...]


def tabulate(summary: RunSummary) -> MethodTable:
    """The methods of `summary`, those without a finished cell too."""
    groups = {group.key: group for group in summary.groups}
    rows = []
    for method in summary.recipe.prune.all_methods():
        keys = [GroupKey(method, target) for target in method.targets(summary.recipe.prune.sparsities)]
        rows.append(MethodRow(method, {key.target: groups[key] for key in keys if key in groups}))
    kinds: list[Kind] = list(KIND_WORDS)
    targets = {target for row in rows for target in row.method.targets(summary.recipe.prune.sparsities)}
    whole = [group for row in rows for group in row.groups.values() if not _is_smaller(row.method)]
    return MethodTable(
        targets=tuple(sorted(targets)),
        rows=tuple(sorted(rows, key=lambda row: kinds.index(row.kind))),
        best=frozenset(_best(rows, targets)),
        dense=_dense_words(summary),
        parameters=next((group.parameters for group in whole if group.parameters), None),
        flops=next((group.flops for group in whole if group.flops), None),
    )


def steps_words(steps: tuple[float, float] | None) -> str:
    """1×, 2.5×, or 3 to 11× where it depends on the sparsity."""
    if steps is None:
        return NOTHING
    low, high = (f"{each:.2f}".rstrip("0").rstrip(".") for each in steps)
    return f"{low}×" if low == high else f"{low} to {high}×"


def time_words(row: MethodRow) -> str:
    """The mean time of a cell of the row."""
    return NOTHING if row.cell_s is None else duration(row.cell_s)


def off_target(group: SeedGroup) -> str | None:
    """What was removed, where that is not what was asked for to a tenth of a percent: '48.7 %'."""
    is_off = abs(group.achieved.mean - group.key.target) > 0.0005
    return f"{percent(group.achieved.mean, 1)} %" if is_off else None


def shown_methods(summary: RunSummary, picked: GroupKey | None = None) -> ChartSelection:
    """Which methods a chart draws: all of a small study; of one with more than MOST_LINES, the best BEST_LINES.

    The best keep most beside the mean of the others at the same sparsity. The best structured one and the pick's are
    always among them, and never a control. Dense baselines are drawn otherwise, and are in neither part.
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


def methods_markdown(summary: RunSummary) -> str:
    """The methods as a Markdown table, and the sizes of the smaller models as a second one, with what they mean."""
    table = tabulate(summary)
    head = ["method", "kind", *_target_heads(table.targets), "time a cell", "steps"]
    lines = [
        [escape(row.name), row.kind, *_kept_cells(table, row), time_words(row), steps_words(row.steps)]
        for row in table.rows
    ]
    parts = [markdown_table(head, lines, first_texts=2), table_note(table)]
    if table.controls:
        parts.append("Controls: " + "; ".join(f"{name}, {words}" for name, words in table.controls.items()) + ".")
    if table.sized:
        sizes = [
            [
                escape(row.name),
                quantity,
                *(words(row.groups[each]) if each in row.groups else NOTHING for each in table.sized_targets),
            ]
            for row in table.sized
            for quantity, words in table.quantities.items()
        ]
        parts.append(
            markdown_table(["method", "of its model", *_target_heads(table.sized_targets)], sizes, first_texts=2)
        )
    return "\n\n".join(parts) + "\n"


def table_note(table: MethodTable, best: str = "Bold", *, has_spreads: bool = True, has_steps: bool = True) -> str:
    """How the table is to be read, in sentences; `best` says how the best are marked."""
    kinds = {key.method.is_structured for key in table.best}
    of = " and ".join(name for name, is_it in (("unstructured", False), ("structured", True)) if is_it in kinds)
    spreads = [group.ratios.std for row in table.rows for group in row.groups.values() if group.ratios]
    has_spreads = has_spreads and any(std is not None for std in spreads)
    behind = ", ± standard deviation over seeds" if has_spreads else ""
    marked = f" {best}: the best {of} one at each sparsity." if of else ""
    steps = " Steps are all training steps of a cell, as a multiple of the dense run's." if has_steps else ""
    return f"Share of dense accuracy kept at each sparsity, in %{behind}.{marked}{table.dense}{steps}"


def methods_json(summary: RunSummary) -> list[dict[str, Any]]:
    """The rows of the table as plain JSON values."""
    table = tabulate(summary)
    return [
        {
            "method": row.method.id,
            "kind": row.kind,
            "settings": row.method.model_dump(mode="json", exclude_defaults=True),
            "cell_s": row.cell_s,
            "steps_of_dense": list(row.steps) if row.steps else None,
            "kept": [
                {
                    "target": target,
                    "achieved": group.achieved.mean,
                    "retained": group.retained,
                    "ratios": spread_json(group.ratios),
                    "best": group.key in table.best,
                }
                for target, group in row.groups.items()
            ],
        }
        for row in table.rows
    ]


def _kept_cells(table: MethodTable, row: MethodRow) -> list[str]:
    return [_kept_cell(row.groups.get(target), table) for target in table.targets]


def _kept_cell(group: SeedGroup | None, table: MethodTable) -> str:
    words = None if group is None else kept_words(group)
    if group is None or words is None:
        return NOTHING
    off = off_target(group)
    text = f"**{words}**" if group.key in table.best else words
    lacks = "" if group.is_complete else f" ({len(group.seeds)} of {len(group.seeds) + len(group.missing)} seeds)"
    return text + (f" (at {off})" if off else "") + lacks


def _target_heads(targets: Iterable[float]) -> list[str]:
    return [f"{short_percent(target)} %" for target in targets]


def _best(rows: Sequence[MethodRow], targets: Iterable[float]) -> list[GroupKey]:
    best = []
    for target in targets:
        for kind in ("unstructured", "structured"):
            found = [row.groups[target] for row in rows if row.kind == kind and target in row.groups]
            known = [(each.retained, each.key) for each in found if each.is_complete and each.retained is not None]
            if known:
                best.append(max(known, key=lambda pair: pair[0])[1])
    return best


def _advantages(rows: Sequence[MethodRow]) -> dict[Method, float]:
    """What each method keeps beyond the mean of all at the same sparsity, so that N:M, which has one, compares too."""
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
    own = own_runs(summary.recipe, summary.dense_runs)
    if summary.dense is None or not own:
        return ""
    took = duration(fmean(run.duration_s for run in own))
    return f" Dense scores {plus_minus(summary.dense.overall)} % in {took} and {own[0].steps:,} steps."


def _is_smaller(method: Method) -> bool:
    return method.is_structured or method.control == "small-dense"


def _with_share(value: float | None, whole: float | None) -> str:
    if value is None:
        return NOTHING
    return _count(value) + (f" ({percent(value / whole, 0)} %)" if whole else "")


def _count(value: float) -> str:
    """1.21 M, 10.5 G."""
    for scale, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= 0.9995 * scale:
            return f"{significant(value / scale)}{unit}"
    return f"{value:.0f}"

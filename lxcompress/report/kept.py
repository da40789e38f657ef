"""The section on kept weights: the fraction of each part and layer of the model that the tickets keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lxcompress.analysis.kept_weights import kept_by_layer
from lxcompress.analysis.summary import RunSummary
from lxcompress.recipe import Method
from lxcompress.report.chart.heat import HeatColumn, HeatMap, heat_map
from lxcompress.report.page import KeptSection, Panel
from lxcompress.units import percent, short_percent

MOST_PANELS = 3
WIDTH, NAME_WIDTH = 350, 92
LXMERT = {
    "layer": "language",
    "visn_fc": "regions",
    "r_layers": "vision",
    "x_layers": "cross",
    "pooler": "pooler",
    "logit_fc": "answer head",
}
"""Name of a part in LXMERT's tensors -> a plain name, in the order in which an answer is computed."""
PARTS = ("language", "vision", "cross", "head")
"""The parts that every model family has, in the order of records.Result.kept_by_modality."""


@dataclass(frozen=True)
class TicketColumn:
    """The fractions (0-1) of weights that the ticket of one method keeps, by part and by layer of the model.

    `slot` is the index of the method's look.
    """

    slot: int
    label: str
    parts: Mapping[str, float]
    layers: Mapping[str, float]

    @property
    def is_known(self) -> bool:
        """Return whether the fraction of kept weights is known for at least one part or layer."""
        return bool(self.parts or self.layers)


def kept_section(summary: RunSummary, slots: Mapping[Method, int], picked: float | None) -> KeptSection | None:
    """Return what the drawn methods keep, at up to three sparsities; None if nothing is known.

    The sparsity `picked` of the pick is one of the three. `slots` is {drawn method: index of its look}.
    """
    wanted = {method: slot for method, slot in slots.items() if not method.is_control}
    missing: list[str] = []
    found = [(target, _columns(summary, wanted, target, missing)) for target in _targets(summary, wanted, picked)]
    panels = [_panel(target, columns) for target, columns in found if any(column.is_known for column in columns)]
    return KeptSection(panels, _absent_words(missing)) if panels else None


def _targets(summary: RunSummary, wanted: Mapping[Method, int], picked: float | None) -> list[float]:
    """Return up to three sparsities: first that of the pick, then the lowest, the highest and the middle one.

    The result is sorted.
    """
    known = sorted({group.key.target for group in summary.groups if group.key.method in wanted and group.key.target})
    if len(known) <= MOST_PANELS:
        return known
    middle = known[len(known) // 2]
    first = dict.fromkeys([picked if picked in known else middle, known[0], known[-1], middle])
    return sorted(list(first)[:MOST_PANELS])


def _columns(
    summary: RunSummary, wanted: Mapping[Method, int], target: float, missing: list[str]
) -> list[TicketColumn]:
    """Return a column for the ticket of each method, at one sparsity and of the best seed.

    The ids of tickets that are not in the run folder are added to `missing`.
    """
    parts = {result.cell: result.kept_by_modality for result in summary.results}
    columns = []
    for group in summary.groups:
        if group.key.target == target and group.key.method in wanted:
            cell = group.key.cell(group.best_seed)
            layers = kept_by_layer(summary.root, cell)
            if layers is None:
                missing.append(cell.id)
            columns.append(TicketColumn(wanted[group.key.method], group.key.label, parts[cell.id], layers or {}))
    return columns


def _panel(target: float, columns: Sequence[TicketColumn]) -> Panel:
    """Return the chart for one sparsity: rows for the parts, then for the layers, and a column for each method."""
    parts = sorted({part for column in columns for part in column.parts}, key=PARTS.index)
    layers = sorted({layer for column in columns for layer in column.layers}, key=_layer_order)
    rows: list[tuple[str, list[float | None]]] = [
        (part, [column.parts.get(part) for column in columns]) for part in parts
    ]
    rows += [(_layer_words(layer, layers), [column.layers.get(layer) for column in columns]) for layer in layers]
    heat = HeatMap(
        columns=[HeatColumn(column.slot, column.label) for column in columns],
        rows=rows,
        breaks=_breaks(parts, layers),
        description=f"Share of the weights that are kept in each part and layer, in percent, at "
        f"{short_percent(target)} % sparsity: {_in_words(columns)}",
    )
    chart = heat_map(heat, width=WIDTH, name_width=NAME_WIDTH)
    return Panel(f"{short_percent(target)} % sparsity", "kept weights, %", chart)


def _in_words(columns: Sequence[TicketColumn]) -> str:
    """Return what each column keeps of each part as text, for screen readers."""
    sentences = []
    for column in columns:
        shares = ", ".join(f"{part} {percent(share, 0)}" for part, share in column.parts.items())
        sentences.append(f"{column.label}: {shares}" if shares else column.label)
    return "; ".join(sentences)


def _breaks(parts: Sequence[str], layers: Sequence[str]) -> list[int]:
    """Return the indexes of the rows that a gap precedes: the first layer of each stack."""
    stacks = [layer.split(" ")[0] for layer in layers]
    changes = [index for index in range(1, len(stacks)) if stacks[index] != stacks[index - 1]]
    starts = [0] * bool(parts and layers) + changes
    return [len(parts) + index for index in starts]


def _absent_words(missing: Sequence[str]) -> str | None:
    """Return a sentence on the tickets that are not in the run folder; None if all are there."""
    if not missing:
        return None
    if len(missing) == 1:
        return f"The ticket {missing[0]} is not in the run folder, so what its layers keep is not known."
    return (
        f"{len(missing)} tickets are not in the run folder ({missing[0]} and others), so what their layers keep is not "
        "known."
    )


def _layer_order(layer: str) -> tuple[int, str, int]:
    """Return a sort key for layers: the order in which an answer is computed, then the number of the layer."""
    stack, _, number = layer.partition(" ")
    index = list(LXMERT).index(stack) if stack in LXMERT else len(LXMERT)
    return index, stack, int(number or 0)


def _layer_words(layer: str, layers: Sequence[str]) -> str:
    """Return a plain name for a layer of LXMERT; the layers of other models keep their names."""
    stack, _, number = layer.partition(" ")
    if not any(name.startswith("x_layers ") for name in layers) or stack not in LXMERT:
        return layer
    return f"{LXMERT[stack]} {number}" if stack.endswith(("layer", "layers")) else LXMERT[stack]

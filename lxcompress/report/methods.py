"""Write the methods table as text and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from lxcompress.analysis.groups import SeedGroup
from lxcompress.analysis.methods import NOTHING, TICKET_KINDS, MethodRow, MethodTable, kind_of, off_target, tabulate
from lxcompress.analysis.summary import RunSummary
from lxcompress.analysis.words import kept_words
from lxcompress.report.markdown import escape
from lxcompress.report.markdown import table as markdown_table
from lxcompress.units import duration, short_percent


def steps_words(steps: tuple[float, float] | None) -> str:
    """Return the training steps as multiples of the dense run's, such as "2.5×".

    If they depend on the sparsity, return their range, such as "3 to 11×".
    """
    if steps is None:
        return NOTHING
    low, high = (f"{multiple:.2f}".rstrip("0").rstrip(".") for multiple in steps)
    return f"{low}×" if low == high else f"{low} to {high}×"


def time_words(row: MethodRow) -> str:
    """Return the mean time of a run of the method as text."""
    return NOTHING if row.cell_s is None else duration(row.cell_s)


def seeds_words(group: SeedGroup) -> str:
    """Return how many seeds of a group are finished, as in '2 of 3 seeds'."""
    return f"{len(group.seeds)} of {len(group.seeds) + len(group.missing)} seeds"


def methods_markdown(summary: RunSummary) -> str:
    """Return the methods table in Markdown with a note, and a second table with the sizes of smaller models."""
    table = tabulate(summary)
    head = ["method", "kind", *_target_heads(table.targets), "time per run", "steps"]
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
                *(words(row.groups[target]) if target in row.groups else NOTHING for target in table.sized_targets),
            ]
            for row in table.sized
            for quantity, words in table.quantities.items()
        ]
        parts.append(
            markdown_table(["method", "of its model", *_target_heads(table.sized_targets)], sizes, first_texts=2)
        )
    return "\n\n".join(parts) + "\n"


def table_note(table: MethodTable, best: str = "Bold", *, has_spreads: bool = True, has_steps: bool = True) -> str:
    """Return a note on how to read the table; `best` says how the best groups are marked, such as "Bold"."""
    found = {kind_of(key.method) for key in table.best}
    *most, last = [str(kind) for kind in TICKET_KINDS if kind in found] or [""]
    of = f"{', '.join(most)} and {last}" if most else last
    spreads = [group.ratios.std for row in table.rows for group in row.groups.values() if group.ratios]
    has_spreads = has_spreads and any(std is not None for std in spreads)
    deviation = ", ± standard deviation over seeds" if has_spreads else ""
    marked = f" {best}: the best {of} one at each sparsity." if of else ""
    steps = " Steps: all training steps of a run, as a multiple of the dense run's." if has_steps else ""
    return f"Share of dense accuracy kept at each sparsity, in %{deviation}.{marked}{table.dense}{steps}"


def _kept_cells(table: MethodTable, row: MethodRow) -> list[str]:
    """Return the cells of a method: the share of dense accuracy that it keeps at each target sparsity."""
    return [_kept_cell(row.groups.get(target), table) for target in table.targets]


def _kept_cell(group: SeedGroup | None, table: MethodTable) -> str:
    """Return the share of dense accuracy that a group keeps, as Markdown, with what is special about the group."""
    words = None if group is None else kept_words(group)
    if group is None or words is None:
        return NOTHING
    off = off_target(group)
    text = f"**{words}**" if group.key in table.best else words
    seeds = "" if group.is_complete else f" ({seeds_words(group)})"
    return text + (f" (at {off})" if off else "") + seeds


def _target_heads(targets: Iterable[float]) -> list[str]:
    """Return the headings of the columns: the target sparsities in percent."""
    return [f"{short_percent(target)} %" for target in targets]

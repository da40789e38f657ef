"""`lxcompress report`: write the report files of a run, and show its tables.

A group holds the runs of one method and one sparsity, over all seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from lxcompress.analysis.choice import Choice
    from lxcompress.analysis.groups import GroupKey, SeedGroup, Spread
    from lxcompress.analysis.methods import MethodRow, MethodTable
    from lxcompress.analysis.summary import RunSummary

NARROW = 76
"""If fewer characters fit, the table lacks the deviations at pruned and rewound, and the comparison with dense."""
ROOMY = 100
"""If at least this many characters fit into the width, the numbers in the table have two decimals."""


MOST_NAMED = 6
"""The largest number of groups without a finished run that are named; if there are more, only their number is shown."""
SHORTEST_NAME = 28
"""Characters of a method's name that stay on one line; longer names are folded before a column is dropped."""
MARKS = "^<~*"
Section = tuple[str, list[list[str]]]
"""A part of a table: its heading, and the cells of each line below the heading."""


@dataclass(frozen=True)
class MethodColumns:
    """The settings for optional columns of the methods table: standard deviations, and the time and steps of a run."""

    spreads: bool
    costs: bool


COLUMN_CHOICES = (
    MethodColumns(spreads=True, costs=True),
    MethodColumns(spreads=True, costs=False),
    MethodColumns(spreads=False, costs=True),
    MethodColumns(spreads=False, costs=False),
)
"""The choices of optional columns, from the most columns to the fewest."""


def report_cli(
    run: Annotated[Path, typer.Argument(help="The run folder of a study.")],
    open_: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a summary in Markdown; write no file.")] = False,
) -> None:
    """Write RUN/report.html, results.csv and results.json, and show the tables.

    \b
    Example: lxcompress report runs/quickstart --open
    Or:      lxcompress report runs/quickstart --markdown > summary.md
    """
    if markdown and open_:
        raise typer.BadParameter("--markdown writes no report to open; give only one of the two")
    if markdown:
        _print_markdown(run)
        return

    from lxcompress.analysis.pick import pick_ticket
    from lxcompress.analysis.protocol import has_tickets
    from lxcompress.analysis.rule import default_rule
    from lxcompress.analysis.summary import summarise
    from lxcompress.cli.screen import out, remarks
    from lxcompress.report.write import write_files
    from lxcompress.rundir import read_run

    summary = summarise(read_run(run))
    choice = pick_ticket(summary, default_rule(summary))
    written = write_files(summary, choice)
    show_tables(summary, choice, out)
    show_devices(summary, out)
    for warning in choice.warnings if has_tickets(summary.recipe) else summary.warnings:
        remarks.print(f"warning: {warning}", style="yellow", markup=False)
    for path in written:
        out.print(str(path), markup=False, soft_wrap=True)
    if open_:
        _open(written[0])


def show_devices(summary: RunSummary, out: Console) -> None:
    """Print a table for each other device on which files of the run were measured."""
    from rich.table import Table

    from lxcompress.report.devices import device_tables

    for device in device_tables(summary):
        out.print()
        out.print(f"measured on {device.name}", style="bold", markup=False)
        table = Table(box=None, pad_edge=False, padding=(0, 1))
        for number, name in enumerate(("file", "runtime", "p50 ms", "p90 ms", "p99 ms", "ratio", "peak MB")):
            table.add_column(name, justify="left" if number < 2 else "right", overflow="fold")
        for cells in device.rows:
            table.add_row(*cells)
        out.print(table)


def show_tables(summary: RunSummary, choice: Choice, out: Console) -> None:
    """Print the faults of the run, its tables, what it took, and what to ship, in the width of `out`."""
    from lxcompress.analysis.held_out import held_out_words
    from lxcompress.analysis.methods import MOST_LINES, tabulate
    from lxcompress.analysis.protocol import has_tickets
    from lxcompress.analysis.verdict import headlines

    is_pickable = has_tickets(summary.recipe)
    _label(summary, out)
    picked = choice.picked.group if choice.picked and is_pickable else None
    methods = tabulate(summary)
    if len(methods.rows) <= MOST_LINES:
        out.print(_table(summary, picked, out.width))
        out.print(_legend(summary), style="dim")
        out.print()
    key = picked.key if picked else None
    out.print(methods_table(methods, out.width, key))
    out.print(_methods_legend(summary, methods, out.width, key), style="dim", markup=False)
    if methods.sized:
        out.print()
        out.print(sizes_table(methods, out.width))
    out.print()
    if summary.usage:
        out.print(f"took {summary.usage.words}", style="dim", markup=False)
    out.print()
    for sentence in headlines(summary, choice):
        out.print(sentence, style="bold", markup=False)
    if choice.held_out and is_pickable:
        out.print(held_out_words(choice.held_out), markup=False)


def _print_markdown(run: Path) -> None:
    """Print a summary of the run in Markdown."""
    from lxcompress.analysis.pick import pick_ticket
    from lxcompress.analysis.rule import default_rule
    from lxcompress.analysis.summary import summarise
    from lxcompress.report.paste import summary_markdown
    from lxcompress.rundir import read_run

    summary = summarise(read_run(run))
    typer.echo(summary_markdown(summary, pick_ticket(summary, default_rule(summary))), nl=False)


def _label(summary: RunSummary, out: Console) -> None:
    """Show which faults of the published study the run reproduces; nothing if it reproduces none."""
    from rich.padding import Padding

    from lxcompress.analysis.protocol import fault_lines, protocol_title

    if not summary.recipe.faults:
        return
    out.print(f" {protocol_title(summary.recipe)} ", style="bold black on yellow", markup=False)
    for fault, words in fault_lines(summary.recipe):
        out.print(Padding(f"{fault}: {words}", (0, 0, 0, 2)), style="yellow")
    out.print()


def _table(summary: RunSummary, picked: SeedGroup | None, width: int) -> Table:
    """Return the table of accuracies, with a row for the dense model and one for each group and floor."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    is_narrow = width < NARROW
    table = Table(box=SIMPLE_HEAD, padding=(0, 1 if width >= ROOMY else 0, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("method", overflow="fold")
    for name in ("sparse" if is_narrow else "sparsity", "pruned", "rewound", "retrained"):
        table.add_column(name, justify="right", no_wrap=True)
    if not is_narrow:
        table.add_column("vs dense", justify="right", no_wrap=True)
    table.add_column("kept", justify="right", no_wrap=True)
    for row, style in _rows(summary, picked, is_narrow=is_narrow, digits=2 if width >= ROOMY else 1):
        table.add_row(*row, style=style)
    return table


def methods_table(methods: MethodTable, width: int, picked: GroupKey | None = None) -> Table:
    """Return the methods table: a row for each method, and as many optional columns as fit into `width` characters."""
    drawn = [_draw(methods, picked, columns) for columns in COLUMN_CHOICES]
    return _table_of(*drawn[_widest_fit(methods, width, picked)], width)


def sizes_table(methods: MethodTable, width: int) -> Table:
    """Return a table with the parameters and FLOPs of smaller models.

    Each number has its share of the dense model's number, if this fits into `width` characters.
    """
    from lxcompress.units import short_percent

    heads = ["smaller models", "", *(f"{short_percent(target)} %" for target in methods.sized_targets)]
    lines = [
        [
            row.name if first else "",
            quantity,
            *(_size(words, row.groups.get(target)) for target in methods.sized_targets),
        ]
        for row in methods.sized
        for first, (quantity, words) in zip((True, False), methods.quantities.items(), strict=True)
    ]
    if _natural_width(heads, [("", lines)]) > width:
        lines = [[*line[:2], *(cell.partition(" (")[0] for cell in line[2:])] for line in lines]
    return _table_of(heads, [("", lines)], width)


def _methods_legend(summary: RunSummary, methods: MethodTable, width: int, picked: GroupKey | None) -> str:
    """Return what the marks in the methods table mean, and what each control is for."""
    from lxcompress.analysis.methods import off_target
    from lxcompress.report.methods import table_note

    groups = [group for row in methods.rows for group in row.groups.values()]
    marks = ["< the pick"]
    if any(off_target(group) for group in groups):
        marks.append("~ a different sparsity was reached: see the report")
    if any(group.missing for group in groups):
        marks.append("* incomplete")
    columns = COLUMN_CHOICES[_widest_fit(methods, width, picked)]
    note = table_note(methods, "^", has_spreads=columns.spreads, has_steps=columns.costs)
    lines = [f"{note} {'; '.join(marks)}{_unfinished(summary)}."]
    return "\n".join([*lines, *(f"{name}: {words}" for name, words in methods.controls.items())])


def _widest_fit(methods: MethodTable, width: int, picked: GroupKey | None) -> int:
    """Return the index of the first of COLUMN_CHOICES that fits into `width` characters; the last if none fits.

    Long names of methods may be folded.
    """
    folded = max(0, max(len(row.name) for row in methods.rows) - SHORTEST_NAME)
    widths = [_natural_width(*_draw(methods, picked, columns)) - folded for columns in COLUMN_CHOICES]
    return next((index for index, needed in enumerate(widths) if needed <= width), len(COLUMN_CHOICES) - 1)


def _draw(methods: MethodTable, picked: GroupKey | None, columns: MethodColumns) -> tuple[list[str], list[Section]]:
    """Return the headings and the sections of the methods table, as text."""
    from lxcompress.report.methods import steps_words, time_words
    from lxcompress.units import short_percent

    def line(row: MethodRow) -> list[str]:
        kept = [_share(methods, row.groups.get(target), picked, columns) for target in methods.targets]
        return [row.name, *kept, *([time_words(row), steps_words(row.steps)] if columns.costs else [])]

    heads = ["method", *(f"{short_percent(target)} %" for target in methods.targets)]
    lines = iter(_aligned([line(row) for _, rows in methods.sections for row in rows]))
    sections = [(words.partition(":")[0], [next(lines) for _ in rows]) for words, rows in methods.sections]
    return [*heads, *(["time/run", "steps"] if columns.costs else [])], sections


def _share(methods: MethodTable, group: SeedGroup | None, picked: GroupKey | None, columns: MethodColumns) -> str:
    """Return the share of dense accuracy that a group keeps, with the marks that the legend explains."""
    from lxcompress.analysis.methods import NOTHING, off_target
    from lxcompress.analysis.words import kept_words

    words = kept_words(group) if group else None
    if group is None or words is None:
        return NOTHING
    marks = {
        "^": group.key in methods.best,
        "<": group.key == picked,
        "~": off_target(group) is not None,
        "*": bool(group.missing),
    }
    return (words if columns.spreads else words.partition(" ")[0]) + "".join(mark for mark, has in marks.items() if has)


def _size(words: Callable[[SeedGroup], str], group: SeedGroup | None) -> str:
    """Return the size of a group's model, written by `words`; a dash if no run of the group is finished."""
    from lxcompress.analysis.methods import NOTHING

    return words(group) if group else NOTHING


def _aligned(lines: list[list[str]]) -> list[list[str]]:
    """Return the lines with spaces in place of missing marks, so that the digits in a column are aligned."""

    def padded(cells: Sequence[str]) -> list[str]:
        marks = [len(cell) - len(cell.rstrip(MARKS)) for cell in cells]
        return [cell + " " * (max(marks) - count) for cell, count in zip(cells, marks, strict=True)]

    columns = [list(column) for column in zip(*lines, strict=True)]
    return [list(line) for line in zip(columns[0], *map(padded, columns[1:]), strict=True)]


def _natural_width(heads: Sequence[str], sections: Sequence[Section]) -> int:
    """Return the width of a table in characters if nothing is folded."""
    lines = [heads, *(line for _, found in sections for line in found)]
    return sum(max(len(line[index]) for line in lines) for index in range(len(heads))) + len(heads) - 1


def _table_of(heads: Sequence[str], sections: Sequence[Section], width: int) -> Table:
    """Return a table with these headings and sections; names that do not fit are folded after a hyphen."""
    import textwrap

    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    longest = max(len(line[0]) for _, lines in sections for line in lines)
    spare = width - _natural_width(heads, sections)
    room = max(12, longest + min(0, spare))
    table = Table(box=SIMPLE_HEAD, padding=(0, 1 if spare >= len(heads) else 0, 0, 0), pad_edge=False, show_edge=False)
    for index, head in enumerate(heads):
        is_text = not index or not head
        table.add_column(head, justify="left" if is_text else "right", no_wrap=bool(index), overflow="fold")
    for words, lines in sections:
        if words:
            table.add_row(Text(words, style="bold"))
        for name, *cells in lines:
            table.add_row(Text("\n".join(textwrap.wrap(name, room))), *map(Text, cells))
    return table


def _rows(
    summary: RunSummary, picked: SeedGroup | None, *, is_narrow: bool, digits: int
) -> list[tuple[list[str], str | None]]:
    """Return the cells and the style of each row: the dense model, the groups and the floors."""
    from lxcompress.analysis.floors import named_floors
    from lxcompress.analysis.words import plus_minus, points
    from lxcompress.units import percent

    def early(spread: Spread) -> str:
        return percent(spread.mean, digits) if is_narrow else plus_minus(spread, digits)

    short = {"majority per type": "per type", "majority per question type": "per wording"}
    floors = short if digits == 1 else {}
    rows: list[tuple[list[str], str | None]] = []
    if summary.dense:
        rows.append((["dense", "0.0", "", "", plus_minus(summary.dense.overall, digits), "", "100.0"], "bold"))
    for group in summary.groups:
        note = " <" if group is picked else "" if group.is_complete else " *"
        row = [
            group.key.series + note,
            percent(group.achieved.mean, 1),
            early(group.pruned.overall),
            early(group.rewound.overall),
            plus_minus(group.retrained.overall, digits),
            points(group.paired.mean, digits) if group.paired else "",
            percent(group.retained, 1) if group.retained is not None else "",
        ]
        rows.append((row, "green" if group is picked else None if group.is_complete else "dim"))
    if summary.floors:
        for name, value in named_floors(summary.floors):
            rows.append(([f"floor: {floors.get(name, name)}", "", "", "", percent(value, digits), "", ""], "dim"))
    return [([*row[:5], row[6]] if is_narrow else row, style) for row, style in rows]


def _legend(summary: RunSummary) -> str:
    """Return what the numbers and marks in the table of accuracies mean."""
    from lxcompress.analysis.words import numbered

    seeds = numbered("seed", summary.recipe.seeds)
    words = f"in %, accuracy mean ± standard deviation over {seeds}; < the pick"
    if len(summary.recipe.seeds) == 1:
        words = f"in %, with {seeds} only, so without deviation; < the pick"
    lacking = [group for group in summary.groups if not group.is_complete]
    if lacking:
        kinds = sorted({group.missing for group in lacking})
        words += f"; * incomplete, without {' or '.join(numbered('seed', missing) for missing in kinds)}"
    regrown = [group.regrown.mean / group.removed for group in summary.groups if group.regrown.mean]
    if regrown:
        words += f"; {_range(regrown)} % of the removed weights grew back"
    return words + _unfinished(summary)


def _unfinished(summary: RunSummary) -> str:
    """Return which groups have no finished run, as text; empty if every group has one."""
    if not summary.unstarted:
        return ""
    if len(summary.unstarted) > MOST_NAMED:
        return (
            f"; {len(summary.unstarted)} of {len(summary.unstarted) + len(summary.groups)} groups have no finished run"
        )
    return f"; no finished run: {', '.join(key.label for key in summary.unstarted)}"


def _range(shares: Sequence[float]) -> str:
    """Return the smallest and the largest of some fractions as text, in percent."""
    from lxcompress.units import percent

    least, most = percent(min(shares), 1), percent(max(shares), 1)
    return least if least == most else f"{least} to {most}"


def _open(path: Path) -> None:
    """Open the report in the browser, or say that no browser was found."""
    import webbrowser

    from lxcompress.cli.screen import remarks

    if not webbrowser.open(path.resolve().as_uri()):
        remarks.print(f"no browser was found; open {path} in a browser", style="yellow", markup=False)

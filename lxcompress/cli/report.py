"""`lxcompress report`: the run's report files, and its table on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from lxcompress.report.summary import Group, Spread, Summary

# Below this many columns the table keeps what the pick is decided by, and no spreads of the earlier stages.
NARROW = 76
ROOMY = 100


def report_cli(
    run: Annotated[Path, typer.Argument(help="The run folder of a study.")],
    open_: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False,
) -> None:
    """Write RUN/report.html, results.csv and results.json, and show the table.

    Example: lxcompress report runs/quickstart --open
    """
    from lxcompress.cli.screen import out, remarks
    from lxcompress.report.pick import default_rule, pick_ticket, verdict
    from lxcompress.report.protocol import NO_TICKETS, has_tickets
    from lxcompress.report.summary import summarise
    from lxcompress.report.write import write_report
    from lxcompress.rundir import read_run

    found = read_run(run)
    written = write_report(found)
    summary = summarise(found)
    choice = pick_ticket(summary, default_rule(summary))
    is_pickable = has_tickets(summary.recipe)
    _label(summary)
    out.print(_table(summary, choice.picked.group if choice.picked and is_pickable else None, out.width))
    out.print(_legend(summary), style="dim")
    if summary.taken:
        out.print(f"took {summary.taken.words}", style="dim", markup=False)
    out.print()
    out.print(verdict(choice) if is_pickable else NO_TICKETS, style="bold", markup=False)
    for doubt in choice.doubts if is_pickable else summary.doubts:
        remarks.print(f"doubt: {doubt}", style="yellow", markup=False)
    for path in written:
        out.print(str(path), markup=False, soft_wrap=True)
    if open_:
        _open(written[0])


def _label(summary: Summary) -> None:
    """Says loudly which faults of the published study the run reproduces; nothing for a corrected one."""
    from rich.padding import Padding

    from lxcompress.cli.screen import out
    from lxcompress.report.protocol import fault_lines, protocol_title

    if not summary.recipe.faults:
        return
    out.print(f" {protocol_title(summary.recipe)} ", style="bold black on yellow", markup=False)
    for fault, words in fault_lines(summary.recipe):
        out.print(Padding(f"{fault}: {words}", (0, 0, 0, 2)), style="yellow")
    out.print()


def _table(summary: Summary, picked: Group | None, width: int) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    is_narrow = width < NARROW
    table = Table(box=SIMPLE_HEAD, padding=(0, 1 if width >= ROOMY else 0, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("criterion", no_wrap=True)
    for name in ("sparse" if is_narrow else "sparsity", "pruned", "rewound", "retrained"):
        table.add_column(name, justify="right", no_wrap=True)
    if not is_narrow:
        table.add_column("vs dense", justify="right", no_wrap=True)
    table.add_column("kept", justify="right", no_wrap=True)
    for row, style in _rows(summary, picked, is_narrow=is_narrow, digits=2 if width >= ROOMY else 1):
        table.add_row(*row, style=style)
    return table


def _rows(
    summary: Summary, picked: Group | None, *, is_narrow: bool, digits: int
) -> list[tuple[list[str], str | None]]:
    from lxcompress.report.summary import named_floors, plus_minus, points
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


def _legend(summary: Summary) -> str:
    from lxcompress.report.summary import numbered

    seeds = numbered("seed", summary.recipe.seeds)
    words = f"in %, accuracy mean ± standard deviation over {seeds}; < the pick"
    if len(summary.recipe.seeds) == 1:
        words = f"in %, of {seeds} alone, so without deviation; < the pick"
    lacking = [group for group in summary.groups if not group.is_complete]
    if lacking:
        kinds = sorted({group.missing for group in lacking})
        words += f"; * incomplete, lacks {' or '.join(numbered('seed', missing) for missing in kinds)}"
    regrown = [group.regrown.mean / group.removed for group in summary.groups if group.regrown.mean]
    if regrown:
        words += f"; {_range(regrown)} % of the removed weights grew back"
    if summary.unstarted:
        words += f"; no cell yet: {', '.join(key.label for key in summary.unstarted)}"
    return words


def _range(shares: Sequence[float]) -> str:
    from lxcompress.units import percent

    least, most = percent(min(shares), 1), percent(max(shares), 1)
    return least if least == most else f"{least} to {most}"


def _open(path: Path) -> None:
    import webbrowser

    from lxcompress.cli.screen import remarks

    if not webbrowser.open(path.resolve().as_uri()):
        remarks.print(f"no browser answers here; open {path} in one yourself", style="yellow", markup=False)

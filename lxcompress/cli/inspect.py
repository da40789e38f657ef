"""`lxcompress inspect`: show what can be pruned in a model, or what tickets keep of it and share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lxcompress.filenames import TICKET_FILE

if TYPE_CHECKING:
    from lxcompress.workflow.prunable import PrunableReport
    from lxcompress.workflow.tickets import TicketComparison

MOST_TICKET_COLUMNS = 4


def inspect_cli(
    tickets: list[Path] = typer.Argument(help="One model, or tickets; of several tickets, every two are compared."),
    matrices: bool = typer.Option(False, "--matrices", help="Show every weight matrix, not only parts of the model."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show what can be pruned in a model, or what tickets keep of each part of it and how many weights they share.

    \b
    Example: lxcompress inspect my-model
    Or:      lxcompress inspect runs/quickstart/tickets/low-magnitude-weight-70-seed*
    """
    import json

    if len(tickets) == 1 and not (tickets[0] / TICKET_FILE).exists():
        _inspect_model(str(tickets[0]), matrices=matrices, as_json=as_json)
        return
    from lxcompress.workflow.tickets import compare_tickets

    comparison = compare_tickets(tickets, by_matrix=matrices)
    if as_json:
        typer.echo(json.dumps(_as_json(comparison), indent=1))
    else:
        _show(comparison)


def _inspect_model(source: str, *, matrices: bool, as_json: bool) -> None:
    """Show what can be pruned in a model, and what cannot and why."""
    import json
    from dataclasses import asdict

    from lxcompress.workflow.checks import check_model
    from lxcompress.workflow.prunable import describe_prunable

    check_model(source)
    report = describe_prunable(source)
    if as_json:
        typer.echo(json.dumps({**asdict(report), "weights": report.weights}, indent=1))
    else:
        _show_prunable(report, matrices=matrices)


def _show_prunable(report: PrunableReport, *, matrices: bool) -> None:
    """Show the report on a model, one line for each question; with `matrices`, every matrix."""
    from lxcompress.cli.screen import out as screen

    why: dict[str, list[str]] = {}
    for name, reason in report.kept.items():
        why.setdefault(reason, []).append(name)
    parts = ", ".join(f"{part} {count:,}" for part, count in report.parts.items())
    lines = [f"model     {report.title}"]
    lines += [f"remark    {report.remark}"] if report.remark else []
    lines.append(f"prunable  {report.weights:,} weights in {len(report.prunable)} matrices: {parts}")
    for reason, names in why.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        lines.append(f"not       {names[0]}{more}: {reason}")
    for heading, choices in (("smaller", report.granularities), ("export", report.formats)):
        possible = ", ".join(name for name, is_possible in choices.items() if is_possible) or "none"
        impossible = ", ".join(name for name, is_possible in choices.items() if not is_possible)
        lines.append(f"{heading:9} {possible}{f'; not {impossible}' if impossible else ''}")
    if matrices:
        lines += [f"{name}  {' x '.join(map(str, shape))}" for name, shape in report.prunable.items()]
    for line in lines:
        screen.print(line, markup=False, soft_wrap=True)


def _as_json(comparison: TicketComparison) -> dict[str, Any]:
    """Return what tickets keep and share as plain JSON values."""
    return {
        "kept": {
            name: {part: {"kept": count.kept, "weights": count.weights} for part, count in parts.items()}
            for name, parts in comparison.kept.items()
        },
        "overlap": [
            {"tickets": list(pair), "shared": share.shared, "by_chance": share.by_chance}
            for pair, share in comparison.overlaps.items()
        ],
    }


def _show(comparison: TicketComparison) -> None:
    """Show a table of what each ticket keeps, and a table of what every two tickets share."""
    from rich.table import Table

    from lxcompress.cli.screen import out as screen
    from lxcompress.units import percent

    kept = comparison.kept
    table = Table(box=None, pad_edge=False)
    table.add_column("keeps, in %", overflow="fold")
    parts = list(dict.fromkeys(part for counts in kept.values() for part in counts))
    if len(parts) > len(kept) and len(kept) <= MOST_TICKET_COLUMNS:  # many matrices: one row for each matrix
        for name in kept:
            table.add_column(name, justify="right", overflow="fold")
        for part in parts:
            cells = (percent(counts[part].share, 1) if part in counts else "" for counts in kept.values())
            table.add_row(part, *cells)
    else:
        for part in parts:
            table.add_column(part, justify="right")
        for name, counts in kept.items():
            table.add_row(name, *(percent(counts[part].share, 1) if part in counts else "" for part in parts))
    screen.print(table)
    if not comparison.overlaps:
        return
    pairs = Table(box=None, pad_edge=False)
    for heading in ("ticket", "and ticket"):
        pairs.add_column(heading, overflow="fold")
    pairs.add_column("shared %", justify="right")
    pairs.add_column("by chance %", justify="right")
    for (one, other), share in comparison.overlaps.items():
        pairs.add_row(one, other, percent(share.shared, 1), percent(share.by_chance, 1))
    screen.print()
    screen.print(pairs)
    screen.print(
        "shared: weights that both tickets keep, as a share of those that at least one keeps; by chance: the same "
        "share for random masks that keep as many weights of each matrix"
    )

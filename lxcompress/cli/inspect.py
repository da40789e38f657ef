"""`lxcompress inspect`: show what tickets keep of the model, and how many weights two tickets share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from lxcompress.workflow.tickets import TicketComparison

MOST_TICKET_COLUMNS = 4


def inspect_cli(
    tickets: list[Path] = typer.Argument(help="Tickets; if there are several, every two are compared."),
    matrices: bool = typer.Option(False, "--matrices", help="Show every weight matrix, not only parts of the model."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show what tickets keep of each part of the model, and how many weights they share.

    Example: lxcompress inspect runs/quickstart/tickets/low-magnitude-weight-70-seed*
    """
    import json

    from lxcompress.workflow.tickets import compare_tickets

    comparison = compare_tickets(tickets, by_matrix=matrices)
    if as_json:
        typer.echo(json.dumps(_as_json(comparison), indent=1))
    else:
        _show(comparison)


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

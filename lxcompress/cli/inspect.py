"""`lxcompress inspect`: what tickets keep, and how much they have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import numpy as np


def inspect_cli(
    tickets: list[Path] = typer.Argument(help="Tickets: of several, each two are compared."),
    matrices: bool = typer.Option(False, "--matrices", help="Every weight matrix, and not only the parts."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Say what tickets keep of each part of the model, and how many of their weights are the same.

    Example: lxcompress inspect runs/quickstart/tickets/low-magnitude-weight-70-seed*
    """
    import itertools
    import json

    from lxcompress.cli.early import check_paths
    from lxcompress.errors import TicketError
    from lxcompress.models.parts import modality
    from lxcompress.pruning.overlap import kept_by_matrix, kept_by_part, overlap

    check_paths(tickets, what="give a ticket, such as RUN/tickets/NAME", kind=TicketError)
    masks, shares = {}, {}
    names = {str(path): _short(path, tickets) for path in tickets}
    for path, name in names.items():
        masks[path] = _read_mask(Path(path))
        shares[name] = kept_by_matrix(masks[path]) if matrices else kept_by_part(masks[path], modality)
    pairs = {
        (names[one], names[other]): overlap(masks[one], masks[other]) for one, other in itertools.combinations(masks, 2)
    }
    if as_json:
        kept = {
            name: {part: {"kept": each.kept, "weights": each.weights} for part, each in parts.items()}
            for name, parts in shares.items()
        }
        both = [
            {"tickets": list(pair), "shared": each.shared, "by_chance": each.by_chance} for pair, each in pairs.items()
        ]
        typer.echo(json.dumps({"kept": kept, "overlap": both}, indent=1))
        return
    _show(shares, pairs)


def _read_mask(path: Path) -> Mapping[str, np.ndarray]:
    """Return what a ticket keeps of the model that it was drawn of; torch is imported for smaller models alone."""
    from lxcompress.pruning.bits import read_kept

    kept = read_kept(path)
    if kept is None:
        from lxcompress.tickets import load_ticket, mask_of

        kept = {name: tensor.numpy() for name, tensor in mask_of(load_ticket(path)).kept.items()}
    return kept


def _short(path: Path, paths: list[Path]) -> str:
    """The folder's own name, where no other ticket is called the same."""
    return path.name if sum(each.name == path.name for each in paths) == 1 else str(path)


def _show(shares: dict, pairs: dict) -> None:
    from rich.table import Table

    from lxcompress.cli.screen import out as screen
    from lxcompress.units import percent

    table = Table(box=None, pad_edge=False)
    table.add_column("keeps, in %", overflow="fold")
    parts = list(dict.fromkeys(part for each in shares.values() for part in each))
    if len(parts) > len(shares) and len(shares) <= 4:  # matrices are many: they are the rows
        for name in shares:
            table.add_column(name, justify="right", overflow="fold")
        for part in parts:
            table.add_row(part, *(percent(each[part].share, 1) if part in each else "" for each in shares.values()))
    else:
        for part in parts:
            table.add_column(part, justify="right")
        for name, each in shares.items():
            table.add_row(name, *(percent(each[part].share, 1) if part in each else "" for part in parts))
    screen.print(table)
    if not pairs:
        return
    both = Table(box=None, pad_edge=False)
    for heading in ("of two tickets", "and"):
        both.add_column(heading, overflow="fold")
    both.add_column("shared %", justify="right")
    both.add_column("by chance %", justify="right")
    for (one, other), each in pairs.items():
        both.add_row(one, other, percent(each.shared, 1), percent(each.by_chance, 1))
    screen.print()
    screen.print(both)
    screen.print(
        "shared: of all weights that either keeps, those that both keep; by chance: masks that keep as many of each "
        "matrix, at random places"
    )

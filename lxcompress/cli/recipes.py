"""`lxcompress recipes`: list, print or copy the shipped recipes, with their cost and the data that they need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lxcompress.cli.complete import complete_recipe

if TYPE_CHECKING:
    from lxcompress.workflow.cards import RecipeCard


def recipes_cli(
    name: str | None = typer.Argument(
        None,
        help="A recipe to print.",
        autocompletion=complete_recipe,
    ),
    out: Path | None = typer.Option(None, "--out", help="Copy the recipe to this file, so that you can edit it."),
    as_json: bool = typer.Option(False, "--json", help="Print the list, or the recipe, as JSON."),
) -> None:
    """List the recipes that ship, or print or copy one. Every RECIPE argument accepts their names.

    \b
    Example: lxcompress recipes
    Or:      lxcompress recipes quickstart --out mine.yaml
    """
    from lxcompress.output import json_text
    from lxcompress.text import read_text
    from lxcompress.workflow.cards import find_shipped, read_card, shipped_cards

    if name is None:
        if out is not None:
            raise typer.BadParameter("--out copies one recipe: name it, as in lxcompress recipes quickstart --out FILE")
        cards = shipped_cards()
        if as_json:
            typer.echo(json_text([asdict(card) for card in cards]))
        else:
            _show(cards)
        return
    path = find_shipped(name)
    text = read_text(path)
    if out is not None:
        copy_text(text, out)
        typer.echo(f"{out}: a copy of {path.stem}")
    elif as_json:
        from lxcompress.settings import parse_yaml

        typer.echo(json_text({**asdict(read_card(path)), "recipe": parse_yaml(text)}))
    else:
        typer.echo(text, nl=False)


def copy_text(text: str, out: Path) -> None:
    """Write the text of a recipe to the new file `out`. Raises RecipeError if the file exists."""
    from lxcompress.errors import RecipeError

    if out.exists():
        raise RecipeError(f"{out}: exists; give another --out, or remove it")
    from lxcompress.rundir import write_text

    write_text(out, text)


def _show(cards: Sequence[RecipeCard]) -> None:
    """Show a table of the shipped recipes: name, purpose, cost and data."""
    from rich.table import Table
    from rich.text import Text

    from lxcompress.cli.screen import out as screen

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for card in cards:
        facts = Text(card.what).append(f"\ncost: {card.cost}\ndata: {card.data}", style="dim")
        table.add_row(Text(card.name, style="bold"), facts)
    screen.print(table)
    screen.print("next      lxcompress recipes NAME    or    lxcompress study NAME --dry-run", markup=False)

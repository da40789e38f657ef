"""`lxcompress recipes`: the recipes that ship, what they cost and which data they need."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from lxcompress.cli.complete import complete_recipe
from lxcompress.text import read_text


@dataclass(frozen=True)
class RecipeCard:
    """The words of the comment at the head of a recipe."""

    name: str
    what: str
    cost: str
    data: str
    commands: tuple[str, ...]


def recipes_cli(
    name: str | None = typer.Argument(
        None,
        help="A recipe to print.",
        autocompletion=complete_recipe,
    ),
    out: Path | None = typer.Option(None, "--out", help="Copy the recipe to this file, to change it."),
    as_json: bool = typer.Option(False, "--json", help="Print the list, or the recipe, as JSON."),
) -> None:
    """List the recipes that ship, or print or copy one. Each command that takes a recipe takes their names.

    \b
    Example: lxcompress recipes
    Or:      lxcompress recipes quickstart --out mine.yaml
    """
    from lxcompress.output import json_text
    from lxcompress.recipe import shipped_recipes

    if name is None:
        if out is not None:
            raise typer.BadParameter("--out copies one recipe: name it, as in lxcompress recipes quickstart --out FILE")
        cards = [read_card(path) for path in shipped_recipes()]
        if as_json:
            typer.echo(json_text([asdict(card) for card in cards]))
        else:
            _show(cards)
        return
    path = _find(name)
    text = read_text(path)
    if out is not None:
        _copy(text, out)
        typer.echo(f"{out}: a copy of {path.stem}")
    elif as_json:
        from lxcompress.settings import parse_yaml

        typer.echo(json_text({**asdict(read_card(path)), "recipe": parse_yaml(text)}))
    else:
        typer.echo(text, nl=False)


def read_card(path: Path) -> RecipeCard:
    """Return what the comment at the head of the recipe `path` says."""
    prose, commands = [], []
    for line in read_text(path).split("\n"):
        if not line.startswith("#"):
            break
        is_command = line.startswith("#   ")
        (commands if is_command else prose).append(line[1:].strip())
    text = " ".join(prose)
    parts = re.split(r"\b(Data|Cost|Expect|For multiple choice|For consistency): ", text)
    said = dict(zip(parts[1::2], parts[2::2], strict=True))
    return RecipeCard(
        name=path.stem,
        what=_first_sentence(parts[0]),
        cost=_first_sentence(said.get("Cost", "see --dry-run")),
        data=_first_sentence(said.get("Data", "none: embedded scenes")),
        commands=tuple(commands),
    )


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.?])\s+(?=[A-Z])", text.strip())[0].rstrip(".")


def _find(name: str) -> Path:
    """Return the recipe that ships under `name`. Raises RecipeError with the nearest one."""
    from lxcompress.errors import RecipeError
    from lxcompress.recipe import shipped_recipes
    from lxcompress.settings import did_you_mean

    shipped = {path.stem: path for path in shipped_recipes()}
    stem = Path(name).stem if name.endswith((".yaml", ".yml")) else name
    if stem not in shipped:
        raise RecipeError(f"{name}: no recipe of this name ships; {did_you_mean(stem, list(shipped))}")
    return shipped[stem]


def _copy(text: str, out: Path) -> None:
    from lxcompress.errors import RecipeError

    if out.exists():
        raise RecipeError(f"{out}: exists; give another --out, or remove it")
    from lxcompress.rundir import write_text

    write_text(out, text)


def _show(cards: Sequence[RecipeCard]) -> None:
    from rich.table import Table
    from rich.text import Text

    from lxcompress.cli.screen import out as screen

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for card in cards:
        said = Text(card.what).append(f"\ncost: {card.cost}\ndata: {card.data}", style="dim")
        table.add_row(Text(card.name, style="bold"), said)
    screen.print(table)
    screen.print("next      lxcompress recipes NAME    or    lxcompress study NAME --dry-run", markup=False)

"""Read the comment at the beginning of a shipped recipe: its purpose, cost, data and commands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lxcompress.text import read_text


@dataclass(frozen=True)
class RecipeCard:
    """The facts in the comment at the beginning of a recipe.

    `what` is the purpose of the recipe, in one sentence.
    """

    name: str
    what: str
    cost: str
    data: str
    commands: tuple[str, ...]


def shipped_cards() -> list[RecipeCard]:
    """Return the cards of all recipes that are shipped with the package, sorted by name."""
    from lxcompress.recipe import shipped_recipes

    return [read_card(path) for path in shipped_recipes()]


def find_shipped(name: str) -> Path:
    """Return the path of the shipped recipe `name`. Raises RecipeError, which suggests the most similar name."""
    from lxcompress.errors import RecipeError
    from lxcompress.recipe import shipped_recipes
    from lxcompress.settings import did_you_mean

    shipped = {path.stem: path for path in shipped_recipes()}
    stem = Path(name).stem if name.endswith((".yaml", ".yml")) else name
    if stem not in shipped:
        raise RecipeError(f"{name}: no recipe of this name ships; {did_you_mean(stem, list(shipped))}")
    return shipped[stem]


def read_card(path: Path) -> RecipeCard:
    """Return the card of the recipe file `path`."""
    prose: list[str] = []
    commands: list[str] = []
    for line in read_text(path).split("\n"):
        if not line.startswith("#"):
            break
        is_command = line.startswith("#   ")
        (commands if is_command else prose).append(line[1:].strip())
    text = " ".join(prose)
    parts = re.split(r"\b(Data|Cost|Expect|For multiple choice|For consistency): ", text)
    facts = dict(zip(parts[1::2], parts[2::2], strict=True))
    return RecipeCard(
        name=path.stem,
        what=_first_sentence(parts[0]),
        cost=_first_sentence(facts.get("Cost", "see --dry-run")),
        data=_first_sentence(facts.get("Data", "none: built-in scenes")),
        commands=tuple(commands),
    )


def _first_sentence(text: str) -> str:
    """Return the first sentence of a text, without its full stop."""
    return re.split(r"(?<=[.?])\s+(?=[A-Z])", text.strip())[0].rstrip(".")

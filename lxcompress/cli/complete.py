"""Words that a shell completes: recipes that ship, formats, precisions, criteria, granularities.

Each function imports what it needs only when the shell asks, so that no command becomes slower.
"""

from __future__ import annotations

from collections.abc import Iterable


def complete_recipe(incomplete: str) -> list[str]:
    """Return the recipes that ship; files are completed by the shell itself."""
    from lxcompress.recipe import shipped_recipes

    return _beginning(incomplete, (path.stem for path in shipped_recipes()))


def complete_format(incomplete: str) -> list[str]:
    """Return the formats of export."""
    from lxcompress.exporters.formats import FORMATS

    return _beginning(incomplete, FORMATS)


def complete_precision(incomplete: str) -> list[str]:
    """Return the precisions of all formats."""
    from lxcompress.exporters.formats import FORMATS

    return _beginning(incomplete, dict.fromkeys(name for known in FORMATS.values() for name in known.precisions))


def complete_criterion(incomplete: str) -> list[str]:
    """Return the criteria of a recipe."""
    from lxcompress.catalog.criteria import criterion_names

    return _beginning(incomplete, criterion_names())


def complete_granularity(incomplete: str) -> list[str]:
    """Return the granularities, with 2:4 for all that are like it."""
    from lxcompress.recipe import MASKED, STRUCTURED

    return _beginning(incomplete, (*MASKED, "2:4", *STRUCTURED))


def _beginning(incomplete: str, words: Iterable[str]) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]

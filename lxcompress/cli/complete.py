"""The words that a shell can complete: shipped recipes, formats, precisions, criteria, granularities.

Each function imports what it needs when it is called, so that no command becomes slower.
"""

from __future__ import annotations

from collections.abc import Iterable


def complete_recipe(incomplete: str) -> list[str]:
    """Return the names of the shipped recipes that begin with `incomplete`; the shell itself completes files."""
    from lxcompress.recipe import shipped_recipes

    return _starting_with(incomplete, (path.stem for path in shipped_recipes()))


def complete_format(incomplete: str) -> list[str]:
    """Return the export formats that begin with `incomplete`."""
    from lxcompress.catalog.formats import format_names

    return _starting_with(incomplete, format_names())


def complete_precision(incomplete: str) -> list[str]:
    """Return the precisions, of any format, that begin with `incomplete`."""
    from lxcompress.catalog.formats import all_formats

    return _starting_with(incomplete, dict.fromkeys(name for spec in all_formats() for name in spec.precisions))


def complete_criterion(incomplete: str) -> list[str]:
    """Return the pruning criteria that begin with `incomplete`."""
    from lxcompress.catalog.criteria import criterion_names

    return _starting_with(incomplete, criterion_names())


def complete_granularity(incomplete: str) -> list[str]:
    """Return the granularities that begin with `incomplete`; 2:4 is the example of N:M."""
    from lxcompress.recipe import MASKED, STRUCTURED

    return _starting_with(incomplete, (*MASKED, "2:4", *STRUCTURED))


def _starting_with(incomplete: str, words: Iterable[str]) -> list[str]:
    """Return the words that begin with `incomplete`."""
    return [word for word in words if word.startswith(incomplete)]

"""Find the criteria, formats, runtimes, families and data kinds that other installed packages add to lxcompress.

A package adds them through the entry points of Python packaging.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from lxcompress.errors import ExtensionError
from lxcompress.text import first_line

if TYPE_CHECKING:
    from importlib import metadata

Group = Literal["formats", "runtimes", "criteria", "families", "data"]
Spec = TypeVar("Spec")

log = logging.getLogger(__name__)


def added_names(group: Group) -> tuple[str, ...]:
    """Return the sorted names that installed packages add to `group`, without importing those packages.

    Raises ExtensionError if two packages add the same name.
    """
    return tuple(sorted(_entry_points(group)))


@cache
def load_added(group: Group, name: str) -> Any:
    """Import and return the object that a package adds to `group` as `name`.

    Raises ExtensionError if no package adds that name, or if the object cannot be imported.
    """
    point = _entry_points(group).get(name)
    if point is None:
        raise ExtensionError(f"lxcompress.{group}: no installed package adds {name!r}")
    try:
        return point.load()
    except Exception as error:  # the code of another package may raise anything; the error names that package
        raise ExtensionError(
            f"{_package(point)}: its entry point {name!r} of lxcompress.{group} ({point.value}) cannot be loaded: "
            f"{type(error).__name__}: {first_line(error)}; update or uninstall that package"
        ) from error


def all_names(group: Group, built_in: Iterable[str]) -> tuple[str, ...]:
    """Return the `built_in` names, then the names that installed packages add to `group`; no package is imported.

    Raises ExtensionError if a package adds a built-in name.
    """
    known, added = tuple(built_in), added_names(group)
    for name in added:
        if name in known:
            package = _package(_entry_points(group)[name])
            raise ExtensionError(
                f"lxcompress.{group}: {package} adds {name!r}, which lxcompress has; give it another name there"
            )
    return (*known, *added)


def load_spec(group: Group, name: str, kind: type[Spec]) -> Spec:
    """Return the spec that a package adds to `group` as `name`.

    Raises ExtensionError if no package adds that name, if the import fails, or if the object is not a `kind` (the class
    of specs) with that name.
    """
    spec = load_added(group, name)
    if not isinstance(spec, kind) or getattr(spec, "name", name) != name:
        point = _entry_points(group)[name]
        raise ExtensionError(
            f"{_package(point)}: its entry point {name!r} of lxcompress.{group} ({point.value}) is {spec!r:.80}, "
            f"expected a {kind.__name__} with the name {name!r}; correct that package"
        )
    return spec


@cache
def load_spec_or_warn(group: Group, name: str, kind: type[Spec]) -> Spec | None:
    """Return the spec that a package adds to `group` as `name`; None if it cannot be loaded.

    The first call for a broken spec logs a warning that names the package. For code that goes through all specs: a
    broken package must not stop a command that does not use it.
    """
    try:
        return load_spec(group, name, kind)
    except ExtensionError as error:
        log.warning("%s; lxcompress works without it", error)
        return None


def resolve(path: str) -> Any:
    """Import and return the object at `path`, written as "module:attribute".

    Specs name their functions as such texts, so that importing a table imports no heavy library.
    """
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)


@cache
def _entry_points(group: Group) -> dict[str, metadata.EntryPoint]:
    """Return {name: entry point} of `group`. Raises ExtensionError if two packages add the same name."""
    points: dict[str, metadata.EntryPoint] = {}
    for point in _all_entry_points(group):
        other = points.setdefault(point.name, point)
        if other.value != point.value:
            raise ExtensionError(
                f"lxcompress.{group}: {_package(other)} and {_package(point)} both add {point.name!r}; "
                "uninstall one of them"
            )
    return points


def _all_entry_points(group: Group) -> Iterator[metadata.EntryPoint]:
    from importlib import metadata  # 2 MB of modules that a measured process does without

    yield from metadata.entry_points(group=f"lxcompress.{group}")


def _package(point: metadata.EntryPoint) -> str:
    """Return the name of the package that an entry point belongs to."""
    return point.dist.name if point.dist else point.value

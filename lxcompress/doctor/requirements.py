"""Compare the libraries that lxcompress requires with those that are installed."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from dataclasses import dataclass
from typing import Literal

_REQUIREMENT = re.compile(
    r"""(?P<name>[\w.-]+)\s*(\[[^]]*\])?\s*(?P<range>[^;]*)(;.*extra\s*==\s*['"](?P<extra>[^'"]+)['"])?"""
)
_OWN_NAME = "lxcompress"
_COMBINED = ("all", "test", "dev")
"""Extras that include others, the narrowest first; a library is listed under the narrowest extra that has it."""

State = Literal["ok", "too old", "too new", "missing"]


@dataclass(frozen=True)
class Package:
    """A required library: its version range, and the version found; `extra` is the optional set that it belongs to."""

    name: str
    wanted: str
    found: str | None
    state: State
    extra: str | None
    remedy: str | None


def read_packages() -> tuple[Package, ...]:
    """Return Python, then each required library once; only Python if lxcompress is not installed.

    An extra that combines others requires lxcompress itself, or the libraries of those extras a second time.
    """
    packages: dict[str, Package] = {}
    for package in map(read_package, sorted(_requirements(), key=_rank_extra)):
        if package.name != _OWN_NAME:
            packages.setdefault(package.name, package)
    return (_read_python(), *packages.values())


def _rank_extra(requirement: str) -> int:
    """Return 0 for a requirement of an extra that combines no others; a larger number for each extra that does."""
    extra = _parse(requirement)[2]
    return _COMBINED.index(extra) + 1 if extra in _COMBINED else 0


def read_package(requirement: str) -> Package:
    """Return the state of one requirement of the package metadata, such as `pytest<10,>=8.3; extra == 'test'`."""
    name, wanted, extra = _parse(requirement)
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found = None
    state = judge(found, wanted)
    remedy = f'pip install "{name}{wanted}"' if extra is None else add_extra(extra)
    return Package(name, wanted, found, state, extra, None if state == "ok" else remedy)


def judge(found: str | None, wanted: str) -> State:
    """Compare a version with bounds such as `>=2.8,<2.14`; other kinds of bounds are ignored."""
    if found is None:
        return "missing"
    version = _numbers(found)
    for bound in wanted.replace(" ", "").split(","):
        if bound.startswith(">=") and version < _numbers(bound[2:]):
            return "too old"
        if bound.startswith("<") and not bound.startswith("<=") and version >= _numbers(bound[1:]):
            return "too new"
    return "ok"


def add_extra(extra: str) -> str:
    """Return the command that installs all libraries of an extra, in their required versions."""
    return f"pip install '{_OWN_NAME}[{extra}]'"


def reinstall(*names: str) -> str:
    """Return the command that installs these libraries again, in their required versions."""
    ranges = {name: wanted for name, wanted, _ in map(_parse, _requirements())}
    quoted = " ".join(f'"{name}{ranges.get(name, "")}"' for name in names)
    return f"pip install --force-reinstall {quoted}"


def _requirements() -> list[str]:
    try:
        return importlib.metadata.requires(_OWN_NAME) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def _parse(requirement: str) -> tuple[str, str, str | None]:
    """Return the name, range and extra of a requirement."""
    parts = _REQUIREMENT.match(requirement)
    assert parts, f"package metadata holds requirements only, got {requirement!r}"
    return parts["name"], parts["range"].strip(), parts["extra"]


def _read_python() -> Package:
    found = platform.python_version()
    try:
        wanted = importlib.metadata.metadata(_OWN_NAME)["Requires-Python"] or ""
    except importlib.metadata.PackageNotFoundError:
        wanted = ""
    state = judge(found, wanted)
    return Package("python", wanted, found, state, None, None if state == "ok" else f"install Python {wanted}")


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version without trailing zeros: 2.13.0+cpu is (2, 13)."""
    numbers = [int(digits) for digits in re.findall(r"\d+", re.match(r"[\d.]*", version)[0])]  # type: ignore[index]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)

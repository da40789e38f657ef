"""`lxcompress doctor`: show versions, devices, what works on this machine, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from lxcompress.doctor.diagnose import Diagnosis


def doctor_cli(
    as_json: Annotated[bool, typer.Option("--json", help="Print the diagnosis as JSON.")] = False,
) -> None:
    """Show versions, devices, what works on this machine, and which package each missing part needs.

    Tries each part on a tiny model; takes some seconds. Exit code 0 if the core works, else 1.

    \b
    Example:
      lxcompress doctor
    """
    import json
    from dataclasses import asdict

    from lxcompress.doctor.diagnose import diagnose

    diagnosis = diagnose()
    if as_json:
        found = asdict(diagnosis)
        found["trials"] = found.pop("checks")  # the key that scripts read
        typer.echo(json.dumps(found, indent=1))
    else:
        _show(diagnosis)
    if not diagnosis.is_sound:
        raise typer.Exit(1)


def _show(diagnosis: Diagnosis) -> None:
    """Show the tables of packages, devices and checks, the commands that repair something, and the verdict."""
    from rich.text import Text

    from lxcompress.cli.screen import out as screen

    for table in (_packages(diagnosis), _devices(diagnosis), _checks(diagnosis)):
        screen.print(table)
    for remedy, names in _remedies(diagnosis).items():
        screen.print(Text(f"{', '.join(names)}: {remedy}", style="yellow"), soft_wrap=True)
    verdict = "the core works" if diagnosis.is_sound else "the core does not work"
    screen.print(Text(f"lxcompress {diagnosis.lxcompress}: {verdict}", style="green" if diagnosis.is_sound else "red"))


def _remedies(diagnosis: Diagnosis) -> dict[str, list[str]]:
    """Return {command that repairs something: names of the packages, devices and checks that it repairs}."""
    remedies: dict[str, list[str]] = {}
    pairs = [(package.remedy, package.name) for package in diagnosis.packages]
    pairs += [(device.remedy, device.name) for device in diagnosis.devices]
    pairs += [(check.remedy, check.name) for check in diagnosis.checks]
    for remedy, name in pairs:
        if remedy:
            remedies.setdefault(remedy, []).append(name)
    return remedies


def _packages(diagnosis: Diagnosis) -> Table:
    """Return the table of packages: the version that is installed, and the versions that are required."""
    table = _table("package", "version", "required", "")
    table.columns[0].no_wrap = True  # a name that is cut cannot be copied
    for package in diagnosis.packages:
        state = package.state if package.extra is None else f"{package.state}, for [{package.extra}]"
        style = None if package.state == "ok" else "yellow" if package.extra else "red"
        _add(table, package.name, package.found or "", package.wanted, state, style=style)
    return table


def _devices(diagnosis: Diagnosis) -> Table:
    """Return the table of devices, such as GPUs, and whether this machine has them."""
    table = _table("device", "", "")
    for device in diagnosis.devices:
        style = None if device.is_here else "dim"
        _add(table, device.name, "yes" if device.is_here else "no", device.detail, style=style)
    return table


def _checks(diagnosis: Diagnosis) -> Table:
    """Return the table of checks: whether each part of lxcompress works on this machine."""
    table = _table("check", "works", "", "needed for")
    for check in diagnosis.checks:
        style = None if check.works else "red" if check.is_core else "yellow"
        _add(table, check.name, "yes" if check.works else "no", check.detail, check.needed_for, style=style)
    return table


def _table(*headings: str) -> Table:
    """Return an empty table with these headings."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _add(table: Table, *cells: str, style: str | None) -> None:
    """Add a row of cells to the table."""
    from rich.text import Text

    table.add_row(*(Text(cell) for cell in cells), style=style)

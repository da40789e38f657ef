"""`lxcompress doctor`: versions, devices, what works here, and what is missing for what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from lxcompress.doctor.diagnose import Diagnosis


def doctor_cli(
    as_json: Annotated[bool, typer.Option("--json", help="Print the diagnosis as JSON.")] = False,
) -> None:
    """Versions, devices, what works here, and what is missing for what.

    Tries each thing on something tiny; takes some seconds. Exit code 0 if the core works, else 1.

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
    from rich.text import Text

    from lxcompress.cli.screen import out as screen

    for table in (_packages(diagnosis), _devices(diagnosis), _checks(diagnosis)):
        screen.print(table)
    for remedy, names in _remedies(diagnosis).items():
        screen.print(Text(f"{', '.join(names)}: {remedy}", style="yellow"), soft_wrap=True)
    verdict = "the core works" if diagnosis.is_sound else "the core does not work"
    screen.print(Text(f"lxcompress {diagnosis.lxcompress}: {verdict}", style="green" if diagnosis.is_sound else "red"))


def _remedies(diagnosis: Diagnosis) -> dict[str, list[str]]:
    """Each command that mends something -> what it mends."""
    remedies: dict[str, list[str]] = {}
    for each in (*diagnosis.packages, *diagnosis.devices, *diagnosis.checks):
        if each.remedy:
            remedies.setdefault(each.remedy, []).append(each.name)
    return remedies


def _packages(diagnosis: Diagnosis) -> Table:
    table = _table("version", "found", "asked for", "")
    for each in diagnosis.packages:
        state = each.state if each.extra is None else f"{each.state}, for [{each.extra}]"
        style = None if each.state == "ok" else "yellow" if each.extra else "red"
        _add(table, each.name, each.found or "", each.wanted, state, style=style)
    return table


def _devices(diagnosis: Diagnosis) -> Table:
    table = _table("device", "", "")
    for each in diagnosis.devices:
        _add(table, each.name, "yes" if each.is_here else "no", each.detail, style=None if each.is_here else "dim")
    return table


def _checks(diagnosis: Diagnosis) -> Table:
    table = _table("tried", "works", "", "needed for")
    for each in diagnosis.checks:
        style = None if each.works else "red" if each.is_core else "yellow"
        _add(table, each.name, "yes" if each.works else "no", each.detail, each.needed_for, style=style)
    return table


def _table(*headings: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _add(table: Table, *cells: str, style: str | None) -> None:
    from rich.text import Text

    table.add_row(*(Text(cell) for cell in cells), style=style)

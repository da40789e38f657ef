"""`lxcompress data check`: list what is missing, mismatched, duplicated or out of range in the data of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from lxcompress.data.check import CheckReport, Fact, Finding, Unit, Value

STYLES = {"error": "red", "warning": "yellow"}


def check_cli(
    path: Annotated[
        Path,
        typer.Argument(metavar="RECIPE|STORE", help="A recipe whose data are checked, or a store of region features."),
    ],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="key=value replaces a value of the recipe; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the facts and findings as JSON.")] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="Do not read the features; their checksum and values stay unchecked.")
    ] = False,
) -> None:
    """List what is missing, mismatched, duplicated or out of range in the data of a recipe, before training starts.

    Every problem is listed with its remedy. The exit code is 1 if there is an error, else 0.

    \b
    Example:
      lxcompress data check recipes/thesis.yaml --set data.features=coco-obj36
    """
    from lxcompress.cli.progress import working
    from lxcompress.recipe import find_recipe, load_recipe
    from lxcompress.workflow.data_check import check_recipe, check_store

    is_store = find_recipe(path).is_dir()
    if is_store and overrides:
        raise typer.BadParameter("changes a recipe, but this is a folder; leave it out", param_hint="--set")
    recipe = None if is_store else load_recipe(path, overrides or ())
    with working(f"checking {path}") as progress:
        if recipe is None:
            check = check_store(path, is_fast=fast, progress=progress)
        else:
            check = check_recipe(recipe, is_fast=fast, progress=progress)
    if as_json:
        _print_json(path, check)
    else:
        _show(check)
    if check.errors:
        from lxcompress.errors import DataError

        raise DataError(f"{path}: {_count(check.errors, 'problem')}, listed above; fix these and run the check again")


def _print_json(path: Path, check: CheckReport) -> None:
    """Print the facts and findings of a check as JSON."""
    from lxcompress.output import json_text

    document = {
        "checked": str(path),
        "errors": check.errors,
        "warnings": check.warnings,
        "facts": [asdict(fact) for fact in check.facts],
        "findings": [asdict(finding) for finding in check.findings],
    }
    typer.echo(json_text(document))


def _show(check: CheckReport) -> None:
    """Show the facts about the data, with a column for each split, and then the findings."""
    from rich.text import Text

    from lxcompress.cli.screen import out
    from lxcompress.data.check import SPLITS, WHOLE

    of_splits = [fact for fact in check.facts if WHOLE not in fact.values]
    of_all = [fact for fact in check.facts if WHOLE in fact.values]
    splits = [name for name in SPLITS if any(name in fact.values for fact in of_splits)]
    for facts, keys, headings in ((of_splits, splits, splits), (of_all, [WHOLE], [""])):
        if facts:
            out.print(_facts(facts, keys, headings))
    if check.findings:
        out.print(_findings(check.findings))
    style = "red" if check.errors else "yellow" if check.warnings else "green"
    out.print(Text(f"{_count(check.errors, 'error')}, {_count(check.warnings, 'warning')}", style=style))


def _facts(facts: Sequence[Fact], keys: Sequence[str], headings: Sequence[str]) -> Table:
    """Return a table of facts about the data, with a column for each of `keys`."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_header=any(headings))
    table.add_column("", overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", overflow="fold")
    for fact in facts:
        table.add_row(Text(fact.name), *(Text(_written(fact.values, key, fact.unit)) for key in keys))
    return table


def _findings(findings: Sequence[Finding]) -> Table:
    """Return a table of findings; the file of each finding has a separate line, so that it can be copied."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        words = Text(finding.where, style="bold").append(f"\n{finding.sentence}", style="not bold")
        table.add_row(Text(finding.severity, style=STYLES[finding.severity]), words)
    return table


def _written(values: Mapping[str, Value], key: str, unit: Unit) -> str:
    """Return the value of a fact for one split as text; "-" if there is none."""
    if key not in values:
        return "-"
    value = values[key]
    if isinstance(value, str):
        return value
    if unit == "share":
        return f"{100 * value:.4g} %"
    if unit == "bytes":
        return f"{value / 1e9:.3g} GB" if value >= 1e9 else f"{value / 1e6:.3g} MB"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _count(count: int, noun: str) -> str:
    """Return a number with its noun: 1 error, 2 errors."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")

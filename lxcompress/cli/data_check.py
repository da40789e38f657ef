"""`lxcompress data check`: what is missing, mismatched, duplicated or out of range before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from lxcompress.data.check import CheckReport, Fact, Finding, Progress, Unit, Value
    from lxcompress.recipe import Recipe

STYLES = {"error": "red", "warning": "yellow"}


def check_cli(
    path: Annotated[
        Path,
        typer.Argument(metavar="RECIPE|STORE", help="A recipe, whose data are checked; or a store of region features."),
    ],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="key=value over the recipe; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the facts and findings as JSON.")] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="Read no features: their checksum and their values are not checked.")
    ] = False,
) -> None:
    """Say what is missing, mismatched, duplicated or out of range in the data of a recipe, before training starts.

    Everything that is found is listed, with its remedy. Exit code 0 if nothing must be mended, else 1.

    \b
    Example:
      lxcompress data check recipes/thesis.yaml --set data.features=coco-obj36
    """
    from lxcompress.cli.progress import working
    from lxcompress.recipe import find_recipe, load_recipe

    is_store = find_recipe(path).is_dir()
    if is_store and overrides:
        raise typer.BadParameter("changes a recipe, and this is a folder; leave it out", param_hint="--set")
    recipe = None if is_store else load_recipe(path, overrides or ())
    with working(f"checking {path}") as progress:
        check = _check_store(path, fast, progress) if recipe is None else _check_recipe(recipe, fast, progress)
    if as_json:
        _print_json(path, check)
    else:
        _show(check)
    if check.errors:
        from lxcompress.errors import DataError

        raise DataError(f"{path}: {_count(check.errors, 'problem')}, listed above; fix these and run the check again")


def _check_store(path: Path, fast: bool, progress: Progress) -> CheckReport:
    from lxcompress.data.check import check_store

    return check_store(path, is_fast=fast, progress=progress)


def _check_recipe(recipe: Recipe, fast: bool, progress: Progress) -> CheckReport:
    """Checks the data of a recipe against its start model; what is wrong with that model is a finding too."""
    from lxcompress.data.check import as_finding, check_data
    from lxcompress.errors import LxError
    from lxcompress.models.answers import read_answers
    from lxcompress.models.checkpoints import load_vocabulary, resolve_start
    from lxcompress.models.shape import describe_start

    start, data = resolve_start(recipe.model.start), recipe.data
    wanted = {
        "vocabulary": lambda: load_vocabulary(start, recipe.model.vocabulary),
        "model": lambda: describe_start(f"model.start={recipe.model.start}", start, recipe.model.vocabulary),
        "answers": lambda: recipe.model.pretrained_answers and read_answers(recipe.model.pretrained_answers),
    }
    found: dict[str, Any] = {}
    refused: list[Finding] = []
    for name, load in wanted.items():
        progress(f"reading {recipe.model.start}", 0, 0)
        try:
            found[name] = load()
        except LxError as error:
            refused.append(as_finding(error))
    check = check_data(data, found.get("vocabulary"), model=found.get("model"), is_fast=fast, progress=progress)
    findings = dict.fromkeys((*refused, *check.findings))
    return replace(check, findings=tuple(_name_fetch(finding) for finding in findings))


def _name_fetch(finding: Finding) -> Finding:
    """Return the finding of a missing file with the command that fetches or prepares it, where one is known."""
    from lxcompress.cli.recipes import read_card
    from lxcompress.data.catalogue import CATALOGUE
    from lxcompress.recipe import shipped_recipes

    path = Path(finding.where)
    if finding.severity != "error" or path.exists():
        return finding
    folder = path.parent.name if path.suffix else path.name
    by_file = [name for name, group in CATALOGUE.items() if path.name in {file.name for file in group.files}]
    names = [folder] if folder in CATALOGUE else by_file
    if names:
        return replace(finding, sentence=f"no such file; fetch it with: lxcompress data fetch {names[0]}")
    commands = [command for recipe in shipped_recipes() for command in read_card(recipe).commands]
    end = f" --out {path.as_posix()}"
    prepare = next(
        (command for command in commands if command.startswith("lxcompress data prepare") and command.endswith(end)),
        None,
    )
    if prepare is None:
        is_raw = "[Errno" in finding.sentence
        return replace(finding, sentence="no such file; correct its path in the recipe") if is_raw else finding
    sources = dict.fromkeys(
        word.split("/")[1] for word in prepare.split() if word.startswith("data/") and word.count("/") == 2
    )
    fetch = f"lxcompress data fetch {' '.join(sources)}"
    return replace(finding, sentence=f"no such store; make it with: {fetch} && {prepare}")


def _print_json(path: Path, check: CheckReport) -> None:

    document = {
        "checked": str(path),
        "errors": check.errors,
        "warnings": check.warnings,
        "facts": [asdict(fact) for fact in check.facts],
        "findings": [asdict(finding) for finding in check.findings],
    }
    from lxcompress.output import json_text

    typer.echo(json_text(document))


def _show(check: CheckReport) -> None:
    """Facts, those of each split side by side, and then the findings."""
    from rich.text import Text

    from lxcompress.cli.screen import out
    from lxcompress.data.check import SPLITS, WHOLE

    of_splits = [fact for fact in check.facts if WHOLE not in fact.values]
    of_all = [fact for fact in check.facts if WHOLE in fact.values]
    for facts, keys, headings in ((of_splits, SPLITS, SPLITS), (of_all, (WHOLE,), ("",))):
        if facts:
            out.print(_facts(facts, keys, headings))
    if check.findings:
        out.print(_findings(check.findings))
    style = "red" if check.errors else "yellow" if check.warnings else "green"
    out.print(Text(f"{_count(check.errors, 'error')}, {_count(check.warnings, 'warning')}", style=style))


def _facts(facts: Sequence[Fact], keys: Sequence[str], headings: Sequence[str]) -> Table:
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
    """Each with its place on a line of its own, where a terminal lets it be copied."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        said = Text(finding.where, style="bold").append(f"\n{finding.sentence}", style="not bold")
        table.add_row(Text(finding.severity, style=STYLES[finding.severity]), said)
    return table


def _written(values: Mapping[str, Value], key: str, unit: Unit) -> str:
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
    return f"{count:,} {noun}" + ("" if count == 1 else "s")

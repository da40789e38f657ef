"""`lxcompress pick`: the ticket to ship by a stated rule, and why not the others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lxcompress.report.pick import Choice, Picked


def pick_cli(
    run: Annotated[Path, typer.Argument(help="The run folder of a study.")],
    retain: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of the dense accuracy to keep; without it, the recipe's pick.retain."),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(min=0, max=0.5, help="Accuracy that may be lost, instead of --retain: 0.01 is one point."),
    ] = None,
    max_size_mb: Annotated[float | None, typer.Option(min=0, help="Size on disk, MB of 10^6 bytes.")] = None,
    max_latency_ms: Annotated[float | None, typer.Option(min=0, help="90th percentile of one answer, ms.")] = None,
    max_memory_mb: Annotated[float | None, typer.Option(min=0, help="Peak memory of the process, MB.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the choice as JSON, also when none is picked.")
    ] = False,
) -> None:
    """Pick the sparsest ticket that keeps enough accuracy and fits the limits.

    Example: lxcompress pick runs/quickstart --retain 0.98 --max-size-mb 10
    """
    if retain is not None and max_drop is not None:
        raise typer.BadParameter("give --retain or --max-drop, not both: each says how much accuracy to keep")
    import json

    from lxcompress.errors import RunError
    from lxcompress.report.pick import Rule, choice_json, pick_ticket, verdict
    from lxcompress.report.summary import summarise
    from lxcompress.rundir import read_run

    summary = summarise(read_run(run))
    if retain is None and max_drop is None:
        retain = summary.recipe.pick.retain
    rule = Rule(
        retain=retain,
        max_drop=max_drop,
        max_size_mb=max_size_mb,
        max_latency_ms=max_latency_ms,
        max_memory_mb=max_memory_mb,
    )
    choice = pick_ticket(summary, rule)
    if as_json:
        typer.echo(json.dumps(choice_json(choice), indent=1, ensure_ascii=False))
    elif choice.picked is not None:
        _show(choice, choice.picked)
    if choice.picked is None:
        if not as_json:
            _show_rejected(choice)
        raise RunError(f"{run}: {verdict(choice)} {_remedy(run, choice)}")


def _show(choice: Choice, picked: Picked) -> None:
    from lxcompress.cli.screen import out, remarks
    from lxcompress.report.pick import verdict
    from lxcompress.report.summary import plus_minus
    from lxcompress.units import percent

    assert choice.threshold is not None
    out.print(verdict(choice), style="bold green", markup=False)
    out.print(f"rule: {choice.rule.words} (accuracy {percent(choice.threshold)} % or more), the sparsest", markup=False)
    # Paths and commands are for copying: they are never folded.
    out.print(f"ticket: {picked.ticket}", markup=False, soft_wrap=True)
    out.print(
        f"  seed {picked.seed} scored best on the validation split and was chosen on it: expect the group's mean, "
        f"{plus_minus(picked.group.retrained.overall)} %",
        markup=False,
    )
    if picked.cost is not None:
        out.print(f"exported: {picked.cost.folder}", markup=False, soft_wrap=True)
    for command in picked.commands:
        out.print(f"next: {command}", markup=False, soft_wrap=True)
    for doubt in choice.doubts:
        remarks.print(f"doubt: {doubt}", style="yellow", markup=False)
    if choice.rejected:
        _show_rejected(choice)


def _show_rejected(choice: Choice) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from lxcompress.cli.screen import out
    from lxcompress.units import percent

    tickets = [each for each in choice.rejected if not each.key.method.is_control]
    controls = list(dict.fromkeys(each.key.series for each in choice.rejected if each.key.method.is_control))
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("not picked", overflow="fold")
    table.add_column("accuracy", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    begun = [each for each in tickets if each.accuracy is not None]
    for each in begun:
        assert each.accuracy is not None
        table.add_row(each.key.label, percent(each.accuracy), "; ".join(each.reasons))
    out.print()
    out.print(table, markup=False)
    if len(begun) < len(tickets):
        out.print(f"incomplete: of {len(tickets) - len(begun)} more groups no cell is finished", markup=False)
    if controls:
        out.print(f"never picked, being controls: {', '.join(controls)}", markup=False)
    least = choice.picked.group.achieved.mean if choice.picked else 0.0
    unmeasured = [each for each in choice.rejected if each.commands and (each.achieved or 0) >= least]
    if unmeasured:
        out.print("measure those that may still win:", markup=False)
    for each in unmeasured:
        out.print(f"  {' && '.join(each.commands)}", markup=False, soft_wrap=True)


def _remedy(run: Path, choice: Choice) -> str:
    """What to do where nothing satisfies the rule."""
    if choice.nearest is not None and choice.nearest.commands:
        return f"Measure it with: {' && '.join(choice.nearest.commands)}"
    if choice.dense is None or not choice.is_final:
        return f"See what is missing with: lxcompress status {run}"
    return "Ask for less, as in --retain 0.95, or study lower sparsities (prune.sparsities of the recipe)"

"""`lxcompress reliability`: measure and show how far the confidence of a run's models can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lxcompress.analysis.reliability import ChangeRate, Reliability


def reliability_cli(
    run: Annotated[Path, typer.Argument(help="The run folder of a study.")],
    by_type: Annotated[
        bool, typer.Option("--by-type", help="Show also which types of questions have changed answers.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the measures (shares 0-1) as JSON.")] = False,
) -> None:
    """Show how sure the models of a run are, how often they are wrong, and which answers pruning changed.

    A study records this for each model, and an export for each file. Models without a record, such as those of earlier
    versions, answer the validation questions again first.

    \b
    Example: lxcompress reliability runs/quickstart
    """
    from lxcompress.analysis.reliability import file_reliability, measured_reliability, reliability_json
    from lxcompress.analysis.summary import summarise
    from lxcompress.cli.progress import working
    from lxcompress.cli.screen import out, remarks
    from lxcompress.errors import RunError
    from lxcompress.output import json_text
    from lxcompress.rundir import read_run

    def remark(text: str) -> None:
        remarks.print(f"warning: {text}", style="yellow", markup=False)

    summary = summarise(read_run(run))
    with working(f"measuring {run}") as progress:
        from lxcompress.measure.reliability import measure_run

        measured = measure_run(run, remark, progress)
    rows = measured_reliability(summary)
    if not rows:
        raise RunError(f"{run}: has no finished model whose questions have answers; finish the study first")
    if as_json:
        typer.echo(json_text(reliability_json(summary)))
        return
    _show(rows)
    files = [file_reliability(summary, exported.name) for exported in summary.artifacts]
    if any(row.answers for row in files):
        _show([row for row in files if row.answers])
    if by_type:
        _show_types(rows)
    questions = len(next(iter(rows[0].answers.values())).labels)
    now = f"; {len(measured)} models and files were measured now" if measured else ""
    out.print(
        f"{questions:,} validation questions, means over seeds; docs/reliability.md explains the columns{now}",
        markup=False,
    )


def _show(rows: Sequence[Reliability]) -> None:
    """Show a table with a row for each model: means over seeds, in percent."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from lxcompress.cli.screen import out
    from lxcompress.units import percent

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("%", overflow="fold")
    for title in ("accuracy", "ECE", "ECE at T", "AURC", "excess", "at 5 % risk", "lost", "gained"):
        table.add_column(title, justify="right")
    for row in rows:
        names = ("accuracy", "raw_calibration_error", "calibration_error", "area", "excess_area", "coverage_at_5")
        change = row.changes.get("all")
        changed = (percent(change.right_to_wrong, 1), percent(change.wrong_to_right, 1)) if change else ("–", "–")
        table.add_row(row.label, *(percent(row.measures[name].mean, 1) for name in names), *changed)
    out.print(table, markup=False)


def _show_types(rows: Sequence[Reliability]) -> None:
    """Show a table of the answers that became wrong and right, by type of question."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from lxcompress.cli.screen import out

    kinds = list(dict.fromkeys(kind for row in rows for kind in row.changes))
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("lost / gained, %", overflow="fold")
    for kind in kinds:
        table.add_column(kind, justify="right")
    for row in rows:
        rates = [row.changes.get(kind) for kind in kinds]
        if row.changes:
            table.add_row(row.label, *(_rate_words(rate) if rate else "–" for rate in rates))
    out.print(table, markup=False)


def _rate_words(rate: ChangeRate) -> str:
    """Return the shares of answers that became wrong and right as text."""
    from lxcompress.units import percent

    return f"{percent(rate.right_to_wrong, 1)} / {percent(rate.wrong_to_right, 1)}"

"""`lxcompress status`: show which runs of a study are done, and the time left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from lxcompress.analysis.held_out import HeldOutAccuracy
    from lxcompress.analysis.study_progress import RunStatus, StudyProgress
    from lxcompress.rundir import Run

STYLES = {"done": "green", "running": "bold cyan", "interrupted": "yellow", "missing": "dim"}


def status_cli(
    run: Annotated[Path, typer.Argument(help="The run folder of a study.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the state of every run as JSON.")] = False,
) -> None:
    """Show which runs are done, running or missing, and the time left.

    Example: lxcompress status runs/quickstart
    """
    import json

    from lxcompress.analysis.choice_json import held_out_json
    from lxcompress.analysis.held_out import held_out_words
    from lxcompress.analysis.study_progress import study_progress, study_progress_json
    from lxcompress.cli.screen import out
    from lxcompress.output import command_line
    from lxcompress.rundir import is_busy, read_run

    found = read_run(run)
    status = study_progress(found, busy=is_busy(found.dir))
    held_out = _held_out(found) if status.is_complete else ()
    if as_json:
        document = study_progress_json(status)
        document |= {"test": [held_out_json(model) for model in held_out]} if held_out else {}
        typer.echo(json.dumps(document, indent=1))
        return
    out.print(_table(status.runs, found.recipe.seeds))
    out.print("accuracy in %; ▶ running, ◼ interrupted, · missing", style="dim", markup=False)
    out.print(f"{found.recipe.name}: {_sentence(status)}", style="bold", markup=False)
    for worker in status.workers:
        doing = ", ".join(worker.doing) or "between two runs"
        out.print(f"{worker.node:<20} process {worker.pid:<8} {doing}", markup=False, soft_wrap=True)
    if held_out:
        out.print(held_out_words(held_out), markup=False)
    if status.usage:
        out.print(f"took {status.usage.words}{'' if status.is_complete else ' so far'}", style="dim", markup=False)
    if not status.is_complete and not status.is_busy:
        out.print(f"resume with: {command_line('study', found.dir.recipe, '--out', run)}", markup=False, soft_wrap=True)
    if status.is_complete:
        out.print(f"next: {command_line('report', run)}", markup=False, soft_wrap=True)


def _held_out(run: Run) -> tuple[HeldOutAccuracy, ...]:
    """Return the test accuracies of a finished study, of dense and of the ticket that the recipe's rule picks."""
    if not any(record.test for record in run.dense.values()):
        return ()
    from lxcompress.analysis.pick import pick_ticket
    from lxcompress.analysis.rule import default_rule
    from lxcompress.analysis.summary import summarise

    summary = summarise(run)
    return pick_ticket(summary, default_rule(summary)).held_out


def _table(steps: Sequence[RunStatus], seeds: Sequence[int]) -> Table:
    """Return a table of the states: a row for each method and sparsity, and a column for each seed."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("", no_wrap=True)
    for seed in seeds:
        table.add_column(f"seed {seed}", justify="right")
    rows: dict[str, dict[int, RunStatus]] = {}
    for step in steps:
        rows.setdefault(step.group, {})[step.seed] = step
    for name, by_seed in rows.items():
        cells = [Text(_word(by_seed[seed]), style=STYLES[by_seed[seed].state]) for seed in seeds]
        table.add_row(name, *cells)
    return table


def _word(step: RunStatus) -> str:
    """Return the accuracy of a finished run in percent, or the sign of another state."""
    from lxcompress.units import percent

    if step.accuracy is not None:
        return percent(step.accuracy)
    return {"running": "▶", "interrupted": "◼"}.get(step.state, "·")


def _sentence(status: StudyProgress) -> str:
    """Return how far the study is: "14 of 30 runs done, 1 running, 15 missing; about 16 min left", for example."""
    from lxcompress.units import duration

    counts = status.counts
    if status.is_complete:
        return f"all {len(status.runs)} runs are done"
    states = [f"{counts[state]} {state}" for state in ("running", "interrupted", "missing") if counts[state]]
    left = "the time left is known when the first run is finished"
    if status.left_s is not None:
        left = f"about {duration(status.left_s)} left" + ("" if status.is_busy else " once it is resumed")
    return f"{counts['done']} of {len(status.runs)} runs done, {', '.join(states)}; {left}"

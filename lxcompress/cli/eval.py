"""`lxcompress eval`: the accuracy of a model, a ticket or an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lxcompress.cli.complete import complete_recipe

if TYPE_CHECKING:
    from lxcompress.measure.evaluate import Evaluation


def eval_cli(
    model: str = typer.Argument(help="A fine-tuned model, a ticket, or an artifact that lxcompress export wrote."),
    recipe: Path = typer.Argument(
        help="The recipe of its data, or the run folder that it came from.", autocompletion=complete_recipe
    ),
    overrides: list[str] = typer.Option([], "--set", help="key=value over the recipe; may be repeated."),
    as_json: bool = typer.Option(False, "--json", help="Print the accuracies (0-1) as JSON."),
) -> None:
    """Accuracy on the validation questions of a recipe, overall and by answer type.

    An artifact is answered by the runtime that will serve it.

    \b
    Example: lxcompress eval runs/quickstart/tickets/low-magnitude-weight-70-seed0 runs/quickstart
    Or:      lxcompress eval runs/quickstart/artifacts/dense-seed0-onnx runs/quickstart --json
    """
    from lxcompress.cli.early import check_scored
    from lxcompress.cli.progress import working
    from lxcompress.recipe import load_recipe

    known = load_recipe(recipe, overrides)
    check_scored(model)
    with working(f"scoring {model}") as progress:
        from lxcompress.measure.evaluate import evaluate

        done = evaluate(model, known, progress)
    if as_json:
        _print_json(done)
    else:
        _show(done)


def _print_json(done: Evaluation) -> None:
    from lxcompress.output import json_text

    document = {"version": 1, "source": done.source, "kind": done.kind, "runtime": done.runtime, "recipe": done.recipe}
    typer.echo(json_text(document | done.score.model_dump()))


def _show(done: Evaluation) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from lxcompress.cli.screen import out
    from lxcompress.units import percent

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("", overflow="fold")
    table.add_column("accuracy %", justify="right", no_wrap=True)
    table.add_row("overall", percent(done.score.accuracy), style="bold")
    for kind, accuracy in done.score.by_type.items() if len(done.score.by_type) > 1 else ():
        table.add_row(Text(f"  {kind}"), percent(accuracy))
    out.print(table)
    words = f"{done.score.questions:,} validation questions of {done.recipe}; {done.kind} {done.source}"
    out.print(f"{words}, answered by {done.runtime}", markup=False, highlight=False, soft_wrap=True)

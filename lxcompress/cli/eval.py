"""`lxcompress eval`: show the accuracy of a model, a ticket or an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from lxcompress.cli.complete import complete_recipe

if TYPE_CHECKING:
    from lxcompress.measure.evaluate import Evaluation


def eval_cli(
    model: str = typer.Argument(help="A fine-tuned model, a ticket, or an artifact that lxcompress export wrote."),
    recipe: Path = typer.Argument(help="The recipe of its data, or its run folder.", autocompletion=complete_recipe),
    overrides: list[str] = typer.Option([], "--set", help="key=value replaces a value of the recipe; repeatable."),
    split: Literal["valid", "test"] = typer.Option("valid", "--split", help="The questions: valid, or the test split."),
    as_json: bool = typer.Option(False, "--json", help="Print the accuracies (0-1) as JSON."),
) -> None:
    """Evaluate on the validation or test questions of a recipe, overall and by answer type.

    An artifact runs in the usual runtime of its format.

    \b
    Example: lxcompress eval runs/quickstart/tickets/low-magnitude-weight-70-seed0 runs/quickstart
    Or:      lxcompress eval runs/quickstart/artifacts/dense-seed0-onnx runs/quickstart --json
    Or:      lxcompress eval runs/quickstart/seeds/0/dense runs/quickstart --split test
    """
    from lxcompress.cli.progress import working
    from lxcompress.recipe import load_recipe
    from lxcompress.workflow.checks import check_scored

    known = load_recipe(recipe, overrides)
    check_scored(model)
    with working(f"evaluating {model}") as progress:
        from lxcompress.measure.evaluate import evaluate

        evaluation = evaluate(model, known, progress, split=split)
    if as_json:
        _print_json(evaluation)
    else:
        _show(evaluation)


def _print_json(evaluation: Evaluation) -> None:
    """Print the accuracies (0-1) as JSON."""
    from lxcompress.output import json_text

    document = {
        "version": 1,
        "source": evaluation.source,
        "kind": evaluation.kind,
        "runtime": evaluation.runtime,
        "recipe": evaluation.recipe,
        "split": evaluation.split,
    }
    typer.echo(json_text(document | evaluation.score.model_dump()))


def _show(evaluation: Evaluation) -> None:
    """Show a table of the accuracies, overall and by answer type."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from lxcompress.cli.screen import out
    from lxcompress.measure.evaluate import SPLIT_WORDS
    from lxcompress.units import percent

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("", overflow="fold")
    table.add_column("accuracy %", justify="right", no_wrap=True)
    table.add_row("overall", percent(evaluation.score.accuracy), style="bold")
    by_type = evaluation.score.by_type
    for kind, accuracy in by_type.items() if len(by_type) > 1 else ():
        table.add_row(Text(f"  {kind}"), percent(accuracy))
    out.print(table)
    words = f"{evaluation.score.questions:,} {SPLIT_WORDS[evaluation.split]} questions of {evaluation.recipe}"
    model = f"{evaluation.kind} {evaluation.source} in {evaluation.runtime}"
    out.print(f"{words}; {model}", markup=False, highlight=False, soft_wrap=True)

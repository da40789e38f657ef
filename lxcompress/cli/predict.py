"""`lxcompress predict`: write a model's answers in the format of the data set's evaluation."""

from __future__ import annotations

from pathlib import Path

import typer

from lxcompress.cli.complete import complete_recipe


def predict_cli(
    model: str = typer.Argument(help="A fine-tuned model: a ticket, a run's dense model, a transformers folder."),
    recipe: Path = typer.Argument(help="The recipe of its data, or its run folder.", autocompletion=complete_recipe),
    out: Path = typer.Option(..., "--out", help="File to write: CSV for NLVR and NLVR2, else JSON."),
    questions: list[Path] = typer.Option(
        [], "--questions", help="Answer these questions instead, such as a test split."
    ),
    overrides: list[str] = typer.Option([], "--set", help="key=value replaces a value of the recipe; repeatable."),
    as_json: bool = typer.Option(False, "--json", help="Print the file and the number of answers as JSON."),
) -> None:
    """Answer all validation questions, or a test split, in the format of the data set's evaluation.

    Example: lxcompress predict runs/thesis/tickets/low-magnitude-weight-70-seed0 runs/thesis --out predictions.json
    """
    from rich.markup import escape

    from lxcompress.cli.progress import working
    from lxcompress.cli.screen import json_document
    from lxcompress.cli.screen import out as screen
    from lxcompress.recipe import find_recipe, input_paths, load_recipe
    from lxcompress.workflow.checks import check_model
    from lxcompress.writing import check_out

    known = load_recipe(recipe, overrides)
    check_model(model)
    check_out(out, [model, find_recipe(recipe), *questions, *input_paths(known)], kind="file")
    with json_document(wanted=as_json) as emit, working(f"answering with {model}"):
        from lxcompress.training.predict import predict

        count = predict(model, known, out, questions)
        emit({"predictions": str(out), "answers": count, "model": model, "recipe": known.name})
    if as_json:
        return
    screen.print(f"[bold]{escape(str(out))}[/bold]  {count:,} answers", soft_wrap=True)

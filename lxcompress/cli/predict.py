"""`lxcompress predict`: a model's answers, as an evaluation takes them."""

from __future__ import annotations

from pathlib import Path

import typer

from lxcompress.cli.complete import complete_recipe


def predict_cli(
    model: str = typer.Argument(help="A fine-tuned model: a ticket, a run's dense model, a transformers folder."),
    recipe: Path = typer.Argument(
        help="The recipe of its data, or the run folder that it came from.", autocompletion=complete_recipe
    ),
    out: Path = typer.Option(..., "--out", help="File to write: JSON for VQA and GQA, CSV for NLVR and NLVR2."),
    questions: list[Path] = typer.Option([], "--questions", help="Other questions, such as a test split."),
    overrides: list[str] = typer.Option([], "--set", help="key=value over the recipe; may be repeated."),
) -> None:
    """Answer every validation question, or those of a test split, in the format of the data set's evaluation.

    Example: lxcompress predict runs/thesis/tickets/low-magnitude-weight-70-seed0 runs/thesis --out predictions.json
    """
    from rich.markup import escape

    from lxcompress.cli.progress import working
    from lxcompress.cli.screen import out as screen
    from lxcompress.recipe import find_recipe, input_paths, load_recipe
    from lxcompress.writing import check_out

    path = recipe / "recipe.yaml" if recipe.is_dir() else find_recipe(recipe)
    known = load_recipe(path, overrides)
    check_out(out, [model, path, *questions, *input_paths(known)], kind="file")
    from lxcompress.training.predict import predict

    with working(f"answering with {model}"):
        count = predict(model, known, out, questions)
    screen.print(f"[bold]{escape(str(out))}[/bold]  {count:,} answers", soft_wrap=True)

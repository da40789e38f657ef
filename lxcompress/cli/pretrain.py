"""`lxcompress pretrain`: train a start model with LXMERT's pre-training tasks, on generated scenes."""

from __future__ import annotations

from pathlib import Path

import typer

from lxcompress.cli.complete import complete_recipe


def pretrain_cli(
    recipe: Path = typer.Argument(
        help="A pre-training recipe, such as recipes/pretrain-mini.yaml.", autocompletion=complete_recipe
    ),
    out: Path = typer.Option(..., "--out", help="The transformers folder to write."),
    overrides: list[str] = typer.Option([], "--set", help="key=value replaces a value of the recipe; repeatable."),
) -> None:
    """Pre-train a small LXMERT as a start model: masked words, masked objects, matching, questions.

    Example: lxcompress pretrain recipes/pretrain-mini.yaml --out my-mini
    """
    from rich.markup import escape

    from lxcompress import writing
    from lxcompress.cli.progress import bars
    from lxcompress.cli.screen import out as screen
    from lxcompress.cli.screen import remarks, resumable
    from lxcompress.recipe import Pretrain, find_recipe, read_settings
    from lxcompress.units import percent

    settings = read_settings(recipe, Pretrain, overrides)
    writing.check_out(out, [find_recipe(recipe)], kind="folder")

    from lxcompress.data.tasks import load_task
    from lxcompress.training.pretrain import check_out, pretrain

    check_out(out)
    with resumable(), bars() as bar:
        shown = bar.add_task("generating scenes", total=None)
        task = load_task(settings.data)

        def show(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
            bar.update(shown, completed=done, total=total, description=f"loss {value:6.3f}")

        epochs = pretrain(settings, task, out, show)
    for epoch in epochs:
        remarks.print(f"epoch {epoch.epoch + 1}  loss {epoch.train_loss:.3f}  {percent(epoch.valid.accuracy)} %")
    screen.print(
        f"[bold]{escape(str(out))}[/bold]  accuracy {percent(epochs[-1].valid.accuracy)} % on the held-out questions"
    )

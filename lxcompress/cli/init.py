"""`lxcompress init`: ask five questions and write a recipe."""

from __future__ import annotations

from pathlib import Path

import typer

from lxcompress.filenames import RECIPE_FILE


def _print_schema(wanted: bool) -> None:
    """Print the JSON schema of recipes and end the command, if `wanted`."""
    if wanted:
        from lxcompress.output import json_text
        from lxcompress.recipe.schema import recipe_schema

        typer.echo(json_text(recipe_schema()))
        raise typer.Exit


def init_cli(
    out: Path = typer.Argument(Path(RECIPE_FILE), metavar="FILE", help="The recipe to write."),
    model: str = typer.Option(
        "mini",
        prompt="Model (mini, a folder, hub:OWNER/NAME, a .pth file)",
        help="The start model: mini, a folder, hub:OWNER/NAME, or a .pth file.",
    ),
    data: str = typer.Option(
        "scenes",
        prompt="Data (scenes, clevr, vqa, gqa, nlvr, nlvr2, or a table: .jsonl, .csv, .parquet)",
        help="A table of examples (.jsonl, .csv, .parquet), or scenes, clevr, vqa, gqa, nlvr, nlvr2.",
    ),
    device: str = typer.Option(
        "cpu",
        prompt="Target device (cpu, android, ios, browser, gpu)",
        help="The device that answers later: cpu, android, ios, browser or gpu.",
    ),
    budget: float = typer.Option(
        0.0,
        prompt="Largest file in MB (0: no limit)",
        min=0,
        help="The largest size of the file to ship, in MB; 0 is no limit.",
    ),
    hours: float = typer.Option(
        1.0, prompt="Hours that the study may take", min=0, help="How many hours the study may take."
    ),
    json_schema: bool = typer.Option(
        False,
        "--json-schema",
        is_eager=True,
        callback=_print_schema,
        help="Print the JSON schema of recipes, for editors, and write nothing.",
    ),
) -> None:
    """Ask five questions, and write a recipe with comments. With all five options it asks nothing.

    \b
    Example:
      lxcompress init mine.yaml --model mini --data scenes --device cpu --budget 0 --hours 1
    """
    from lxcompress.cli.recipes import copy_text
    from lxcompress.output import command_line
    from lxcompress.recipe import load_recipe
    from lxcompress.workflow.init import StudyWishes, compose_recipe, study_name

    wishes = StudyWishes(model=model, data=data, device=device, budget_mb=budget, hours=hours)
    copy_text(compose_recipe(wishes, study_name(out)), out)
    load_recipe(out)
    typer.echo(f"{out}: a recipe; next: {command_line('data', 'check', out)}")

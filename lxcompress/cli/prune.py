"""`lxcompress prune`: one model, no study."""

from __future__ import annotations

from pathlib import Path

import typer


def prune_cli(
    model: str = typer.Argument(help="A fine-tuned model: a transformers folder, or a ticket."),
    sparsity: float = typer.Option(..., "--sparsity", help="The share of prunable weights to remove, 0 to 1."),
    out: Path = typer.Option(..., "--out", help="Folder to write the ticket to; it must not exist, or be empty."),
    criterion: str = typer.Option("low-magnitude", "--criterion", help="low-magnitude, random or high-magnitude."),
    scope: str = typer.Option("layer", "--scope", help="layer: the same share of each; global: of all together."),
    seed: int = typer.Option(0, "--seed", min=0, max=2**31 - 1, help="Seed of the random criterion."),
) -> None:
    """Prune one model and keep what is left as a ticket; nothing is trained.

    Example: lxcompress prune runs/quickstart/seeds/0/dense --criterion low-magnitude --sparsity 0.5 --out pruned-50
    """
    from rich.markup import escape

    from lxcompress.cli.progress import working
    from lxcompress.cli.screen import out as screen
    from lxcompress.tickets import prune_model
    from lxcompress.units import percent

    with working(f"pruning {model}"):
        made = prune_model(model, out, criterion=criterion, sparsity=sparsity, scope=scope, seed=seed)
    count = made.sparsity
    screen.print(f"[bold]{escape(str(out))}[/bold]", soft_wrap=True)
    screen.print(
        f"removed   {count.prunable - count.kept:,} of {count.prunable:,} prunable weights "
        f"({percent(count.achieved)} %), which is {percent(count.of_live)} % of all that an answer depends on"
    )
    screen.print("accuracy  not known: nothing was trained or scored; a study retrains what is left")
    screen.print(f"next      lxcompress export {escape(str(out))} --onnx", soft_wrap=True)

"""`lxcompress prune`: one model, no study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lxcompress.catalog.criteria import list_criteria
from lxcompress.cli.complete import complete_criterion, complete_granularity, complete_recipe

if TYPE_CHECKING:
    from lxcompress.records import Provenance

GRANULARITIES = "weight, block-1x4, block-4x1, N:M such as 2:4; neuron, head, layer or neuron+head make it smaller."


def prune_cli(
    model: str = typer.Argument(help="A fine-tuned model: a transformers folder, or a ticket."),
    out: Path = typer.Option(..., "--out", help="Folder to write the ticket to; it must not exist, or be empty."),
    sparsity: float | None = typer.Option(None, "--sparsity", help="The share of prunable weights to remove, 0 to 1."),
    criterion: str = typer.Option(
        "low-magnitude",
        "--criterion",
        help=list_criteria(),
        autocompletion=complete_criterion,
    ),
    granularity: str = typer.Option(
        "weight",
        "--granularity",
        help=GRANULARITIES,
        autocompletion=complete_granularity,
    ),
    scope: str = typer.Option("layer", "--scope", help="layer, row: the same share of each; global: of all together."),
    keep_dense: list[str] = typer.Option([], "--keep-dense", help="A weight matrix to keep dense; may be repeated."),
    spare: list[str] = typer.Option([], "--spare", hidden=True),
    multiple: int = typer.Option(8, "--multiple", min=1, help="Widths of a smaller model are multiples of it."),
    calibrate: Path | None = typer.Option(
        None, "--calibrate", help="A recipe whose training questions are looked at.", autocompletion=complete_recipe
    ),
    retrain: Path | None = typer.Option(
        None,
        "--retrain",
        help="A recipe, or its run folder: train what is left on its data, the answer head and the mask kept.",
        autocompletion=complete_recipe,
    ),
    overrides: list[str] = typer.Option([], "--set", help="key=value over the recipe of --retrain; may be repeated."),
    like: Path | None = typer.Option(None, "--like", help="A ticket: keep what it keeps, in the place of a criterion."),
    seed: int = typer.Option(
        0, "--seed", min=0, max=2**31 - 1, help="Seed of random, of the sample and of retraining."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print what was removed as JSON."),
) -> None:
    """Prune one model and keep what is left as a ticket, as it is or trained further on a recipe's data.

    \b
    Example: lxcompress prune my-model --sparsity 0.5 --out pruned-50
    Or:      lxcompress prune my-model --sparsity 0.5 --retrain my-recipe.yaml --out retrained-50
    """
    if overrides and retrain is None:
        raise typer.BadParameter("changes the recipe of --retrain, and there is none", param_hint="--set")
    from lxcompress.cli.early import check_empty, check_model, check_paths
    from lxcompress.cli.progress import working
    from lxcompress.cli.screen import json_document, remarks
    from lxcompress.errors import TicketError
    from lxcompress.recipe import input_paths, load_recipe
    from lxcompress.study.wish import check_wish
    from lxcompress.writing import check_out

    if spare:
        remarks.print("--spare is now called --keep-dense; the old name is still read", style="yellow")
    check_wish(
        criterion=criterion,
        sparsity=sparsity,
        granularity=granularity,
        scope=scope,
        like=like,
        has_calibration=calibrate is not None,
        is_retrained=retrain is not None,
        is_wish=granularity != "weight" or scope != "layer" or bool(keep_dense or spare) or multiple != 8,
    )
    check_empty(out)
    check_model(model)
    check_paths([like] if like else [], what="give a ticket", kind=TicketError)
    calibration = None if calibrate is None else load_recipe(calibrate)
    retraining = None if retrain is None else load_recipe(retrain, overrides)
    inputs = [path for recipe in (calibration, retraining) if recipe for path in input_paths(recipe)]
    check_out(out, [model, like, calibrate, retrain, *inputs], kind="folder")

    with json_document(wanted=as_json) as emit, working(f"pruning {model}") as progress:
        from lxcompress.study.prune import prune_model

        made = prune_model(
            model,
            out,
            criterion=criterion,
            sparsity=sparsity,
            granularity=granularity,
            scope=scope,
            seed=seed,
            multiple=multiple,
            keep_dense=[*keep_dense, *spare],
            like=like,
            calibration=calibration,
            retraining=retraining,
            progress=progress,
        )
        emit({"ticket": str(out), **made.model_dump(mode="json")})
    if not as_json:
        _show(model, out, made)


def _show(model: str, out: Path, made: Provenance) -> None:
    """Print what was removed, and what to do next."""
    from rich.markup import escape

    from lxcompress.cli.screen import out as screen
    from lxcompress.models.checkpoints import read_stored_types
    from lxcompress.output import command_line
    from lxcompress.units import percent

    count = made.sparsity
    screen.print(f"[bold]{escape(str(out))}[/bold]", soft_wrap=True)
    screen.print(
        f"removed   {count.prunable - count.kept:,} of {count.prunable:,} prunable weights "
        f"({percent(count.achieved)} %), which is {percent(count.of_live)} % of all that an answer depends on"
    )
    if made.kept_dense:
        first, more = made.kept_dense[0], len(made.kept_dense) - 1
        many = f"{more + 1} matrices, {first} and {more} more" if more else f"1 matrix, {first}"
        why = f"listed, or not divided by {made.granularity}; they are counted above"
        screen.print(f"kept dense {many}: {why}", markup=False, soft_wrap=True)
    types = sorted(read_stored_types(model) - {"fp32"})
    if types:
        line = f"weights   stored in {' and '.join(types)} in the model, in fp32 in the ticket"
        screen.print(line, markup=False, soft_wrap=True)
    if made.retraining is None:
        screen.print("accuracy  not known: nothing was trained or scored; --retrain RECIPE trains what is left")
    else:
        stages = (("before", made.retraining.dense), ("pruned", made.retraining.pruned))
        told = [f"{percent(score.accuracy)} % {name}" for name, score in (*stages, ("retrained", made.accuracy))]
        line = f"accuracy  {', '.join(told)}; on {made.accuracy.questions:,} validation questions"
        screen.print(line, markup=False, soft_wrap=True)
    screen.print(f"next      {command_line('export', out, '--onnx')}", markup=False, soft_wrap=True)

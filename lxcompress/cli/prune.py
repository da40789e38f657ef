"""`lxcompress prune`: prune one model, without a study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lxcompress.catalog.criteria import list_criteria
from lxcompress.cli.complete import complete_criterion, complete_format, complete_granularity, complete_recipe

if TYPE_CHECKING:
    from lxcompress.records import Provenance
    from lxcompress.workflow.budget import PruneBudget
    from lxcompress.workflow.prune import PruneOptions

GRANULARITIES = (
    "weight, block-ROWSxCOLUMNS such as block-4x4, N:M such as 2:4; neuron, head, layer or neuron+head make a smaller "
    "model."
)


def prune_cli(
    model: str = typer.Argument(help="A fine-tuned model: a transformers folder, or a ticket."),
    out: Path = typer.Option(..., "--out", help="Folder to write the ticket to; must not exist, or be empty."),
    sparsity: float | None = typer.Option(None, "--sparsity", help="Share of the prunable weights to remove, 0 to 1."),
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
    first: str | None = typer.Option(
        None,
        "--first",
        help="Make a smaller model first, such as neuron+head:0.5; --sparsity then counts both steps.",
    ),
    scope: str = typer.Option(
        "layer", "--scope", help="layer, row: the same share of each; global: of all matrices together."
    ),
    least_kept: float = typer.Option(
        0.0, "--least-kept", help="With --scope global: the least share of its weights that each matrix keeps."
    ),
    keep_dense: list[str] = typer.Option(
        [],
        "--keep-dense",
        help="A weight matrix not to prune; repeatable. By default (auto): what the granularity does not divide.",
    ),
    spare: list[str] = typer.Option([], "--spare", hidden=True),
    multiple: int = typer.Option(8, "--multiple", min=1, help="Widths of a smaller model are multiples of this."),
    calibrate: Path | None = typer.Option(
        None,
        "--calibrate",
        help="A recipe whose training questions the criterion reads.",
        autocompletion=complete_recipe,
    ),
    retrain: Path | None = typer.Option(
        None,
        "--retrain",
        help="A recipe, or its run folder: retrain on its data, with the model's answer head and the mask fixed.",
        autocompletion=complete_recipe,
    ),
    overrides: list[str] = typer.Option(
        [], "--set", help="key=value replaces a value of the --retrain recipe; repeatable."
    ),
    like: Path | None = typer.Option(None, "--like", help="A ticket whose mask is used again, instead of a criterion."),
    seed: int = typer.Option(
        0, "--seed", min=0, max=2**31 - 1, help="Seed of the random criterion, the calibration sample and retraining."
    ),
    max_size_mb: float | None = typer.Option(
        None, "--max-size-mb", help="Find the sparsity: the exported file has at most so many MB (10^6 bytes)."
    ),
    max_latency_ms: float | None = typer.Option(
        None, "--max-latency-ms", help="Find the sparsity: the file's median latency is at most this, on 1 thread here."
    ),
    format: str | None = typer.Option(
        None, "--format", help="The format of the file of a budget.", autocompletion=complete_format
    ),
    precision: str | None = typer.Option(None, "--precision", help="The precision of the file of a budget."),
    as_json: bool = typer.Option(False, "--json", help="Print what was removed as JSON."),
) -> None:
    """Prune one model and save it as a ticket; --retrain trains it after pruning.

    \b
    Example: lxcompress prune my-model --sparsity 0.5 --out pruned-50
    Or:      lxcompress prune my-model --sparsity 0.5 --retrain my-recipe.yaml --out retrained-50
    Or:      lxcompress prune my-model --max-size-mb 60 --format engine --precision int8 --out pruned
    Or:      lxcompress prune my-model --first neuron+head:0.5 --granularity block-4x4 --sparsity 0.8 --out compound-80
    """
    if overrides and retrain is None:
        raise typer.BadParameter("changes the recipe of --retrain, which is not given", param_hint="--set")
    from lxcompress.cli.progress import working
    from lxcompress.cli.screen import json_document, remarks
    from lxcompress.recipe import load_recipe
    from lxcompress.workflow.budget import PruneBudget, with_valid_sparsity
    from lxcompress.workflow.prune import PruneOptions, check_options, prune_model, read_first

    if spare:
        remarks.print("--spare is now called --keep-dense; the old name is still read", style="yellow")
    options = PruneOptions(
        sparsity=sparsity,
        criterion=criterion,
        granularity=granularity,
        scope=scope,
        least_kept=least_kept,
        keep_dense=tuple(name for name in (*keep_dense, *spare) if name != "auto"),
        first=read_first(first, criterion=criterion, scope=scope) if first else None,
        multiple=multiple,
        like=like,
        seed=seed,
        calibration=None if calibrate is None else load_recipe(calibrate),
        retraining=None if retrain is None else load_recipe(retrain, overrides),
    )
    recipe_files = [path for path in (calibrate, retrain) if path]
    if any(value is not None for value in (max_size_mb, max_latency_ms, format, precision)):
        budget = PruneBudget(format or "onnx", precision, max_size_mb, max_latency_ms)
        budget.check(options)
        check_options(model, out, with_valid_sparsity(options), recipe_files=recipe_files)
        _prune_to_budget(model, out, options, budget, as_json=as_json)
        return
    check_options(model, out, options, recipe_files=recipe_files)
    with json_document(wanted=as_json) as emit, working(f"pruning {model}") as progress:
        made = prune_model(model, out, options, progress=progress)
        emit({"ticket": str(out), **made.model_dump(mode="json")})
    if not as_json:
        _show(model, out, made)
        _show_next("export", out, "--onnx")


def _prune_to_budget(model: str, out: Path, options: PruneOptions, budget: PruneBudget, *, as_json: bool) -> None:
    """Find the sparsity of a budget, write the ticket and its file, and show both and all files that were tried."""
    from dataclasses import asdict

    from lxcompress.cli.progress import working
    from lxcompress.cli.screen import json_document
    from lxcompress.cli.screen import out as screen
    from lxcompress.units import short_percent
    from lxcompress.workflow.budget import check_budget, prune_to_budget

    check_budget(model, out, options, budget)
    with json_document(wanted=as_json) as emit, working(f"pruning {model}") as progress:
        made = prune_to_budget(model, out, options, budget, progress=progress)
        emit(
            {
                "ticket": str(out),
                "file": str(made.folder),
                "final": asdict(made.final),
                "trials": [asdict(trial) for trial in made.trials],
                "assumed": made.assumed,
                **made.ticket.model_dump(mode="json"),
            }
        )
    if as_json:
        return
    _show(model, out, made.ticket)
    tried = ", ".join(f"{short_percent(trial.sparsity)} % {trial.costs}" for trial in made.trials)
    lines = (
        f"file      {made.folder}: {budget.file}, {made.final.costs}, within the budget",
        f"tried     {tried}",
        f"assumed   {'; '.join(made.assumed)}",
    )
    for line in lines:
        screen.print(line, markup=False, soft_wrap=True)
    _show_next("bench", made.folder)


def _show(model: str, out: Path, made: Provenance) -> None:
    """Show how many weights were removed, and the accuracy if it is known."""
    from rich.markup import escape

    from lxcompress.cli.screen import out as screen
    from lxcompress.models.checkpoints import read_stored_types
    from lxcompress.units import percent

    count = made.sparsity
    screen.print(f"[bold]{escape(str(out))}[/bold]", soft_wrap=True)
    screen.print(
        f"removed   {count.prunable - count.kept:,} of {count.prunable:,} prunable weights "
        f"({percent(count.achieved)} %), {percent(count.of_live)} % of all weights in use"
    )
    if made.kept_dense:
        first, more = made.kept_dense[0], len(made.kept_dense) - 1
        many = f"{more + 1} matrices, {first} and {more} more" if more else f"1 matrix, {first}"
        why = f"listed, or {made.granularity} does not divide their shape; they are counted above"
        screen.print(f"kept dense {many}: {why}", markup=False, soft_wrap=True)
    types = sorted(read_stored_types(model) - {"fp32"})
    if types:
        line = f"weights   {' and '.join(types)} in the model, fp32 in the ticket"
        screen.print(line, markup=False, soft_wrap=True)
    if made.retraining is None or made.accuracy is None:
        screen.print("accuracy  not known: nothing was retrained or evaluated; --retrain RECIPE does both")
    else:
        stages = (("before", made.retraining.dense), ("pruned", made.retraining.pruned))
        accuracies = [f"{percent(score.accuracy)} % {name}" for name, score in (*stages, ("retrained", made.accuracy))]
        line = f"accuracy  {', '.join(accuracies)}; on {made.accuracy.questions:,} validation questions"
        screen.print(line, markup=False, soft_wrap=True)


def _show_next(*words: str | Path) -> None:
    """Show the command to run next."""
    from lxcompress.cli.screen import out as screen
    from lxcompress.output import command_line

    screen.print(f"next      {command_line(*words)}", markup=False, soft_wrap=True)

"""`lxcompress study`: finetune, prune, rewind, retrain, for every cell of a recipe."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import typer

from lxcompress.cli.complete import complete_recipe


def study_cli(
    recipe: Path = typer.Argument(
        help="A recipe: a YAML file, or the name of one that ships (quickstart).", autocompletion=complete_recipe
    ),
    out: Path | None = typer.Option(None, "--out", help="The run folder; runs/NAME by default."),
    overrides: list[str] = typer.Option([], "--set", help="key=value over the recipe; may be repeated."),
    only: str = typer.Option("*", "--only", help="Only the cells whose id matches this pattern."),
    no_twins: bool = typer.Option(
        False, "--no-twins", help="End without the picked ticket's twins; as --set export.twins=false."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would run and how long, and leave."),
    as_json: bool = typer.Option(False, "--json", help="Print the state at the end, or the plan, as JSON."),
) -> None:
    """Run a lottery-ticket study. Interrupt it at any moment; the same command goes on where it stood.

    Example: lxcompress study recipes/quickstart.yaml --out runs/quickstart --set train.epochs=2
    """
    from lxcompress.cli.early import check_model
    from lxcompress.cli.screen import json_document
    from lxcompress.recipe import find_recipe, load_recipe

    read = load_recipe(recipe, [*overrides, *(["export.twins=false"] if no_twins else [])])
    root = out or Path("runs") / read.name
    _check_root(root, find_recipe(recipe), read)
    if not dry_run:
        check_model(read.model.start)
    with json_document(wanted=as_json) as emit:
        emit(_show_plan(read, recipe, root, only) if dry_run else _run(read, root, only))


def _check_root(root: Path, path: Path, recipe) -> None:  # noqa: ANN001 (a Recipe)
    """Raise WriteError for a run folder that would harm what the study reads, or that is a model or an artifact."""
    from lxcompress.filenames import ARTIFACT_FILE, CONFIG_FILE, TICKET_FILE
    from lxcompress.recipe import input_paths
    from lxcompress.rundir import RunDir
    from lxcompress.writing import WriteError, check_out

    check_out(root, input_paths(recipe), kind="run")
    run = RunDir(root)
    found = next((name for name in (TICKET_FILE, ARTIFACT_FILE, CONFIG_FILE) if (root / name).exists()), None)
    if found and not run.recipe.exists():
        raise WriteError(
            f"--out {root}: is a model or an artifact (it has {found}); give a new folder, or a run folder"
        )
    if run.recipe.exists() and not run.machine.exists() and path.exists() and path.samefile(run.recipe):
        raise WriteError(
            f"--out {root}: its recipe.yaml is the recipe itself, and would be replaced; give another --out"
        )


def _run(recipe, root: Path, only: str) -> dict[str, Any]:  # noqa: ANN001 (a Recipe; importing it here would slow --help)
    from rich.markup import escape

    from lxcompress.cli.progress import watch_study
    from lxcompress.cli.screen import out as screen
    from lxcompress.cli.screen import resumable
    from lxcompress.output import command_line
    from lxcompress.study.run import run_study
    from lxcompress.study.worker import this_worker

    if not this_worker().leads:
        with resumable():
            run_study(recipe, root, only=only)
        return {"run": str(root), "leads": False}
    with resumable(), watch_study() as watch:
        done = run_study(recipe, root, only=only, watch=watch)
    did = f"{done} runs done" if done else "nothing was missing"
    screen.print(f"{did}; results in [bold]{escape(str(root))}[/bold]", soft_wrap=True)
    twins = None
    if recipe.export.twins:
        with resumable():
            twins = _make_twins(root, recipe.export.format)
    screen.print(
        f"next      {command_line('report', root)}    then    {command_line('pick', root)}",
        markup=False,
        soft_wrap=True,
    )
    return {"run": str(root), "leads": True, "done": done, **_state(root), "twins": twins}


def _state(root: Path) -> dict[str, Any]:
    """How far the study in `root` is, as `lxcompress status --json` prints it."""
    from lxcompress.analysis.study_progress import study_progress, study_progress_json
    from lxcompress.rundir import read_run

    return {"state": study_progress_json(study_progress(read_run(root), busy=False))}


def _make_twins(root: Path, format: str) -> dict[str, Any] | None:
    """Picks, and makes the picked ticket's twins: a structured one is drawn if there is none, and all are exported."""
    from lxcompress.analysis.pick import default_rule, pick_of_grid, verdict
    from lxcompress.analysis.summary import summarise
    from lxcompress.cli.progress import watch_study
    from lxcompress.cli.screen import out as screen
    from lxcompress.cli.twins import export_and_show, twins_json
    from lxcompress.errors import PruneError
    from lxcompress.rundir import read_run
    from lxcompress.study.twins import draw_twin, find_twin, is_structured, twin_cell

    run = read_run(root)
    summary = summarise(run)
    if not summary.is_complete:
        screen.print("twins     come with the pick, when every cell is done")
        return None
    choice = pick_of_grid(summary, default_rule(summary))
    if choice.picked is None:
        screen.print(f"twins     none, as nothing is picked. {verdict(choice)}", markup=False)
        return None
    picked = run.results[choice.picked.cell]
    if find_twin(run, picked) is None and not is_structured(picked):
        try:
            with watch_study() as watch:
                draw_twin(root, twin_cell(picked), watch=watch)
        except PruneError as error:
            screen.print(f"twins     no structured one: {error}", markup=False, soft_wrap=True)
    screen.print(f"twins     of {picked.cell}, which keeps {choice.rule.words}", markup=False, soft_wrap=True)
    return twins_json(export_and_show(choice.picked.ticket, format=format))


def _show_plan(recipe, path: Path, root: Path, only: str) -> dict[str, Any]:  # noqa: ANN001
    from rich.markup import escape

    from lxcompress.cli.progress import working
    from lxcompress.cli.screen import out as screen
    from lxcompress.output import command_line
    from lxcompress.study.plan import estimate_study, find_absent, plan_study
    from lxcompress.units import duration, size_text

    absent = find_absent(recipe)
    with working("timing a few real steps" if absent is None else "estimating without the data"):
        plan = estimate_study(recipe, root, absent, only=only) if absent else None
        plan = plan or plan_study(recipe, root, only=only)
    screen.print(f"study     {recipe.name}, into {escape(str(root))}", soft_wrap=True)
    rounds = f" ({plan.rounds} rounds before them)" if plan.rounds else ""
    screen.print(
        f"to do     {plan.dense_runs} dense runs and {plan.cells} cells{rounds}, {plan.steps_a_run} steps each"
    )
    if plan.twins:
        screen.print("twins     1 structured ticket beside the picked one, and 6 exports; --no-twins leaves them out")
    screen.print(f"data      {plan.train_questions:,} training and {plan.valid_questions:,} validation questions")
    speed = f"{1000 * plan.step_s:.3g} ms a step, {plan.scoring_s:.1f} s a scoring"
    screen.print(f"device    {plan.device}, {plan.precision}, {speed}")
    if plan.peak_bytes is not None:
        screen.print(f"memory    {size_text(plan.peak_bytes)} of GPU memory at most in the timed steps")
    beside = ", and 6 exports" if plan.twins else ""
    screen.print(f"time      about {duration(plan.duration_s)}{_hours(plan.device, plan.duration_s)}{beside}")
    if plan.duration_s:
        end = datetime.now() + timedelta(seconds=plan.duration_s)
        screen.print(f"finished  about {end:%A %d %B, %H:%M}, if it starts now and runs through in one process")
    if plan.absent is not None:
        told = f"{plan.absent} is not here: questions as published, and the time of matrix products alone"
        fetch = f"{command_line('data', 'check', path)} says what to fetch"
        screen.print(f"estimate  {told}; {fetch}", markup=False, soft_wrap=True)
    screen.print(f"disk      about {size_text(plan.disk_bytes)}, of {size_text(plan.free_bytes)} that are free")
    if plan.disk_bytes > plan.free_bytes:
        screen.print("warning   the disk is too small for it; give --out a folder on a larger one", style="yellow")
    return {"study": recipe.name, "run": str(root), "is_dry_run": True, "plan": asdict(plan)}


def _hours(device: str, seconds: float) -> str:
    """GPU hours, where it is a GPU that works."""
    return "" if device == "cpu" else f", {seconds / 3600:.1f} GPU hours"

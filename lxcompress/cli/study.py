"""`lxcompress study`: fine-tune, prune, rewind and retrain, for every run of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lxcompress.cli.complete import complete_recipe

if TYPE_CHECKING:
    from lxcompress.leases import Leases
    from lxcompress.recipe import Cell, Recipe
    from lxcompress.study.plan import StudyPlan
    from lxcompress.study.ray_pool import RayOptions
    from lxcompress.study.reporter import StudyReporter


def study_cli(
    recipe: Path = typer.Argument(
        help="A recipe: a YAML file, or the name of one that ships (quickstart).", autocompletion=complete_recipe
    ),
    out: Path | None = typer.Option(None, "--out", help="The run folder.  [default: runs/NAME]"),
    overrides: list[str] = typer.Option([], "--set", help="key=value replaces a value of the recipe; repeatable."),
    only: str = typer.Option("*", "--only", help="Do only the runs whose id matches this pattern, such as '*-seed0'."),
    no_twins: bool = typer.Option(
        False, "--no-twins", help="Do not export the pick and its twins; same as --set export.twins=false."
    ),
    join: bool = typer.Option(
        False, "--join", help="Share the runs with other processes that join, on any machine that has the run folder."
    ),
    executor: str = typer.Option("local", "--executor", help="Where the runs are done: local, or ray (a Ray cluster)."),
    address: str | None = typer.Option(
        None, "--address", help="The Ray cluster; auto is the one of this machine.  [default: start Ray here]"
    ),
    cpus_per_run: float | None = typer.Option(None, "--cpus-per-run", help="Cores for a run on Ray.  [default: 1]"),
    gpus_per_run: float | None = typer.Option(
        None, "--gpus-per-run", help="GPUs for a run on Ray.  [default: 1 if there are GPUs]"
    ),
    max_retries: int | None = typer.Option(
        None, "--max-retries", help="How often a run on Ray whose node is lost is tried again.  [default: 3]"
    ),
    no_shared_folder: bool = typer.Option(
        False, "--no-shared-folder", help="The nodes of Ray do not have the run folder; send files between them."
    ),
    gpus: str | None = typer.Option(
        None, "--gpus", help="With --dry-run: the numbers of GPUs to estimate the time for, such as 1,8,64."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show what would run and how long it takes; run nothing."),
    as_json: bool = typer.Option(False, "--json", help="Print the state at the end, or the plan, as JSON."),
) -> None:
    """Run a lottery-ticket study. You can interrupt it at any time; the same command resumes it.

    Example: lxcompress study recipes/quickstart.yaml --out runs/quickstart --set train.epochs=2
    """
    from lxcompress.cli.screen import json_document
    from lxcompress.recipe import find_recipe, load_recipe
    from lxcompress.workflow.checks import check_model, check_run_folder
    from lxcompress.workflow.study import default_run_folder

    read = load_recipe(recipe, [*overrides, *(["export.twins=false"] if no_twins else [])])
    root = out or default_run_folder(read)
    given = {
        "address": address,
        "cpus": cpus_per_run,
        "gpus": gpus_per_run,
        "max_retries": max_retries,
        "has_shared_folder": False if no_shared_folder else None,
    }
    _check_executor(executor, given, join=join)
    if gpus is not None and not dry_run:
        raise typer.BadParameter("--gpus: needs --dry-run; --gpus-per-run is for --executor ray")
    check_run_folder(root, read, find_recipe(recipe))
    if not dry_run:
        check_model(read.model.start)
    with json_document(wanted=as_json) as emit:
        if dry_run:
            emit(_plan(read, recipe, root, only, _read_counts(gpus)))
        else:
            emit(_choose_executor(read, root, only, executor, given, join=join))


def _check_executor(executor: str, given: Mapping[str, object], *, join: bool) -> None:
    """Raise BadParameter for an unknown executor, or for options that have no effect with it."""
    if executor not in ("local", "ray"):
        raise typer.BadParameter(f"--executor {executor}: is unknown; give local or ray")
    if executor == "ray" and join:
        raise typer.BadParameter(
            "--join: has no effect with --executor ray, which shares the runs itself; leave it out"
        )
    if executor == "local" and any(value is not None for value in given.values()):
        raise typer.BadParameter(
            "--address, --cpus-per-run, --gpus-per-run, --max-retries and --no-shared-folder: need --executor ray"
        )


def _choose_executor(
    recipe: Recipe, root: Path, only: str, executor: str, given: Mapping[str, Any], *, join: bool
) -> dict[str, Any]:
    """Run the study in this process, beside others, or on Ray; return the document for --json."""
    if executor == "local":
        return join_study(recipe, root, only) if join else _run(recipe, root, StudyCalls(recipe, root, only))
    from lxcompress.study.ray_pool import RayOptions, connected

    options = RayOptions(**{name: value for name, value in given.items() if value is not None})
    with connected(options):
        return _run(recipe, root, StudyCalls(recipe, root, only, ray=options))


@dataclass(frozen=True)
class StudyCalls:
    """A study, and who does its runs: this process, this process beside others that joined (`shared`), or Ray."""

    recipe: Recipe
    root: Path
    only: str
    shared: Leases | None = None
    ray: RayOptions | None = None

    def do_runs(self, progress: StudyReporter) -> int:
        """Do the missing runs; return how many were done."""
        if self.ray is not None:
            from lxcompress.study.cluster import run_study_on_ray

            return run_study_on_ray(self.recipe, self.root, self.ray, only=self.only, progress=progress)
        from lxcompress.study.run import run_study

        return run_study(self.recipe, self.root, only=self.only, progress=progress, shared=self.shared)

    def draw_twin(self, cell: Cell, progress: StudyReporter) -> None:
        """Draw the structured twin of the picked ticket."""
        if self.ray is not None:
            from lxcompress.study.cluster import draw_twin_on_ray

            draw_twin_on_ray(self.root, cell, self.ray, progress=progress)
            return
        from lxcompress.study.twins import draw_twin

        draw_twin(self.root, cell, progress=progress, shared=self.shared)


def join_study(recipe: Recipe, root: Path, only: str) -> dict[str, Any]:
    """Run the study beside other processes that joined it; return the document for --json."""
    from lxcompress.cli.screen import resumable
    from lxcompress.study.worker import joined

    with resumable(), joined(root) as shared:
        return _run(recipe, root, StudyCalls(recipe, root, only, shared=shared))


def _run(recipe: Recipe, root: Path, calls: StudyCalls) -> dict[str, Any]:
    """Run the study and show its progress and result; return the document for --json.

    Of several processes that joined the study, the first that sees all runs done exports the twins.
    """
    from rich.markup import escape

    from lxcompress.cli.progress import watch_study
    from lxcompress.cli.screen import out as screen
    from lxcompress.cli.screen import resumable
    from lxcompress.output import command_line
    from lxcompress.study.reporter import SilentReporter
    from lxcompress.study.worker import this_worker
    from lxcompress.workflow.study import study_state

    if not this_worker().leads:
        with resumable():
            calls.do_runs(SilentReporter())
        return {"run": str(root), "leads": False}
    with resumable(), watch_study() as progress:
        done = calls.do_runs(progress)
    summary = f"{done} runs done" if done else "all runs were done already"
    screen.print(f"{summary}; results in [bold]{escape(str(root))}[/bold]", soft_wrap=True)
    twins = None
    if recipe.export.twins and (calls.shared is None or calls.shared.take("twins")):
        with resumable():
            twins = _make_twins(root, calls)
    elif recipe.export.twins:
        screen.print("twins     are exported by another process that joined the study")
    screen.print(
        f"next      {command_line('report', root)}    then    {command_line('pick', root)}",
        markup=False,
        soft_wrap=True,
    )
    return {"run": str(root), "leads": True, "done": done, **study_state(root), "twins": twins}


def _make_twins(root: Path, calls: StudyCalls) -> dict[str, Any] | None:
    """Export the pick and its twins, show them, and return the document for --json; None if nothing is picked.

    Twins are the alternatives that the picked ticket is compared with.
    """
    from lxcompress.analysis.verdict import verdict
    from lxcompress.cli.progress import watch_study
    from lxcompress.cli.screen import out as screen
    from lxcompress.cli.twins import export_and_show, twins_json
    from lxcompress.workflow.study import draw_structured_twin, pick_when_complete
    from lxcompress.workflow.twins import TwinSources, twin_helper

    found = pick_when_complete(root)
    if found is None:
        screen.print("twins     are exported with the pick, when every run is done")
        return None
    if found.choice.picked is None or found.result is None:
        screen.print(f"twins     none, because nothing was picked. {verdict(found.choice)}", markup=False)
        return None
    sources = TwinSources(found.choice.picked.ticket, int4=calls.recipe.export.int4)
    with twin_helper(sources, calls.recipe) as helper:
        with watch_study() as progress:
            reason = draw_structured_twin(root, found.result, progress, calls.draw_twin)
        if reason:
            screen.print(f"twins     no structured one: {reason}", markup=False, soft_wrap=True)
        words = f"twins     of {found.result.cell}, which keeps {found.choice.rule.words}"
        screen.print(words, markup=False, soft_wrap=True)
        return twins_json(export_and_show(sources, formats=calls.recipe.export.formats, helper=helper))


def _read_counts(text: str | None) -> list[int]:
    """Return the numbers of --gpus. Raises BadParameter."""
    words = [] if text is None else text.split(",")
    if not all(word.strip().isdecimal() and int(word) for word in words):
        raise typer.BadParameter(f"--gpus {text}: expected numbers above 0 with commas, such as 1,8,64")
    return [int(word) for word in words]


def _plan(recipe: Recipe, path: Path, root: Path, only: str, gpus: Sequence[int] = ()) -> dict[str, Any]:
    """Show which runs the study would do and how long they take, also on `gpus` GPUs; return the plan for --json."""
    from lxcompress.cli.progress import working
    from lxcompress.workflow.study import is_data_missing, plan_study

    is_estimate = is_data_missing(recipe)
    with working("estimating without the data" if is_estimate else "timing a few real steps"):
        plan = plan_study(recipe, root, only=only)
    _show_plan(recipe, plan, path, root)
    document = {"study": recipe.name, "run": str(root), "is_dry_run": True, "plan": asdict(plan)}
    return document | ({"clusters": _show_clusters(recipe, root, plan, gpus, only)} if gpus else {})


def _show_clusters(
    recipe: Recipe, root: Path, plan: StudyPlan, gpus: Sequence[int], only: str
) -> list[dict[str, float]]:
    """Show how long the study takes on several numbers of GPUs; return the estimates for --json."""
    from lxcompress.cli.screen import out as screen
    from lxcompress.study.simulate import estimate_clusters
    from lxcompress.units import duration, percent

    kind = plan.device.partition(":")[0]
    estimates = estimate_clusters(recipe, root, plan, gpus, only=only)
    for estimate in estimates:
        hours = f"{estimate.workers * estimate.wall_s / 3600:,.1f} hours reserved"
        busy = f"{percent(estimate.utilisation, 0)} % used"
        screen.print(f"{f'{estimate.workers} x {kind}':<9} about {duration(estimate.wall_s)}, {hours}, {busy}")
    return [{**asdict(estimate), "utilisation": estimate.utilisation} for estimate in estimates]


def _show_plan(recipe: Recipe, plan: StudyPlan, path: Path, root: Path) -> None:
    """Show the plan of a study: the number of runs, the data, the time and the disk space."""
    from rich.markup import escape

    from lxcompress.catalog.formats import find_format
    from lxcompress.cli.screen import out as screen
    from lxcompress.output import command_line
    from lxcompress.units import duration, size_text

    screen.print(f"study     {recipe.name}, into {escape(str(root))}", soft_wrap=True)
    rounds = f", with {plan.rounds} pruning rounds before them" if plan.rounds else ""
    screen.print(
        f"to do     {plan.dense_runs} dense runs and {plan.cells} ticket runs{rounds}; {plan.steps_a_run} steps each"
    )
    with_int4 = [
        name for name in recipe.export.formats if recipe.export.int4 and "int4" in find_format(name).precisions
    ]
    exports = f"{6 * len(recipe.export.formats) + len(with_int4)} exports"
    if plan.twins:
        screen.print(f"twins     1 structured ticket to compare the pick with, and {exports}; --no-twins skips them")
    counts = f"{plan.train_questions:,} training and {plan.valid_questions:,} validation questions"
    screen.print(f"data      {counts}" + (f", {plan.test_questions:,} to test on" if plan.test_questions else ""))
    speed = f"{1000 * plan.step_s:.3g} ms per step, {plan.scoring_s:.1f} s per evaluation"
    shared = f", {plan.processes} processes" if plan.processes > 1 else ""
    screen.print(f"device    {plan.device}, {plan.precision}{shared}, {speed}")
    if plan.peak_bytes is not None:
        screen.print(f"memory    at most {size_text(plan.peak_bytes)} of GPU memory in the timed steps")
    more = f", and {exports}" if plan.twins else ""
    screen.print(f"time      about {duration(plan.duration_s)}{_gpu_hours(plan.device, plan.duration_s)}{more}")
    if plan.duration_s:
        end = datetime.now() + timedelta(seconds=plan.duration_s)
        screen.print(f"finished  about {end:%A %d %B, %H:%M}, if it starts now and is not interrupted")
    if plan.absent is not None:
        basis = f"{plan.absent} is missing: counts as published, and the time of matrix products alone"
        fetch = f"{command_line('data', 'check', path)} says what to download"
        screen.print(f"estimate  {basis}; {fetch}", markup=False, soft_wrap=True)
    screen.print(f"disk      about {size_text(plan.disk_bytes)}; {size_text(plan.free_bytes)} are free")
    if plan.disk_bytes > plan.free_bytes:
        screen.print("warning   the disk is too small; give --out a folder on a larger one", style="yellow")


def _gpu_hours(device: str, seconds: float) -> str:
    """Return the GPU hours of `seconds` as text; empty if the device is a CPU."""
    return "" if device == "cpu" else f", {seconds / 3600:.1f} GPU hours"

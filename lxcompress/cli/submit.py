"""`lxcompress submit`: start workers of a study as jobs of a SLURM cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lxcompress.cli.complete import complete_recipe

if TYPE_CHECKING:
    from lxcompress.recipe import Recipe

MOST_REQUEUES = 1000
"""How often SLURM may start a worker again when its time is over; a worker that has nothing to do ends."""


def submit_cli(
    recipe: Path = typer.Argument(
        help="A recipe: a YAML file, or the name of one that ships (quickstart).", autocompletion=complete_recipe
    ),
    slurm: bool = typer.Option(False, "--slurm", help="Submit the workers to SLURM, as one array."),
    local: bool = typer.Option(False, "--local", help="Start the workers on this machine and wait, to try it."),
    out: Path | None = typer.Option(
        None, "--out", help="The run folder, which all nodes must have.  [default: runs/NAME]"
    ),
    overrides: list[str] = typer.Option([], "--set", help="key=value replaces a value of the recipe; repeatable."),
    only: str = typer.Option("*", "--only", help="Do only the runs whose id matches this pattern, such as '*-seed0'."),
    workers: int = typer.Option(1, "--workers", min=1, help="How many workers share the runs."),
    gpus: int = typer.Option(1, "--gpus", min=0, help="GPUs of a worker: 1, or 0 for studies on CPUs."),
    cpus: int = typer.Option(4, "--cpus", min=1, help="Cores of a worker."),
    memory_gb: int = typer.Option(32, "--memory-gb", min=1, help="Memory of a worker."),
    hours: float = typer.Option(24.0, "--hours", min=0.02, help="Time of a worker, after which it is queued again."),
    partition: str | None = typer.Option(None, "--partition", help="The partition of SLURM."),
) -> None:
    """Start workers that share the runs of a study, as jobs of SLURM. A preempted worker is queued again.

    Example: lxcompress submit recipes/thesis.yaml --slurm --workers 8 --out /shared/runs/thesis
    """
    from lxcompress.recipe import find_recipe, load_recipe
    from lxcompress.study.agreement import resolve_recipe
    from lxcompress.workflow.checks import check_model, check_run_folder
    from lxcompress.workflow.study import default_run_folder

    if slurm == local:
        raise typer.BadParameter("give one of --slurm and --local")
    read = load_recipe(recipe, overrides)
    root = (out or default_run_folder(read)).absolute()
    check_run_folder(root, read, find_recipe(recipe))
    check_model(read.model.start)
    settings: dict[str, Any] = {"timeout_min": max(1, round(60 * hours)), "gpus_per_node": gpus}
    if slurm:
        settings |= {"cpus_per_task": cpus, "mem_gb": memory_gb, "slurm_partition": partition}
        settings |= {"slurm_array_parallelism": workers, "name": f"lxcompress-{read.name}"}
        settings = {name: value for name, value in settings.items() if value is not None}
    job = JoinedStudy(resolve_recipe(read), root, only)
    submit_workers(job, workers, settings, cluster="slurm" if slurm else "local")


@dataclass(frozen=True)
class JoinedStudy:
    """The work of one worker: join the study in the run folder, and do runs until all are done."""

    recipe: Recipe
    root: Path
    only: str

    def __call__(self) -> dict[str, Any]:
        """Do the work; return the document of `lxcompress study --json`."""
        from lxcompress.cli.study import join_study

        return join_study(self.recipe, self.root, self.only)

    def checkpoint(self) -> Any:
        """Return the work that is left when SLURM stops the worker: the same, as the run folder says what is done."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit_workers(job: JoinedStudy, workers: int, settings: dict[str, Any], *, cluster: str) -> None:
    """Submit the workers, and print where their output goes; with the cluster `local`, wait for them.

    Raises RunError if submitit or SLURM is missing, or if a local worker fails.
    """
    from lxcompress.cli.screen import out as screen
    from lxcompress.errors import RunError
    from lxcompress.output import command_line

    try:
        import submitit
    except ImportError:
        raise RunError("submit: submitit is not installed; install it with: pip install 'lxcompress[slurm]'") from None
    logs = job.root / "jobs"
    try:
        executor = submitit.AutoExecutor(folder=logs, cluster=cluster, **{f"{cluster}_max_num_timeout": MOST_REQUEUES})
    except RuntimeError as error:
        raise RunError(f"submit: SLURM is not on this machine ({error}); submit from a login node") from None
    executor.update_parameters(**settings)
    with executor.batch():
        jobs = [executor.submit(job) for _ in range(workers)]
    screen.print(
        f"workers   {', '.join(started.job_id for started in jobs)}; their output is in {logs}", soft_wrap=True
    )
    screen.print(f"next      {command_line('status', job.root)}", markup=False, soft_wrap=True)
    for started in jobs if cluster == "local" else []:
        problem = started.exception()
        if problem is not None:
            reason = str(problem).splitlines()[-1]
            raise RunError(f"worker {started.job_id} failed ({reason}); read {started.paths.stderr}")

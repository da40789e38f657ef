"""Run a study to its end: all missing runs, the pick, and the structured twin (twins.py exports the twins)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lxcompress.analysis.choice import Choice
    from lxcompress.recipe import Cell, Recipe
    from lxcompress.records import Result
    from lxcompress.study.plan import StudyPlan
    from lxcompress.study.reporter import StudyReporter


def default_run_folder(recipe: Recipe) -> Path:
    """Return the run folder of a study if the user gives none: runs/NAME."""
    return Path("runs") / recipe.name


def plan_study(recipe: Recipe, root: Path, *, only: str = "*") -> StudyPlan:
    """Return which runs the study would do and how long they take.

    If its data are missing, the plan is estimated from published numbers of questions.
    """
    from lxcompress.study import plan

    absent = plan.find_absent(recipe)
    estimate = plan.estimate_study(recipe, root, absent, only=only) if absent else None
    return estimate or plan.plan_study(recipe, root, only=only)


def is_data_missing(recipe: Recipe) -> bool:
    """Return whether data files that the recipe names do not exist."""
    from lxcompress.study.plan import find_absent

    return find_absent(recipe) is not None


def study_state(root: Path) -> dict[str, Any]:
    """Return how far the study in the folder `root` is, as {"state": the JSON of `lxcompress status`}."""
    from lxcompress.analysis.study_progress import study_progress, study_progress_json
    from lxcompress.rundir import read_run

    return {"state": study_progress_json(study_progress(read_run(root), busy=False))}


@dataclass(frozen=True)
class GridPick:
    """The pick of a complete study, by the rule of its recipe.

    `result` is the record of the picked run; None if nothing is picked.
    """

    choice: Choice
    result: Result | None


def pick_when_complete(root: Path) -> GridPick | None:
    """Return the pick among the runs of the recipe, without twins; None while some of these runs are missing."""
    from lxcompress.analysis.pick import pick_of_grid
    from lxcompress.analysis.rule import default_rule
    from lxcompress.analysis.summary import summarise
    from lxcompress.rundir import read_run

    run = read_run(root)
    summary = summarise(run)
    if not summary.is_complete:
        return None
    choice = pick_of_grid(summary, default_rule(summary))
    return GridPick(choice, run.results[choice.picked.cell] if choice.picked else None)


def draw_structured_twin(
    root: Path,
    picked: Result,
    progress: StudyReporter,
    draw: Callable[[Cell, StudyReporter], None] | None = None,
) -> str | None:
    """Draw a structured ticket that is as large as the picked ticket; return why this is impossible, or None.

    Nothing is drawn if the run has such a ticket, or if the picked ticket is structured. `draw` draws the ticket; by
    default this process does.
    """
    from lxcompress.errors import PruneError
    from lxcompress.rundir import read_run
    from lxcompress.study.twins import draw_twin, find_twin, is_structured, twin_cell

    if is_structured(picked) or find_twin(read_run(root), picked) is not None:
        return None
    try:
        if draw is None:
            draw_twin(root, twin_cell(picked), progress=progress)
        else:
            draw(twin_cell(picked), progress)
    except PruneError as error:
        return str(error)
    return None

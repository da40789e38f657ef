"""Twins: models that the picked ticket is compared with. This module finds or draws the structured twin.

The structured twin is a smaller model of the same size as the picked ticket. If no cell of the study is one, the study
draws it in RUN/twins, with as many steps as every other cell. Its method keeps the most accuracy among those that cost
one cell (docs/methods.md). The other twins (dense, and both in int8) are only exported: exporters/twins.py.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from pathlib import Path

from lxcompress.errors import PruneError
from lxcompress.filenames import RESULT_FILE
from lxcompress.leases import Leases
from lxcompress.recipe import STRUCTURED, Cell, Method, Recipe, load_run_recipe
from lxcompress.records import Result, is_whole
from lxcompress.rundir import Run, RunDir, locked, read_result, twins_of, write_text
from lxcompress.study.reporter import SilentReporter, StudyReporter

TWIN = Method(criterion="taylor", granularity="neuron+head", scope="global", rewind="learning-rate")
"""The method by which a structured twin is drawn. The weights that are kept stay trained. A smaller model that is
rewound to the start weights loses far more accuracy (docs/methods.md), so the comparison would be unfair to it."""
LEAST_KEPT = 0.9
"""A twin must keep at least this fraction of the number of weights that the ticket keeps, and not more than the ticket.
This does not apply if both have the same target sparsity."""


def twin_cell(picked: Result) -> Cell:
    """Return the cell of the structured twin of a ticket, for a study whose own cells have no such twin."""
    return Cell(TWIN, picked.target, picked.seed)


def is_structured(result: Result) -> bool:
    """Return whether the ticket is a smaller model (and not a masked one)."""
    return result.granularity in STRUCTURED


def find_twin(run: Run, picked: Result) -> Result | None:
    """Return the finished twin of the picked ticket, or None.

    It is the most accurate structured ticket of the same seed and size. If the picked ticket is itself structured, it
    is the most accurate masked ticket (single weights or blocks) of the same seed and size.
    """
    known = {**run.results, **twins_of(run)}.values()
    twins = [other for other in known if is_structured(other) != is_structured(picked) and _is_equal(other, picked)]
    return max(twins, key=lambda twin: (twin.retrained.accuracy, -twin.sparsity.kept), default=None)


def ticket_folder(run: RunDir, cell: str) -> Path:
    """Return the folder of the finished cell or twin with the id `cell`; if there is none, the folder for a cell."""
    folders = [part.root / part.drawn / cell for part in (run, run.twins)]
    return next((folder for folder in folders if is_whole(folder / RESULT_FILE)), folders[0])


def wants_twin(recipe: Recipe, run: RunDir) -> bool:
    """Return whether a study may draw a structured ticket at its end, to compare the picked masked ticket with.

    It may if it has drawn none so far, and the grid has a sparsity at which all tickets are masked.
    """
    if not recipe.export.twins or "mask-applied-once" in recipe.faults:  # that fault leaves no tickets to pick from
        return False
    methods = [method for method in recipe.prune.all_methods() if not method.is_control]
    sparsities = recipe.prune.sparsities
    structured = {target for method in methods if method.is_structured for target in method.targets(sparsities)}
    masked = {target for method in methods if not method.is_structured for target in method.targets(sparsities)}
    is_drawn = any(is_whole(path) for path in run.twins.result_records())
    return bool(masked - structured) and not is_drawn


def draw_twin(root: Path, cell: Cell, *, progress: StudyReporter | None = None, shared: Leases | None = None) -> None:
    """Draw the twin `cell` of the study in the run folder `root`, unless it exists; resume an interrupted drawing.

    Only one process does this, after all cells are finished. `shared` has its leases if it joined the study. Raises
    LxError; the LxError is a PruneError if no such twin can be made of the model.
    """
    from lxcompress.study.run import open_context, sweep
    from lxcompress.study.seed import prepare_seed
    from lxcompress.study.ticket import run_cell
    from lxcompress.study.worker import this_worker
    from lxcompress.training.device import choose_device

    run, progress = RunDir(root, shared=shared), progress or SilentReporter()
    with locked(run) if shared is None else nullcontext():
        if shared is None:
            sweep(run)
            run.current.unlink(missing_ok=True)  # left by a study that was killed
        if read_result(run.twins, cell) is not None:
            return
        recipe = load_run_recipe(run.recipe)
        device = choose_device(recipe.device, recipe.train.precision, this_worker().gpu)
        context = open_context(recipe, run.twins, device, [], progress)
        progress.begin(f"twin {cell.id}", 0, 1)
        if shared is None:
            write_text(run.current, cell.id)
        try:
            run_cell(context, prepare_seed(context, cell.seed, progress), cell, progress)
        except PruneError:
            with suppress(OSError):  # the folder is empty unless something was trained
                run.twins.ticket(cell).rmdir()
            raise
        finally:
            run.current.unlink(missing_ok=True)


def _is_equal(other: Result, picked: Result) -> bool:
    """Return whether the ticket `other` has the seed and the size of the picked ticket, and is no control."""
    if other.seed != picked.seed or other.method.get("control"):
        return False
    kept = other.sparsity.kept / picked.sparsity.kept
    # Widths change in steps. So tickets of one target sparsity count as equal, even if their sizes differ by a step.
    return other.target == picked.target or LEAST_KEPT <= kept <= 1

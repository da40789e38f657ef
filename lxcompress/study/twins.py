"""Twins: what a picked ticket is compared with, a structured ticket that keeps as many weights.

Where the grid has none, the study draws one: by the method that keeps the most accuracy at the price of one cell
(docs/methods.md), with the budget of every other cell, in RUN/twins beside the grid. The other twins (dense, and both
in int8) are exports alone: exporters/twins.py.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from lxcompress.errors import PruneError
from lxcompress.filenames import RESULT_FILE
from lxcompress.recipe import STRUCTURED, Cell, Method, Recipe, load_run_recipe
from lxcompress.records import Result, is_whole
from lxcompress.rundir import Run, RunDir, locked, read_result, twins_of, write_text
from lxcompress.study.watch import Unwatched, Watch

TWIN = Method(criterion="taylor", granularity="neuron+head", scope="global", rewind="learning-rate")
"""How a structured twin is drawn. Its survivors go on from their trained weights: a smaller model that is rewound to
the start loses far more (docs/methods.md), and would make a poor alternative look like an honest one."""
FEWEST = 0.9
"""A twin of equal size keeps at least this share of what the ticket keeps, unless both were asked for one sparsity."""


def twin_cell(picked: Result) -> Cell:
    """The structured twin that is drawn for a ticket where the grid has none."""
    return Cell(TWIN, picked.target, picked.seed)


def is_structured(result: Result) -> bool:
    """Whether the ticket is a smaller model."""
    return result.granularity in STRUCTURED


def find_twin(run: Run, picked: Result) -> Result | None:
    """The finished twin of a ticket: the most accurate structured one of its seed that keeps as many weights.

    For a ticket that is structured itself, it is the most accurate one of single weights or blocks.
    """
    known = {**run.results, **twins_of(run)}.values()
    equals = [each for each in known if is_structured(each) != is_structured(picked) and _is_equal(each, picked)]
    return max(equals, key=lambda each: (each.retrained.accuracy, -each.sparsity.kept), default=None)


def ticket_folder(run: RunDir, cell: str) -> Path:
    """The folder of a finished cell, or twin, by its id."""
    folders = [part.root / part.drawn / cell for part in (run, run.twins)]
    return next((folder for folder in folders if is_whole(folder / RESULT_FILE)), folders[0])


def wants_twin(recipe: Recipe, run: RunDir) -> bool:
    """Whether a study of the recipe may have to draw a twin at its end: none is there, and no method gives one."""
    if not recipe.export.twins or "mask-applied-once" in recipe.faults:  # without tickets nothing is picked
        return False
    methods = [each for each in recipe.prune.all_methods() if not each.is_control]
    given = {target for each in methods if each.is_structured for target in each.targets(recipe.prune.sparsities)}
    asked = {t for each in methods if not each.is_structured for t in each.targets(recipe.prune.sparsities)}
    is_drawn = any(is_whole(path) for path in run.twins.result_records())
    return bool(asked - given) and not is_drawn


def draw_twin(root: Path, cell: Cell, *, watch: Watch | None = None) -> None:
    """Draws the twin `cell` of the study in `root`, unless it is there; what was interrupted is gone on with.

    One process does this, when all cells are finished. Raises LxError, and PruneError if the model has no such twin.
    """
    from lxcompress.study.draw import run_cell
    from lxcompress.study.run import open_context, sweep
    from lxcompress.study.seed import prepare_seed
    from lxcompress.study.worker import this_worker
    from lxcompress.training.device import choose_device

    run, watch = RunDir(root), watch or Unwatched()
    with locked(run):
        sweep(run)
        run.current.unlink(missing_ok=True)  # of a study that was killed
        if read_result(run.twins, cell) is not None:
            return
        recipe = load_run_recipe(run.recipe)
        device = choose_device(recipe.device, recipe.train.precision, this_worker().gpu)
        context = open_context(recipe, run.twins, device, [], watch)
        watch.begin(f"twin {cell.id}", 0, 1)
        write_text(run.current, cell.id)
        try:
            run_cell(context, prepare_seed(context, cell.seed, watch), cell, watch)
        except PruneError:
            with suppress(OSError):  # it is empty unless something was trained
                run.twins.ticket(cell).rmdir()
            raise
        finally:
            run.current.unlink(missing_ok=True)


def _is_equal(other: Result, picked: Result) -> bool:
    """Whether a ticket is of the picked one's seed and size, and no control."""
    if other.seed != picked.seed or other.method.get("control"):
        return False
    kept = other.sparsity.kept / picked.sparsity.kept
    # Widths come in steps: what was asked for the same sparsity is of equal size, a step more or less.
    return other.target == picked.target or FEWEST <= kept <= 1

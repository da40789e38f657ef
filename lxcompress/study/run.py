"""The study: finetune, prune, rewind, retrain, for every cell of a recipe (Frankle & Carbin 2019; Chen et al. 2020).

Per seed, start weights (a pre-trained encoder under a fresh, seeded answer head) are kept, and fine-tuned: the dense
run. Per cell, the dense weights are scored and pruned, the survivors rewound to the start and retrained with the same
budget.
A run (dense or cell) is finished when its last file exists; doing a study again does only what is missing. Several
processes may share a study (worker.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from fnmatch import fnmatchcase
from pathlib import Path

from lxcompress.errors import PruneError, RecipeError, RunError
from lxcompress.filenames import DENSE_FILE, MASK_FILE, RESULT_FILE
from lxcompress.machine import describe_machine
from lxcompress.recipe import Cell, Recipe, dense_id, dump_recipe
from lxcompress.records import is_whole
from lxcompress.rundir import (
    RunDir,
    discard_begun,
    has_work,
    locked,
    read_dense,
    read_result,
    write_record,
    write_text,
)
from lxcompress.study.agreement import check_same_study, is_of_recipe, load_start_task, merge_methods, resolve_recipe
from lxcompress.study.choose import check_cells, say_undivided
from lxcompress.study.draw import run_cell
from lxcompress.study.seed import SeedRun, dense_source, make_start, prepare_seed
from lxcompress.study.watch import Unwatched, Watch
from lxcompress.study.work import StudyContext
from lxcompress.study.worker import Worker, claimed, this_worker
from lxcompress.training.device import DeviceSpec, choose_device
from lxcompress.training.feed import move_to_device_if_it_fits
from lxcompress.training.floors import find_floors
from lxcompress.writing import PREFIX, remove_stale

LAST_FILES = {
    "tickets/*": RESULT_FILE,
    "twins/*": RESULT_FILE,
    "seeds/*/dense": DENSE_FILE,
    "seeds/*/rounds/*/*": MASK_FILE,
}
"""The folders of cells, twins, dense runs and rounds, and the file that says that one is finished."""
LONGEST_WAIT_S = 3600.0
PATIENCE_S = 2.0
"""How often a worker looks again when all that is left is in other workers' hands."""


def run_study(recipe: Recipe, root: Path, *, only: str = "*", watch: Watch | None = None) -> int:
    """Runs every missing cell of `recipe` whose id matches the glob `only`, in the run folder `root`.

    Returns how many runs (dense and cells) it did. Raises LxError for what a user can mend.
    """
    watch = watch or Unwatched()
    worker = this_worker()
    run = RunDir(root)
    recipe = resolve_recipe(recipe)
    cells = choose_cells(recipe, only)
    with locked(run) if worker.leads else nullcontext():
        check_same_study(recipe, run)
        device = choose_device(recipe.device, recipe.train.precision, worker.gpu)
        if worker.leads:
            run.current.unlink(missing_ok=True)  # of a study that was killed
        missing = missing_runs(recipe, cells, run)
        if not missing:
            begin(recipe, run, worker, watch)
            return 0
        try:
            context = open_context(recipe, run, device, missing, watch, ready=lambda: begin(recipe, run, worker, watch))
            return _do(context, missing, worker, watch)
        finally:
            if worker.leads:
                run.current.unlink(missing_ok=True)


def begin(recipe: Recipe, run: RunDir, worker: Worker, watch: Watch) -> None:
    """Write what belongs to the whole study, once the data could be read; another worker waits until it is there.

    What another recipe began in a folder without a finished run is removed first. Raises RunError if the worker that
    writes does not come to it.
    """
    if worker.leads:
        if run.recipe.exists() and not has_work(run) and not is_of_recipe(recipe, run):
            watch.remark(f"{run.root}: another recipe began here and finished no run; what it left is removed")
            discard_begun(run)
        if not is_whole(run.machine):
            write_record(run.machine, describe_machine())
        write_text(run.recipe, dump_recipe(merge_methods(recipe, run)))
        sweep(run)
        return
    for _ in range(round(LONGEST_WAIT_S / PATIENCE_S)):
        if run.recipe.exists() and is_of_recipe(recipe, run):
            return
        time.sleep(PATIENCE_S)
    raise RunError(f"{run.recipe}: process 0 of this study did not write it in {LONGEST_WAIT_S:.0f} s; start all again")


def open_context(
    recipe: Recipe,
    run: RunDir,
    device: DeviceSpec,
    missing: Sequence[int | Cell],
    watch: Watch,
    *,
    ready: Callable[[], None] = lambda: None,
) -> StudyContext:
    """What the `missing` runs work with: the data made ready, and its floors kept. Raises LxError.

    `ready` is called when data and model are known to be good, before anything is written.
    """
    watch.prepare("making the data ready")
    task = load_start_task(recipe)
    model, _ = make_start(recipe, task, recipe.seeds[0])
    cells = [each for each in missing if isinstance(each, Cell)]
    check_cells(recipe, model, cells)
    ready()
    for line in say_undivided(recipe, model, cells):
        watch.remark(line)
    if this_worker().leads and not is_whole(run.floors):
        watch.prepare("finding the floors")
        write_record(run.floors, find_floors(task))
    task = move_to_device_if_it_fits(
        task, device, recipe.train.data_on_device, rows=recipe.train.batch_size // recipe.train.accumulate
    )
    return StudyContext(recipe, run, task, device, describe_machine())


def _do(context: StudyContext, missing: Sequence[int | Cell], worker: Worker, watch: Watch) -> int:
    """Does the missing runs, a seed after another; a cell that cannot be drawn does not keep the others from it."""
    left, done, refused = list(missing), 0, []
    at_hand: tuple[int, SeedRun] | None = None
    while left:
        for each in list(left):
            if _is_finished(context.run, each):
                left.remove(each)
                continue
            if worker.of > 1 and _waits(context, each):
                continue
            with claimed(context.run, _name(each), worker) as is_mine:
                if not is_mine or _is_finished(context.run, each):
                    continue
                _announce(context, each, len(missing) - len(left), len(missing), worker, watch)
                seed = _seed_of(each)
                if at_hand is None or at_hand[0] != seed:
                    at_hand = None  # let the last seed's weights go first
                    at_hand = seed, prepare_seed(context, seed, watch)
                if isinstance(each, Cell):
                    if context.run.result(each).exists():
                        watch.remark(f"{context.run.result(each)}: is empty or cut off; this run is done again")
                    try:
                        run_cell(context, at_hand[1], each, watch)
                    except PruneError as error:
                        refused.append(f"{each.id}: {error}")
            left.remove(each)
            done += 1
            break
        else:
            if left:
                time.sleep(PATIENCE_S)
    if refused:
        raise RunError(f"{len(refused)} of {len(missing)} runs could not be drawn, the others are done; {refused[0]}")
    return done


def sweep(run: RunDir) -> None:
    """Removes the checkpoints of finished runs, and hidden work, which a kill behind a last file can leave."""
    for folder in {path.parent for path in run.root.rglob(f"{PREFIX}*")}:
        if folder.is_dir():  # and not gone with one above
            remove_stale(folder)
    for pattern, last in LAST_FILES.items():
        for checkpoint in run.root.glob(f"{pattern}/checkpoint.*"):
            if is_whole(checkpoint.parent / last) if last.endswith(".json") else (checkpoint.parent / last).exists():
                checkpoint.unlink(missing_ok=True)


def choose_cells(recipe: Recipe, only: str) -> list[Cell]:
    """The recipe's cells whose id matches the glob `only`. Raises RecipeError if none does."""
    cells = [cell for cell in recipe.cells() if fnmatchcase(cell.id, only)]
    if not cells:
        raise RecipeError(f"--only {only}: matches no cell of the recipe; its first is {recipe.cells()[0].id}")
    return cells


def missing_runs(recipe: Recipe, cells: Sequence[Cell], run: RunDir) -> list[int | Cell]:
    """What is still to do, in order: seeds (their dense runs, and those that stand for them) and cells."""
    wanted = dict.fromkeys(cell.seed for cell in cells)
    seeds = dict.fromkeys([*(dense_source(recipe, seed) for seed in wanted), *wanted])
    missing: list[int | Cell] = []
    for seed in seeds:
        missing += [] if _is_finished(run, seed) else [seed]
        missing += [cell for cell in cells if cell.seed == seed and not _is_finished(run, cell)]
    return missing


def _announce(context: StudyContext, each: int | Cell, done: int, total: int, worker: Worker, watch: Watch) -> None:
    """Says which run begins, to the one who watches and to `lxcompress status`."""
    watch.begin(each.id if isinstance(each, Cell) else f"dense seed {each}", done, total)
    if worker.leads:
        write_text(context.run.current, _name(each))


def _waits(context: StudyContext, each: int | Cell) -> bool:
    """Whether another worker must finish a dense run first: a cell's own, or the one that stands for a seed's."""
    needed = each.seed if isinstance(each, Cell) else dense_source(context.recipe, each)
    return needed != each and not _is_finished(context.run, needed)


def _is_finished(run: RunDir, each: int | Cell) -> bool:
    """Whether the record of a run is there and whole. Raises RunError for one that was changed."""
    return (read_result(run, each) if isinstance(each, Cell) else read_dense(run, each)) is not None


def _name(each: int | Cell) -> str:
    return each.id if isinstance(each, Cell) else dense_id(each)


def _seed_of(each: int | Cell) -> int:
    return each.seed if isinstance(each, Cell) else each

"""The study: fine-tune, prune, rewind, retrain, for every cell of a recipe (Frankle & Carbin 2019; Chen et al. 2020).

For each seed there is a dense run: start weights (a pre-trained encoder with a fresh, seeded answer head) are saved and
fine-tuned. For each cell, the weights of the dense run are scored and pruned; the weights that are kept are rewound to
the start weights, and retrained for as many steps.
A run (a dense run or a cell) is finished when its last file exists, so a study that is run again does only the missing
runs. Several processes can share a study (worker.py), and a study on a CPU can start them itself (helpers.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from lxcompress.claims import LeaseLostError
from lxcompress.data.split import AnswerTask
from lxcompress.errors import PruneError, RecipeError, RunError
from lxcompress.filenames import DENSE_FILE, FIRST_FILE, MASK_FILE, RESULT_FILE
from lxcompress.leases import Leases
from lxcompress.machine import describe_machine
from lxcompress.recipe import Cell, Recipe, dense_id, dump_recipe
from lxcompress.records import Result, is_whole
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
from lxcompress.study.agreement import (
    belongs_to_recipe,
    check_same_study,
    load_start_task,
    merge_methods,
    resolve_recipe,
)
from lxcompress.study.choose import check_cells, say_undivided
from lxcompress.study.context import StudyContext
from lxcompress.study.held_out import list_untested, score_untested
from lxcompress.study.helpers import count_processes, helpers
from lxcompress.study.reporter import SilentReporter, StudyReporter
from lxcompress.study.seed import SeedRun, dense_source, make_start, prepare_seed
from lxcompress.study.tasks import StudyRun
from lxcompress.study.ticket import run_cell
from lxcompress.study.tracked import tracked
from lxcompress.study.worker import StudyWorker, claimed, shares_runs, this_worker
from lxcompress.training.device import DeviceSpec, choose_device
from lxcompress.training.feed import move_to_device_if_it_fits
from lxcompress.training.floors import find_floors
from lxcompress.writing import PREFIX, remove_stale

LAST_FILES = {
    "tickets/*": RESULT_FILE,
    "twins/*": RESULT_FILE,
    "seeds/*/dense": DENSE_FILE,
    "seeds/*/rounds/*/*": MASK_FILE,
    "seeds/*/first/*": FIRST_FILE,
}
"""Pattern of the folders of cells, twins, dense runs, rounds and first steps -> the file that is written last there."""
LONGEST_WAIT_S = 3600.0
"""How long a worker waits for the leading worker to write the files of the study."""
RETRY_S = 0.5
"""The seconds between two looks, while a worker waits for the leading worker, or for runs that others do."""


def run_study(
    recipe: Recipe,
    root: Path,
    *,
    only: str = "*",
    progress: StudyReporter | None = None,
    shared: Leases | None = None,
) -> int:
    """Do the missing runs of `recipe` in the run folder `root`; return how many runs (dense runs and cells) were done.

    Only cells whose id matches the glob `only` are done, with the dense runs that they need. `shared` has the leases of
    a process that joined the study; others then do runs too, and this function returns when all runs are done. Raises
    LxError for errors that a user can fix.
    """
    progress = progress or SilentReporter()
    worker = this_worker()
    run = RunDir(root, shared=shared)
    recipe = resolve_recipe(recipe)
    cells = choose_cells(recipe, only)
    with locked(run) if worker.leads and shared is None else nullcontext():
        check_same_study(recipe, run)
        device = choose_device(recipe.device, recipe.train.precision, worker.gpu)
        if worker.leads and shared is None:
            run.current.unlink(missing_ok=True)  # left by a study that was killed
        missing = missing_runs(recipe, cells, run)
        untested = list_untested(recipe, run) if worker.leads else []
        if not missing and not untested:
            begin(recipe, run, worker, progress)
            return 0
        on_cpu = device.torch_device.type == "cpu" and shared is None
        count = count_processes(recipe, worker, len(missing), on_cpu=on_cpu)
        try:
            with (
                tracked(recipe, run, progress) if worker.leads else nullcontext(progress) as progress,
                helpers(recipe, root, only, count, progress) if count > 1 else nullcontext(worker) as worker,
            ):
                context = open_context(
                    recipe, run, device, missing, progress, ready=lambda: begin(recipe, run, worker, progress)
                )
                with run.alone("test-scores") if untested and shared else nullcontext():
                    score_untested(context, list_untested(recipe, run) if untested else [], progress)
                done = _do_runs(context, missing, worker, progress)
                return len(missing) if count > 1 else done
        finally:
            if worker.leads and shared is None:
                run.current.unlink(missing_ok=True)


def begin(recipe: Recipe, run: RunDir, worker: StudyWorker, progress: StudyReporter) -> None:
    """Write the files of the whole study (recipe, machine); workers that do not lead wait for these files.

    If there are runs to do, the data have been read before, without an error. If another recipe was begun in the folder
    and finished no run, its files are removed first. Raises RunError if the leading worker does not write the files, or
    if another recipe was begun in a folder that several machines share.
    """
    if run.shared is not None:
        with run.alone("begin"):
            _begin_shared(recipe, run)
        return
    if worker.leads:
        if run.recipe.exists() and not has_work(run) and not belongs_to_recipe(recipe, run):
            progress.remark(
                f"{run.root}: another recipe began here and finished no run; its unfinished files are removed"
            )
            discard_begun(run)
        if not is_whole(run.machine):
            write_record(run.machine, describe_machine())
        write_text(run.recipe, dump_recipe(merge_methods(recipe, run)))
        sweep(run)
        return
    for _ in range(round(LONGEST_WAIT_S / RETRY_S)):
        if run.recipe.exists() and belongs_to_recipe(recipe, run):
            return
        time.sleep(RETRY_S)
    raise RunError(
        f"{run.recipe}: process 0 of this study did not write it in {LONGEST_WAIT_S:.0f} s; start all processes again"
    )


def _begin_shared(recipe: Recipe, run: RunDir) -> None:
    """Write the files of the whole study in a folder that other processes use at the same time."""
    if run.recipe.exists() and not belongs_to_recipe(recipe, run):
        raise RunError(
            f"{run.root}: another recipe began here, and other machines may be working on it; give another --out, or "
            "start one process without --join, which removes what is unfinished"
        )
    if not is_whole(run.machine):
        write_record(run.machine, describe_machine())
    write_text(run.recipe, dump_recipe(merge_methods(recipe, run)))


def open_context(
    recipe: Recipe,
    run: RunDir,
    device: DeviceSpec,
    missing: Sequence[StudyRun],
    progress: StudyReporter,
    *,
    ready: Callable[[], None] = lambda: None,
) -> StudyContext:
    """Prepare the data and write the floors; return the StudyContext for the `missing` runs. Raises LxError.

    `ready` is called when data and model have been checked, before anything is written.
    """
    progress.prepare("preparing the data")
    task = load_start_task(recipe)
    model, _ = make_start(recipe, task, recipe.seeds[0])
    cells = [study_run for study_run in missing if isinstance(study_run, Cell)]
    check_cells(recipe, model, cells)
    ready()
    for line in say_undivided(recipe, model, cells):
        progress.remark(line)
    if (run.shared is not None or this_worker().leads) and not is_whole(run.floors):
        with run.alone_at(run.floors) if run.shared else nullcontext():
            if not is_whole(run.floors):
                progress.prepare("computing the floors")
                write_record(run.floors, find_floors(task))
    return make_context(recipe, run, task, device)


def make_context(recipe: Recipe, run: RunDir, task: AnswerTask, device: DeviceSpec) -> StudyContext:
    """Return the StudyContext of a study whose data were read, with the data on the device if they fit."""
    rows = recipe.train.batch_size // recipe.train.accumulate
    task = move_to_device_if_it_fits(task, device, recipe.train.data_on_device, rows=rows)
    return StudyContext(recipe, run, task, device, describe_machine())


def sweep(run: RunDir) -> None:
    """Remove from the run folder the checkpoints of finished runs, and the hidden files of killed processes."""
    for folder in {path.parent for path in run.root.rglob(f"{PREFIX}*")}:
        if folder.is_dir():  # an earlier turn may have removed a folder above it
            remove_stale(folder)
    for pattern, last in LAST_FILES.items():
        for checkpoint in run.root.glob(f"{pattern}/checkpoint.*"):
            if is_whole(checkpoint.parent / last) if last.endswith(".json") else (checkpoint.parent / last).exists():
                checkpoint.unlink(missing_ok=True)


def choose_cells(recipe: Recipe, only: str) -> list[Cell]:
    """Return the recipe's cells whose id matches the glob `only`. Raises RecipeError if there are none."""
    cells = [cell for cell in recipe.cells() if fnmatchcase(cell.id, only)]
    if not cells:
        raise RecipeError(
            f"--only {only}: matches no run of the recipe; give a pattern that does, such as {recipe.cells()[0].id}"
        )
    return cells


def missing_runs(recipe: Recipe, cells: Sequence[Cell], run: RunDir) -> list[StudyRun]:
    """Return the unfinished runs in the order of work: for each seed its dense run, then its cells.

    If a seed uses the dense run of another seed, the other seed comes first.
    """
    wanted = dict.fromkeys(cell.seed for cell in cells)
    seeds = dict.fromkeys([*(dense_source(recipe, seed) for seed in wanted), *wanted])
    missing: list[StudyRun] = []
    for seed in seeds:
        missing += [] if _is_finished(run, seed) else [seed]
        missing += [cell for cell in cells if cell.seed == seed and not _is_finished(run, cell)]
    return missing


def _do_runs(context: StudyContext, missing: Sequence[StudyRun], worker: StudyWorker, progress: StudyReporter) -> int:
    """Do the missing runs, one seed after another; return how many of them this worker did.

    If a cell cannot be drawn, the other runs are still done; then RunError is raised.
    """
    left, done, failed = list(missing), 0, []
    seeds = SeedCache(context, progress)
    while left:
        for study_run in list(left):
            is_finished = partial(_is_finished, context.run, study_run)
            if is_finished():
                if worker.count > 1:
                    _announce_other(context, study_run, len(missing) - len(left), len(missing), progress)
                left.remove(study_run)
                continue
            if shares_runs(context.run, worker) and _must_wait(context, study_run):
                continue
            try:
                with claimed(context.run, _name(study_run), worker, is_finished) as is_mine:
                    if not is_mine or is_finished():
                        continue
                    _announce(context, study_run, len(missing) - len(left), len(missing), progress)
                    failed += _do_run(context, study_run, seeds)
            except LeaseLostError as error:
                progress.remark(f"{_name(study_run)}: is left to other processes; {error}")
                time.sleep(RETRY_S)
                break
            left.remove(study_run)
            done += 1
            break
        else:
            if left:
                time.sleep(RETRY_S)
    if failed:
        raise RunError(f"{len(failed)} of {len(missing)} runs failed, the others are done; the first: {failed[0]}")
    return done


@dataclass
class SeedCache:
    """The SeedRun of the seed that was used last; its weights are freed before those of another seed are made."""

    context: StudyContext
    progress: StudyReporter
    current: SeedRun | None = None

    def prepare(self, seed: int) -> SeedRun:
        """Return the SeedRun of a seed; do its dense run if that is missing."""
        if self.current is None or self.current.seed != seed:
            self.current = None
            self.current = prepare_seed(self.context, seed, self.progress)
        return self.current


def _do_run(context: StudyContext, study_run: StudyRun, seeds: SeedCache) -> list[str]:
    """Do one run; return why it failed, as a list with one sentence, or an empty list."""
    seed_run = seeds.prepare(_seed_of(study_run))
    if isinstance(study_run, Cell):
        try:
            _do_cell(context, seed_run, study_run, seeds.progress)
        except PruneError as error:
            return [f"{study_run.id}: {error}"]
    return []


def _do_cell(context: StudyContext, seed_run: SeedRun, cell: Cell, progress: StudyReporter) -> None:
    """Do one cell; if it has a damaged record, report that the cell is done again."""
    if context.run.result(cell).exists():
        progress.remark(f"{context.run.result(cell)}: is empty or cut off; this run is done again")
    run_cell(context, seed_run, cell, progress)


def _announce(context: StudyContext, study_run: StudyRun, done: int, total: int, progress: StudyReporter) -> None:
    """Report which run begins; the leading worker also writes its name to a file that `lxcompress status` reads."""
    progress.begin(_title(study_run), done, total)
    if this_worker().leads and context.run.shared is None:
        write_text(context.run.current, _name(study_run))


def _announce_other(context: StudyContext, study_run: StudyRun, done: int, total: int, progress: StudyReporter) -> None:
    """Report a run that another process of this study has done."""
    record = read_result(context.run, study_run) if isinstance(study_run, Cell) else read_dense(context.run, study_run)
    assert record is not None, "the run is finished"
    accuracy = record.retrained.accuracy if isinstance(record, Result) else record.trained.accuracy
    name = _title(study_run)
    progress.begin(name, done, total)
    progress.end(name, accuracy, record.duration_s)


def _must_wait(context: StudyContext, study_run: StudyRun) -> bool:
    """Return whether a run must wait until a dense run is finished: that of its own seed, or the one that it copies."""
    needed = study_run.seed if isinstance(study_run, Cell) else dense_source(context.recipe, study_run)
    return needed != study_run and not _is_finished(context.run, needed)


def _is_finished(run: RunDir, study_run: StudyRun) -> bool:
    """Return whether a run has a complete record. Raises RunError for a record that was changed."""
    record = read_result(run, study_run) if isinstance(study_run, Cell) else read_dense(run, study_run)
    return record is not None


def _title(study_run: StudyRun) -> str:
    """Return the name of a run for the user."""
    return study_run.id if isinstance(study_run, Cell) else f"dense seed {study_run}"


def _name(study_run: StudyRun) -> str:
    """Return the name of a run: it is written for `lxcompress status`, and names the lock of the run."""
    return study_run.id if isinstance(study_run, Cell) else dense_id(study_run)


def _seed_of(study_run: StudyRun) -> int:
    """Return the seed of a dense run or of a cell."""
    return study_run.seed if isinstance(study_run, Cell) else study_run

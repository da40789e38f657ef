"""The first step of a compound ticket: it makes the smaller model that the ticket then masks.

The step is drawn as a ticket of its own would be, once for each seed: all methods with the same first step share it. It
is saved in the run folder; the record is written last, and shows that the step is finished.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lxcompress.checksums import Origin, check_files
from lxcompress.errors import LxError, RunError
from lxcompress.filenames import CHECKPOINT_FILE, FIRST_FILE, SURGERY_FILE, WEIGHTS_FILE
from lxcompress.models.checkpoints import load_weights, save_weights
from lxcompress.models.kept import check_like
from lxcompress.pruning.surgery import Surgery, operate
from lxcompress.recipe import Cell, FirstStep
from lxcompress.records import FirstCut, FirstStepRecord, dump_record, is_whole, read_record
from lxcompress.rundir import sha256, write_record, write_text
from lxcompress.study.cell import CellRun, TicketCost
from lxcompress.study.choose import kept_dense_of
from lxcompress.study.draw import draw
from lxcompress.study.seed import MadeSmaller, SeedRun
from lxcompress.training.device import move

AGAIN = "it is done again"


def take_first_step(run: CellRun) -> CellRun:
    """Return `run` with the smaller model of its method's first step; the same run if the method has none.

    The smaller model is loaded if another cell made it, else it is made and saved. Raises PruneError if it cannot be
    made.
    """
    step = run.cell.method.first
    if step is None:
        return run
    folder = run.context.run.first(run.cell.seed, step.method.id)
    with run.context.run.alone_at(folder):
        first = _read(folder, step, run)
        if first is None:
            _make(folder, step, run)
            first = _read(folder, step, run)
            assert first is not None, "what was just written can be read"
        else:
            record = first.record
            run.cost.add_training(record.epochs, record.steps)
            last_s = sum(epoch.duration_s for epoch in record.epochs)
            run.cost.earlier_s += record.duration_s - last_s
            run.cost.shared_s += record.duration_s
        weights = load_weights(folder / WEIGHTS_FILE)
    smaller = operate(run.seed_run.model, first.surgery)
    move(smaller.module, run.context.device)
    start = first.surgery.apply(run.seed_run.start)
    return replace(run, seed_run=SeedRun(run.seed_run.seed, smaller, start, weights, first=first))


def describe_first(record: FirstStepRecord) -> FirstCut:
    """Return the part of a compound ticket's record that says how its smaller model was made."""
    step = FirstStep.model_validate(record.method)
    return FirstCut(
        criterion=step.criterion,
        granularity=step.granularity,
        scope=step.scope,
        target=step.sparsity,
        sparsity=record.sparsity,
        kept_dense=record.kept_dense,
    )


def _make(folder: Path, step: FirstStep, run: CellRun) -> None:
    """Draw the smaller model of the first step, add its cost to that of the cell, and write it to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FIRST_FILE).unlink(missing_ok=True)
    cell, cost = Cell(step.method, step.sparsity, run.cell.seed), TicketCost()
    ticket = draw(replace(run, cell=cell, cost=cost, folder=folder))
    assert isinstance(ticket.cut, Surgery), "a first step makes a smaller model"
    save_weights(folder / WEIGHTS_FILE, ticket.drawn.trained)
    write_text(folder / SURGERY_FILE, dump_record(ticket.cut))
    last_s = sum(epoch.duration_s for epoch in cost.epochs)
    record = FirstStepRecord(
        method=_settings(step),
        seed=run.cell.seed,
        dense_sha256=_dense_sum(run),
        sparsity=ticket.sparsity,
        kept_dense=kept_dense_of(run.context.recipe, run.seed_run.model, cell),
        epochs=cost.epochs,
        steps=cost.steps,
        duration_s=cost.drawing.seconds + cost.earlier_s + last_s,
        drawing_s=cost.drawing.seconds,
        files={name: sha256(folder / name) for name in (WEIGHTS_FILE, SURGERY_FILE)},
    )
    write_record(folder / FIRST_FILE, record)
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    run.cost.add_training(cost.epochs, cost.steps)
    run.cost.earlier_s += cost.earlier_s
    run.cost.shared_s += cost.shared_s
    run.cost.drawing.seconds += cost.drawing.seconds


def _read(folder: Path, step: FirstStep, run: CellRun) -> MadeSmaller | None:
    """Return the finished first step in `folder`; None if it is missing or of another dense run.

    A damaged step is reported, and then None is returned.
    """
    if not is_whole(folder / FIRST_FILE):
        return None
    try:
        record = read_record(folder / FIRST_FILE, FirstStepRecord)
        check_files(folder, Origin("the first step", record.files, AGAIN, RunError, names_all=False))
        surgery = read_record(folder / SURGERY_FILE, Surgery)
        start = surgery.apply(run.seed_run.start)
        check_like(folder / WEIGHTS_FILE, load_weights(folder / WEIGHTS_FILE), start, remedy=AGAIN)
    except LxError as error:
        run.progress.remark(f"{str(error).rpartition(';')[0]}; the first step is done again")
        return None
    is_same = record.method == _settings(step) and record.seed == run.cell.seed
    return MadeSmaller(run.seed_run, surgery, record) if is_same and record.dense_sha256 == _dense_sum(run) else None


def _settings(step: FirstStep) -> dict[str, object]:
    """Return the settings of the step as they stand in its record."""
    return step.model_dump(mode="json", exclude_defaults=True)


def _dense_sum(run: CellRun) -> str:
    """Return the SHA-256 of the dense weights that the first step prunes."""
    return sha256(run.context.run.dense(run.cell.seed) / WEIGHTS_FILE)

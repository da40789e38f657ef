"""Rounds of iterative-retrain: all trainings of a cell but the last; cells of one method and seed share them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from lxcompress.checksums import Origin, check_files
from lxcompress.errors import LxError, RunError
from lxcompress.filenames import CHECKPOINT_FILE, MASK_FILE, MOVEMENT_FILE, ROUND_FILE, WEIGHTS_FILE
from lxcompress.models.checkpoints import load_weights, save_weights
from lxcompress.models.kept import check_like
from lxcompress.pruning.mask import Mask, Weights
from lxcompress.records import RoundRecord, read_record
from lxcompress.rundir import sha256, write_record
from lxcompress.study.cell import CellRun, make_round_spec, skipped_steps, train
from lxcompress.study.choose import CutChooser
from lxcompress.study.context import count_steps
from lxcompress.study.seed import parameters_of
from lxcompress.tickets import load_mask, save_mask
from lxcompress.training.movement import Movement


def train_round(run: CellRun, chooser: CutChooser, rewound: Weights, mask: Mask, sparsity: float) -> Weights:
    """Return the weights after one round: load them if another cell trained this round, else train it and save it.

    If the criterion needs movement, `chooser` gets the movement of this round.
    """
    folder = run.context.run.round(run.cell.seed, run.cell.method.id, sparsity)
    with run.context.run.alone_at(folder):
        if _is_saved(folder, mask, run):
            record = read_record(folder / ROUND_FILE, RoundRecord)
            run.cost.add_training(record.epochs, count_steps(run.context.recipe, run.context.task) - skipped_steps(run))
            run.cost.shared_s += sum(epoch.duration_s for epoch in record.epochs)
        else:
            _train_and_save(folder, run, rewound, mask, sparsity)
        if run.cell.method.criterion_spec.needs_training:
            chooser.movement = load_weights(folder / MOVEMENT_FILE)
        return load_weights(folder / WEIGHTS_FILE)


def _train_and_save(folder: Path, run: CellRun, rewound: Weights, mask: Mask, sparsity: float) -> None:
    """Train a round, and write it to `folder`; the mask is written last, and shows that the round is finished."""
    (folder / MASK_FILE).unlink(missing_ok=True)
    model, method = run.seed_run.model, run.cell.method
    hook = Movement(parameters_of(model)) if method.criterion_spec.needs_training else None
    spec = make_round_spec(run, mask, sparsity, folder)
    trained = train(run, model, rewound, replace(spec, hooks=[hook] if hook else []))
    save_weights(folder / WEIGHTS_FILE, trained)
    if hook:
        save_weights(folder / MOVEMENT_FILE, hook.result)
    names = (WEIGHTS_FILE, MOVEMENT_FILE) if hook else (WEIGHTS_FILE,)
    sums = {name: sha256(folder / name) for name in names}
    write_record(folder / ROUND_FILE, RoundRecord(epochs=run.cost.epochs, files=sums))
    save_mask(folder / MASK_FILE, mask)
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)


def _is_saved(folder: Path, mask: Mask, run: CellRun) -> bool:
    """Return whether `folder` has a finished round with exactly this mask; report a damaged round."""
    if not (folder / MASK_FILE).exists():
        return False
    try:
        kept = load_mask(folder / MASK_FILE).kept
        record = read_record(folder / ROUND_FILE, RoundRecord)
        check_files(folder, Origin("the round", record.files, "it is done again", RunError, names_all=False))
        weights = load_weights(folder / WEIGHTS_FILE)
        check_like(folder / WEIGHTS_FILE, weights, run.seed_run.start, remedy="it is done again")
    except LxError as error:
        run.progress.remark(f"{str(error).rpartition(';')[0]}; the round is done again")
        return False
    return kept.keys() == mask.kept.keys() and all(torch.equal(kept[name], mask.kept[name]) for name in kept)

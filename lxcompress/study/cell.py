"""CellRun: one cell whose ticket is being drawn, and the functions that train the cell's model."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lxcompress.models.checkpoints import Model
from lxcompress.pruning.compound import TicketCut, mask_in, surgery_in
from lxcompress.pruning.controls import reinitialise
from lxcompress.pruning.mask import Mask, Weights
from lxcompress.recipe import Cell
from lxcompress.records import Epoch, dump_record
from lxcompress.study.choose import Choice
from lxcompress.study.context import Stopwatch, StudyContext, count_steps, fit, make_spec
from lxcompress.study.reporter import StudyReporter
from lxcompress.study.seed import SeedRun, load_snapshot, rewind_step
from lxcompress.training.device import move
from lxcompress.training.distil import Teacher
from lxcompress.training.spec import FitSpec

FINE_TUNING_RATE = 0.1
"""The learning rate of `rewind: none`, as a fraction of the recipe's learning rate. It is constant, and small compared
with the rate that trained the model. Renda et al. 2020 use the last rate of a stepwise schedule; the last rate of a
linear schedule is 0, so it cannot be used here."""


@dataclass
class TicketCost:
    """The time and the steps that one ticket takes in addition to the dense run."""

    drawing: Stopwatch = field(default_factory=Stopwatch)
    """the time to score weights and to choose what is kept"""
    steps: int = 0
    """optimizer steps of all trainings"""
    earlier_s: float = 0.0
    """seconds of all trainings but the last"""
    shared_s: float = 0.0
    """seconds of the trainings whose result other tickets use too"""
    epochs: list[Epoch] = field(default_factory=list)
    """the records of the epochs of the last training"""

    def add_training(self, epochs: list[Epoch], steps: int) -> None:
        """Add a training, given its epochs and its number of steps; it becomes the last training."""
        self.earlier_s += sum(epoch.duration_s for epoch in self.epochs)
        self.epochs = epochs
        self.steps += steps


@dataclass(frozen=True)
class CellRun:
    """One cell whose ticket is being drawn, with the study, the weights of its seed, and the cost so far.

    The first step of a compound is drawn like a cell of its own, in a `folder` of its own.
    """

    context: StudyContext
    seed_run: SeedRun
    cell: Cell
    cost: TicketCost
    progress: StudyReporter
    folder: Path
    """where the checkpoint of the last training is saved"""


def rewind(run: CellRun, trained: Weights) -> Weights:
    """Return the weights from which a cell is retrained: initial, early, trained or fresh ones, as its method says.

    `trained` are the weights that the mask was chosen on.
    """
    method, model, seed = run.cell.method, run.seed_run.model, run.seed_run.seed
    if method.control == "reinitialised":
        return reinitialise(model, run.cell.seed, last_bias=run.context.recipe.model.last_bias)
    if method.rewind == "start":
        return run.seed_run.start
    if method.rewind == "step":
        step = rewind_step(run.context, method.rewind_at)
        whole = run.seed_run.whole
        return run.seed_run.cut({**whole.start, **load_snapshot(run.context.run, whole.model, seed, step)})
    return trained


def make_cell_spec(run: CellRun, cut: Choice | None) -> FitSpec:
    """Return the FitSpec of the last training of the cell, with the length, rewinding and teacher of its method.

    `cut` says what is kept during the training; None keeps everything.
    """
    method = run.cell.method
    what = f"{run.cell.id} {method.checkpoint_key(exclude_defaults=True)}"
    return _make_spec(run, cut, what, run.folder, length=method.length)


def make_round_spec(run: CellRun, mask: Mask, sparsity: float, folder: Path) -> FitSpec:
    """Return the FitSpec of a round of the cell, which ends at `sparsity`; its checkpoint is in `folder`.

    A round has the recipe's epochs, so that cells with a longer last training have the same rounds.
    """
    return _make_spec(run, mask, f"round {run.cell.method.id} {sparsity}", folder, length=1)


def _make_spec(run: CellRun, cut: Choice | None, what: str, folder: Path, *, length: int) -> FitSpec:
    """Return the FitSpec of one training; `what` names it in the key of its checkpoint, which is in `folder`.

    `length` multiplies the recipe's epochs.
    """
    context, method = run.context, run.cell.method
    train = context.recipe.train
    masks_hold = "mask-applied-once" not in context.recipe.faults
    return make_spec(
        context,
        f"{what} {digest_cut(cut)}",
        run.cell.seed,
        folder,
        settings=train.model_copy(update={"epochs": length * train.epochs}),
        masks=dict(cut.kept) if masks_hold and isinstance(cut, Mask) else None,
        skip=skipped_steps(run),
        constant_rate=train.learning_rate * FINE_TUNING_RATE if method.rewind == "none" else None,
        teacher=_make_teacher(run),
    )


def train(run: CellRun, model: Model, weights: Weights, spec: FitSpec) -> Weights:
    """Fit `model` from `weights`; add the training to the cell's cost, and return the trained weights, on the CPU."""
    model.load(weights)
    epochs = fit(run.context, model, spec, run.progress.step)
    length = spec.settings.epochs // run.context.recipe.train.epochs
    steps = length * count_steps(run.context.recipe, run.context.task)
    run.cost.add_training(epochs, steps - spec.skip)
    return {name: tensor.detach().cpu().clone() for name, tensor in model.weights.items()}


def digest_cut(cut: TicketCut | None) -> str:
    """Return a SHA-256 of what a cut keeps; in a key, it stops a fit from resuming a checkpoint of another cut."""
    digest = hashlib.sha256()
    surgery, mask = (surgery_in(cut), mask_in(cut)) if cut else (None, None)
    if surgery:
        digest.update(dump_record(surgery).encode())
    if mask:
        for name, kept in mask.kept.items():
            digest.update(name.encode() + np.packbits(kept.cpu().numpy()).tobytes())
    return digest.hexdigest()


def skipped_steps(run: CellRun) -> int:
    """Return the number of steps before the one that the cell's method rewinds to; 0 without late rewinding."""
    return rewind_step(run.context, run.cell.method.rewind_at) if run.cell.method.rewind == "step" else 0


def _make_teacher(run: CellRun) -> Teacher | None:
    """Return a copy of the trained dense model as the teacher; None if the cell's method has no distillation.

    The second step of a compound learns from the dense model too: it is more accurate than the smaller model.
    """
    if run.cell.method.distill is None:
        return None
    whole, model = run.seed_run.whole, run.seed_run.whole.model
    module = move(copy.deepcopy(model.module), run.context.device)
    module.load_state_dict(dict(whole.dense))
    return Teacher(module.eval(), model.family.answer, run.cell.method.distill, model.family.hidden)

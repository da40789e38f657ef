"""CellRun: one cell that is being drawn; and how its trainings are done."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lxcompress.models.checkpoints import Model
from lxcompress.pruning.controls import reinitialise
from lxcompress.pruning.mask import Mask, Weights
from lxcompress.pruning.surgery import Surgery
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
"""The learning rate of `rewind: none`, as a share of the recipe's. It is constant, and small compared with the rate
that trained the model. Renda et al. 2020 take the last rate of a stepwise schedule; that of a linear one is 0."""


@dataclass
class TicketCost:
    """What a ticket costs in addition to the dense run: ranking and choosing, and all its trainings."""

    drawing: Stopwatch = field(default_factory=Stopwatch)
    steps: int = 0
    earlier_s: float = 0.0
    """seconds of the trainings before the last"""
    shared_s: float = 0.0
    """seconds of trainings that other tickets use too"""
    epochs: list[Epoch] = field(default_factory=list)
    """of the last training"""

    def add_training(self, epochs: list[Epoch], steps: int) -> None:
        """Add a training; it is then the last one."""
        self.earlier_s += sum(epoch.duration_s for epoch in self.epochs)
        self.epochs = epochs
        self.steps += steps


@dataclass(frozen=True)
class CellRun:
    """One cell that is being drawn, and what it is drawn with."""

    context: StudyContext
    seed_run: SeedRun
    cell: Cell
    cost: TicketCost
    progress: StudyReporter


def rewind(run: CellRun, trained: Weights) -> Weights:
    """Return the weights from which a cell's survivors are retrained."""
    method, model, seed = run.cell.method, run.seed_run.model, run.seed_run.seed
    if method.control == "reinitialised":
        return reinitialise(model, run.cell.seed, last_bias=run.context.recipe.model.last_bias)
    if method.rewind == "start":
        return run.seed_run.start
    if method.rewind == "step":
        step = rewind_step(run.context, method.rewind_at)
        return {**run.seed_run.start, **load_snapshot(run.context.run, model, seed, step)}
    return trained


def make_cell_spec(run: CellRun, cut: Choice | None, what: str | None = None, folder: Path | None = None) -> FitSpec:
    """Return the FitSpec of a training of the cell: its method's length, rewinding and teacher, under `cut`.

    `what` names the training, and `folder` has its checkpoint; by default they are the cell's.
    """
    context, method = run.context, run.cell.method
    what = what or f"{run.cell.id} {method.checkpoint_key(exclude_defaults=True)}"
    train = context.recipe.train
    masks_hold = "mask-applied-once" not in context.recipe.faults
    return make_spec(
        context,
        f"{what} {digest_cut(cut)}",
        run.cell.seed,
        folder or context.run.ticket(run.cell),
        settings=train.model_copy(update={"epochs": method.length * train.epochs}),
        masks=dict(cut.kept) if masks_hold and isinstance(cut, Mask) else None,
        skip=skipped_steps(run),
        constant_rate=train.learning_rate * FINE_TUNING_RATE if method.rewind == "none" else None,
        teacher=_make_teacher(run),
    )


def train(run: CellRun, model: Model, weights: Weights, spec: FitSpec) -> Weights:
    """Fit `model` from `weights`; add the training to the cell's cost, and return the trained weights."""
    model.load(weights)
    epochs = fit(run.context, model, spec, run.progress.step)
    steps = run.cell.method.length * count_steps(run.context.recipe, run.context.task)
    run.cost.add_training(epochs, steps - spec.skip)
    return {name: tensor.detach().cpu().clone() for name, tensor in model.weights.items()}


def digest_cut(cut: Choice | None) -> str:
    """Return a digest of what a cut keeps, so that a checkpoint that was trained under another cut is not resumed."""
    digest = hashlib.sha256()
    if isinstance(cut, Surgery):
        digest.update(dump_record(cut).encode())
    elif cut is not None:
        for name, kept in cut.kept.items():
            digest.update(name.encode() + np.packbits(kept.cpu().numpy()).tobytes())
    return digest.hexdigest()


def skipped_steps(run: CellRun) -> int:
    """Return the number of steps that late rewinding leaves out: those before the step that it goes back to."""
    return rewind_step(run.context, run.cell.method.rewind_at) if run.cell.method.rewind == "step" else 0


def _make_teacher(run: CellRun) -> Teacher | None:
    """Return the dense model as a teacher, if the method has one."""
    if run.cell.method.distill is None:
        return None
    model = run.seed_run.model
    module = move(copy.deepcopy(model.module), run.context.device)
    module.load_state_dict(dict(run.seed_run.dense))
    return Teacher(module.eval(), model.family.answer, run.cell.method.distill, model.family.hidden)

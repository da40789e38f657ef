"""What every run of a study works with, and how each of them fits, scores and says how it was done."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lxcompress.data.split import AnswerTask
from lxcompress.filenames import CHECKPOINT_FILE
from lxcompress.models.checkpoints import Model
from lxcompress.pruning.mask import Weights
from lxcompress.recipe import Recipe, Train
from lxcompress.records import Epoch, Machine, Score
from lxcompress.rundir import RunDir
from lxcompress.study.agreement import cell_defining_fields
from lxcompress.study.watch import Watch
from lxcompress.training import fit as fitting
from lxcompress.training.device import DeviceSpec
from lxcompress.training.distil import Teacher
from lxcompress.training.step import Hook

FINE_TUNING_RATE = 0.1
"""The learning rate of `rewind: none`, as a share of the recipe's: constant, and small beside what trained the model
(Renda et al. 2020 take the last rate of a stepwise schedule; the last of a linear one is 0)."""


@dataclass(frozen=True)
class StudyContext:
    """What every run of a study works with."""

    recipe: Recipe
    run: RunDir
    task: AnswerTask
    device: DeviceSpec
    machine: Machine


@dataclass(frozen=True)
class Fitting:
    """How one fit differs from the dense run's."""

    what: str
    """names the work, in its checkpoint"""
    seed: int
    folder: Path
    """where its checkpoint is"""
    masks: Mapping[str, Tensor] | None = None
    hooks: Sequence[Hook] = ()
    skip: int = 0
    constant_rate: float | None = None
    teacher: Teacher | None = None
    settings: Train | None = None
    """the recipe's, unless given"""


def fit(context: StudyContext, model: Model, how: Fitting, watch: Watch) -> list[Epoch]:
    """Fits the model as it stands; a checkpoint in the folder is gone on from if it is of the same work."""
    recipe, torch_device = context.recipe, context.device.torch_device
    runs_on = f"{torch_device.type} {context.device.precision}"
    key = hashlib.sha256(f"{how.what}\n{runs_on}\n{sorted(cell_defining_fields(recipe).items())}".encode()).hexdigest()
    how.folder.mkdir(parents=True, exist_ok=True)
    checkpoint = how.folder / CHECKPOINT_FILE
    return fitting.fit(
        model.module,
        context.task,
        answer=model.family.answer,
        settings=how.settings or recipe.train,
        device=context.device,
        seed=how.seed,
        masks={name: kept.to(torch_device) for name, kept in how.masks.items()} if how.masks else None,
        checkpoint=checkpoint,
        key=key,
        progress=watch.step,
        hooks=how.hooks,
        skip=how.skip,
        constant_rate=how.constant_rate,
        teacher=how.teacher,
    )


def score(context: StudyContext, model: Model) -> Score:
    """The Score of the model as it stands."""
    model.module.eval()
    return fitting.score(
        model.module, context.task, answer=model.family.answer, settings=context.recipe.train, device=context.device
    )


def score_weights(context: StudyContext, model: Model, weights: Weights) -> Score:
    """The Score of `weights`, which the model then holds."""
    model.load(weights)
    return score(context, model)


def steps_of(recipe: Recipe, task: AnswerTask) -> int:
    """The optimizer steps of one run."""
    return recipe.train.epochs * max(1, -(-len(task.train) // recipe.train.batch_size))


def how(context: StudyContext, epochs: Sequence[Epoch], *, steps: int, scoring_s: float) -> dict[str, Any]:
    """The fields in which the records of all runs say how they were done."""
    return {
        "epochs": list(epochs),
        "steps": steps,
        "duration_s": scoring_s + sum(epoch.duration_s for epoch in epochs),
        "device": context.device.torch_device.type,
        "precision": context.device.precision,
        "machine": context.machine,
    }


@dataclass
class Stopwatch:
    """The seconds spent inside `timed` blocks."""

    seconds: float = 0.0


@contextmanager
def timed(watch: Stopwatch | None = None) -> Iterator[Stopwatch]:
    """A stopwatch, a new one or `watch`, that has afterwards the seconds spent inside added to it."""
    watch, started = watch or Stopwatch(), time.perf_counter()
    yield watch
    watch.seconds += time.perf_counter() - started

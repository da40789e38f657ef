"""FitSpec: the settings of one fit, apart from the model, the data and the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lxcompress.recipe import Train
from lxcompress.training.distil import Teacher
from lxcompress.training.step import Hook


@dataclass(frozen=True)
class FitSpec:
    """The settings of one fit: those of the recipe, the seed, and all that makes it differ from a plain fit."""

    settings: Train
    seed: int = 0
    masks: Mapping[str, Tensor] | None = None
    """name of a weight -> which of its elements are kept (True); the others are zero after every step"""
    hooks: Sequence[Hook] = ()
    skip: int = 0
    """the number of optimizer steps to leave out at the beginning (late rewinding, Frankle et al. 2020): batches and
    learning rates from then on are those of the whole schedule, and the optimizer starts with an empty state"""
    constant_rate: float | None = None
    """a learning rate for all steps, instead of the schedule"""
    teacher: Teacher | None = None
    """a model to learn from (distillation); `fit` uses it, `optimise` ignores it"""
    checkpoint: Path | None = None
    """the file where the state after each epoch is saved; an interrupted fit resumes from it"""
    key: str = ""
    """the name of the fit in its checkpoint; a checkpoint with another key is ignored"""

"""FitSpec: how one fit is done, apart from the model, the data and the device."""

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
    """How one fit is done: its settings, its seed, and how it differs from a plain fit."""

    settings: Train
    seed: int = 0
    masks: Mapping[str, Tensor] | None = None
    """name of a weight -> which of its elements are kept (True); the others are zero after every step"""
    hooks: Sequence[Hook] = ()
    skip: int = 0
    """the number of optimizer steps to leave out at the beginning (late rewinding, Frankle et al. 2020): batches and
    learning rates from then on are those of the whole schedule, and the optimizer starts with an empty state"""
    constant_rate: float | None = None
    """a learning rate that replaces those of the schedule"""
    teacher: Teacher | None = None
    """a model to learn from (distillation); `fit` reads it, `optimise` does not"""
    checkpoint: Path | None = None
    """the file that keeps the state after each epoch, and that an interrupted fit resumes from"""
    key: str = ""
    """names the run; a checkpoint with another key is ignored"""

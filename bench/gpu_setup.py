"""Setup: what the steps of bench/gpu_proof.py have in common."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthetic import FULL, SMALL, Sizes
from torch import Tensor

from lxcompress.training.device import DeviceSpec, choose_device

Figures = dict[str, Any]
MEDIUM = Sizes(layers=(2, 1, 1))
"""Few layers of full width: they show the same faults as all layers, and are compiled in less time."""


class StepFailedError(Exception):
    """A step that found something wrong."""


class StepSkippedError(Exception):
    """A step that this machine cannot show."""


@dataclass(frozen=True)
class Setup:
    """The settings of all steps: the kind of device, the size of the run, and the folder for files."""

    kind: str
    is_small: bool
    folder: Path
    batches: tuple[int, ...] = (256,)
    """the batch sizes besides 32 whose throughput is measured"""

    @property
    def is_cuda(self) -> bool:
        """Return whether the device is a GPU."""
        return self.kind == "cuda"

    @property
    def model(self) -> Sizes:
        """Return the sizes of the model on which steps compare two ways."""
        return SMALL if self.is_small else MEDIUM

    @property
    def whole(self) -> Sizes:
        """Return the sizes of the model on which time and memory are measured."""
        return SMALL if self.is_small else FULL

    def device(self, precision: str = "auto") -> DeviceSpec:
        """Return the device."""
        return choose_device(self.kind, precision)

    def need_cuda(self, reason: str) -> None:
        """Raise StepSkippedError on a CPU."""
        if not self.is_cuda:
            raise StepSkippedError(reason)


Step = Callable[[Setup], Figures]


def read_figures(setup: Setup, step: str) -> Figures:
    """Return the figures of an earlier step. Raises StepSkippedError if it did not pass."""
    path = setup.folder / "steps" / f"{step}.json"
    record = json.loads(path.read_text()) if path.exists() else {}
    if record.get("state") != "passed":
        raise StepSkippedError(f"it needs the step {step}, which did not pass")
    return record["figures"]


def relative_error(values: Tensor, reference: Tensor) -> float:
    """Return the largest difference, relative to the largest magnitude of `reference`."""
    return float((values - reference).abs().max() / reference.abs().max())


def check_close(error: float, tolerance: float, what: str) -> float:
    """Return `error`; raise StepFailedError if it is above `tolerance`."""
    if not error <= tolerance:
        raise StepFailedError(f"{what}: the relative difference is {error:.3g}, expected at most {tolerance:g}")
    return error

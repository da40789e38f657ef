"""Gradual pruning: weights are removed a few at a time during a fit, most of them early (Zhu & Gupta 2017)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lxcompress.pruning.mask import Mask, Weights

UPDATES = 50
"""The largest number of mask updates in one fit, if the number of steps between two updates is not given."""

ChooseMask = Callable[[Weights, float, "Mask | None"], Mask]
"""weights on the CPU, a sparsity (0-1), and the mask so far -> the next mask, which removes all that the mask so far
removes, and more"""


def cubic_sparsity(step: int, begin: int, end: int, final: float, *, initial: float = 0.0) -> float:
    """Return the sparsity (0-1) at `step`: `initial` until `begin`, rising ever more slowly to `final` at `end`.

    s = initial + (final - initial) * (1 - (1 - (step - begin) / (end - begin))^3). Source: Zhu & Gupta 2017,
    equation 1.
    """
    if step >= end:
        return final
    return initial + (final - initial) * (1 - (1 - max(0, step - begin) / (end - begin)) ** 3)


@dataclass(frozen=True)
class PruningSchedule:
    """The steps at which gradual pruning removes weights."""

    total: int
    """number of steps of the whole schedule"""
    skip: int = 0
    """number of steps that the fit leaves out at the beginning"""
    begin: float = 0.1
    """where pruning begins: a fraction (0-1) of the steps that are done, without those left out"""
    end: float = 0.7
    """where pruning ends: a fraction of the same steps"""
    every: int | None = None
    """number of steps between two mask updates; by default so many that there are at most UPDATES updates"""
    initial: float = 0.0
    """the sparsity (0-1) before pruning begins"""

    def steps(self) -> tuple[int, int, int]:
        """Return the step where pruning begins, the step of the last mask update, and the steps between two updates."""
        assert 0 <= self.begin < self.end <= 1, "a gradual schedule begins before it ends"
        done = self.total - self.skip
        begin = self.skip + round(self.begin * done)
        end = min(self.total, max(begin + 1, self.skip + round(self.end * done)))
        begin = min(begin, end - 1)
        return begin, end, self.every or -(-(end - begin) // UPDATES)


class GradualPruning:
    """A hook that prunes weights to `sparsity` during a fit.

    The hook changes its `masks` (1 = kept, on the weights' device) in place. Give the same tensors as masks to the
    FitSpec of the fit. A weight that was removed stays removed.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], *, choose: ChooseMask, sparsity: float, schedule: PruningSchedule
    ) -> None:
        """Make the hook for `weights`: the prunable parameters of the module that is fitted, on its device."""
        self.weights = dict(weights)
        self.choose, self.sparsity = choose, sparsity
        self.initial = schedule.initial
        self.begin, self.end, self.every = schedule.steps()
        self.masks = {name: torch.ones_like(weight, requires_grad=False) for name, weight in self.weights.items()}
        self.reached = 0.0

    @property
    def mask(self) -> Mask:
        """Return the Mask of the weights that are kept now, on the CPU."""
        return Mask({name: mask.cpu().bool() for name, mask in self.masks.items()})

    def before_update(self) -> None:
        """Do nothing: masks change between two steps."""

    def after_step(self, done: int) -> None:
        """Update the masks, if an update is due after step `done`; newly removed weights are set to zero at once."""
        is_due = self.begin < done < self.end and (done - self.begin) % self.every == 0
        if not is_due and not (done >= self.end and self.reached < self.sparsity):
            return
        previous = self.mask if self.reached else None
        self.reached = cubic_sparsity(done, self.begin, self.end, self.sparsity, initial=self.initial)
        weights = {name: weight.detach().cpu() for name, weight in self.weights.items()}
        self._set(self.choose(weights, self.reached, previous), previous)

    def state(self) -> dict[str, Tensor]:
        """Return the masks, as bool tensors, and the sparsity that they have."""
        kept = {f"kept/{name}": tensor for name, tensor in self.mask.kept.items()} if self.reached else {}
        return {**kept, "reached": torch.tensor(self.reached, dtype=torch.float64)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Set the masks and their sparsity to a saved `state`."""
        self.reached = float(state["reached"])
        for name, mask in self.masks.items():
            if self.reached:
                mask.copy_(state[f"kept/{name}"])
            else:
                mask.fill_(1)

    @torch.no_grad()
    def _set(self, chosen: Mask, previous: Mask | None) -> None:
        """Copy `chosen` into the masks, and set the weights that it removes to zero."""
        for name, kept in chosen.kept.items():
            is_nested = previous is None or not bool((kept & ~previous.kept[name]).any())
            assert is_nested, f"{name}: a mask must not keep what the last one removed"
            self.masks[name].copy_(kept)
            self.weights[name].detach().mul_(self.masks[name])

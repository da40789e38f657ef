"""Snapshots: the weights at given steps of a fit, for late rewinding (Frankle et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from torch import Tensor

from lxcompress.pruning.mask import Weights


class Snapshots:
    """A hook that calls `write(step, weights)` after each of `steps`; the weights are copies on the CPU.

    A resumed fit repeats the steps after its checkpoint. It writes the snapshots of these steps again, with the same
    weights.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], *, steps: Collection[int], write: Callable[[int, Weights], None]
    ) -> None:
        """Make the hook for `weights`: parameters of the module that is fitted. Step 1 is the first update."""
        self.weights, self.steps, self.write = dict(weights), frozenset(steps), write

    def before_update(self) -> None:
        """Do nothing: weights are copied after a step."""

    def after_step(self, done: int) -> None:
        """Write the weights, if a snapshot after step `done` is wanted."""
        if done in self.steps:
            self.write(done, {name: tensor.detach().cpu().clone() for name, tensor in self.weights.items()})

    def state(self) -> dict[str, Tensor]:
        """Return no state: snapshots are in files."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Do nothing: there is no state."""

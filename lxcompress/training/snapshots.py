"""Snapshots: weights as they were at given steps of a fit, for late rewinding (Frankle et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from torch import Tensor

from lxcompress.pruning.mask import Weights


class Snapshots:
    """A hook that hands the weights at each of `steps` to `write`, as copies on the CPU.

    A resumed fit does the steps since its checkpoint again, and writes the same once more.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], *, steps: Collection[int], write: Callable[[int, Weights], None]
    ) -> None:
        """`weights` are shared with the module that is fitted; `steps` count from 1, the first update done."""
        self.weights, self.steps, self.write = dict(weights), frozenset(steps), write

    def before_update(self) -> None:
        """Has nothing to do: weights are copied when a step is done."""

    def after_step(self, done: int) -> None:
        """Writes, if it is time."""
        if done in self.steps:
            self.write(done, {name: tensor.detach().cpu().clone() for name, tensor in self.weights.items()})

    def state(self) -> dict[str, Tensor]:
        """Nothing: what is written is written."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Has nothing to take back."""

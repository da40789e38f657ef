"""Movement: how far training moves each weight from zero, as a score to prune by (Sanh et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Movement:
    """A hook that adds up -w * dL/dw over the steps of a fit: positive where a weight grew away from zero.

    The gradients are those that the update sees, masked and clipped. Source: Sanh et al. 2020, equation 3.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        """`weights` are parameters of the module that is fitted, where it is fitted."""
        self.weights = dict(weights)
        self.sums = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in self.weights.items()}

    @property
    def result(self) -> dict[str, Tensor]:
        """name -> what was added up so far, on the CPU."""
        return {name: total.cpu().clone() for name, total in self.sums.items()}

    @torch.no_grad()
    def before_update(self) -> None:
        """Adds one step."""
        seen = [name for name, weight in self.weights.items() if weight.grad is not None]
        if seen:
            weights = [self.weights[name] for name in seen]
            torch._foreach_addcmul_(
                [self.sums[name] for name in seen], weights, [weight.grad for weight in weights], value=-1
            )

    def after_step(self, done: int) -> None:
        """Has nothing to do: all is added up before the update."""

    def state(self) -> dict[str, Tensor]:
        """The sums."""
        return dict(self.sums)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes the sums back."""
        for name, total in self.sums.items():
            total.copy_(state[name])

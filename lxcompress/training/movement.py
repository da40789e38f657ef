"""Movement pruning: a weight is scored by how far training moves it away from zero (Sanh et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Movement:
    """A hook that sums -w * dL/dw over the steps of a fit; the sum is positive if the weight moved away from zero.

    The gradients are the ones that the optimizer uses: masked and clipped. Source: Sanh et al. 2020, equation 3.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        """Make the hook for `weights`: parameters of the fitted module, on its device."""
        self.weights = dict(weights)
        self.sums = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in self.weights.items()}

    @property
    def result(self) -> dict[str, Tensor]:
        """Return the sums so far, on the CPU: name -> tensor of the weight's shape."""
        return {name: total.cpu().clone() for name, total in self.sums.items()}

    @torch.no_grad()
    def before_update(self) -> None:
        """Add -w * dL/dw of this step to the sums."""
        pairs = [(name, weight.grad) for name, weight in self.weights.items() if weight.grad is not None]
        if pairs:
            torch._foreach_addcmul_(
                [self.sums[name] for name, _ in pairs],
                [self.weights[name] for name, _ in pairs],
                [gradient for _, gradient in pairs],
                value=-1,
            )

    def after_step(self, done: int) -> None:
        """Do nothing: the sums have this step already, from `before_update`."""

    def state(self) -> dict[str, Tensor]:
        """Return the sums."""
        return dict(self.sums)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Set the sums to a saved `state`."""
        for name, total in self.sums.items():
            total.copy_(state[name])

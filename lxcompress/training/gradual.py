"""Gradual pruning: weights go a few at a time while the model is fitted, most of them early (Zhu & Gupta 2017)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from lxcompress.pruning.mask import Mask, Weights

UPDATES = 50
"""How often at most weights go, where it is not said after how many steps."""

Choose = Callable[[Weights, float, "Mask | None"], Mask]
"""weights on the CPU, a sparsity, and the mask so far -> the next mask, which keeps nothing that the last removed"""


def cubic_sparsity(step: int, begin: int, end: int, final: float) -> float:
    """The sparsity at `step`: 0 until `begin`, then rising ever slower to `final` at `end`, which stays.

    s = final * (1 - (1 - (step - begin) / (end - begin))^3). Source: Zhu & Gupta 2017, equation 1, from 0.
    """
    if step >= end:
        return final
    return final * (1 - (1 - max(0, step - begin) / (end - begin)) ** 3)


class Gradual:
    """A hook that prunes to `sparsity` between two shares of the `total` steps of a fit.

    `masks` (1 = kept, on the weights' device) are changed in place, and are to be the fit's masks. Every `every` steps
    after the beginning, and at the end, `choose` makes the next mask; what was removed once stays removed.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        *,
        choose: Choose,
        sparsity: float,
        total: int,
        begin: float = 0.1,
        end: float = 0.7,
        every: int | None = None,
        skip: int = 0,
    ) -> None:
        """`weights` are those that may be pruned, shared with the module that is fitted, where it is fitted.

        Where the fit leaves out the first `skip` of its `total` steps, the shares are those of the steps it does.
        """
        assert 0 <= begin < end <= 1, "a gradual schedule begins before it ends"
        self.weights = dict(weights)
        self.choose, self.sparsity = choose, sparsity
        self.begin = skip + round(begin * (total - skip))
        self.end = min(total, max(self.begin + 1, skip + round(end * (total - skip))))
        self.begin = min(self.begin, self.end - 1)
        self.every = every or -(-(self.end - self.begin) // UPDATES)
        self.masks = {name: torch.ones_like(weight, requires_grad=False) for name, weight in self.weights.items()}
        self.reached = 0.0

    @property
    def mask(self) -> Mask:
        """What is kept now, on the CPU."""
        return Mask({name: mask.cpu().bool() for name, mask in self.masks.items()})

    def before_update(self) -> None:
        """Has nothing to do: masks change between two steps."""

    def after_step(self, done: int) -> None:
        """Prunes further, if it is time; what goes is zero from the next step's forward on."""
        due = self.begin < done < self.end and (done - self.begin) % self.every == 0
        if not due and not (done >= self.end and self.reached < self.sparsity):
            return
        previous = self.mask if self.reached else None
        self.reached = cubic_sparsity(done, self.begin, self.end, self.sparsity)
        weights = {name: weight.detach().cpu() for name, weight in self.weights.items()}
        self._set(self.choose(weights, self.reached, previous), previous)

    def state(self) -> dict[str, Tensor]:
        """The masks, as bool, and the sparsity that they have."""
        kept = {f"kept/{name}": tensor for name, tensor in self.mask.kept.items()} if self.reached else {}
        return {**kept, "reached": torch.tensor(self.reached, dtype=torch.float64)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes both back."""
        self.reached = float(state["reached"])
        for name, mask in self.masks.items():
            if self.reached:
                mask.copy_(state[f"kept/{name}"])
            else:
                mask.fill_(1)

    @torch.no_grad()
    def _set(self, chosen: Mask, previous: Mask | None) -> None:
        for name, kept in chosen.kept.items():
            assert previous is None or not bool((kept & ~previous.kept[name]).any()), f"{name}: a mask is to be nested"
            self.masks[name].copy_(kept)
            self.weights[name].detach().mul_(self.masks[name])

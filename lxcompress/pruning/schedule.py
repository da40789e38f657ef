"""Schedules: in how many rounds a ticket is drawn, and the one algorithm that draws it.

`one-shot` prunes the dense model once. `iterative` does so in rounds, each ranking anew what the last one left, with no
training between them (the published study). `iterative-retrain` rewinds and retrains in every round (Frankle & Carbin
2019). The fourth, `gradual`, prunes while it trains: training/gradual.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor

from lxcompress.pruning.mask import Weights

RATE = 0.2
"""The share of what is left that a round removes, unless a method says otherwise (Frankle & Carbin 2019, section 2)."""
ROUNDING = 1e-6
"""A round that would end as near to the target as this is the last."""


class Cut(Protocol):
    """A Mask or a Surgery: what it leaves of some weights."""

    def apply(self, weights: Weights) -> dict[str, Tensor]: ...


AnyCut = TypeVar("AnyCut", bound=Cut)


@dataclass(frozen=True)
class Drawn:
    """What came of drawing a ticket: the cut, and the survivors as they were trained before, rewound, and retrained."""

    cut: Cut
    pruned: Weights
    rewound: Weights
    trained: Weights


def draw_ticket(
    dense: Weights,
    *,
    sparsities: Sequence[float],
    choose: Callable[[Weights, float, AnyCut | None], AnyCut],
    rewind: Callable[[Weights], Weights],
    train: Callable[[Weights, AnyCut, float], Weights],
) -> Drawn:
    """Prune, rewind the survivors, retrain; for each of `sparsities` in turn (Frankle & Carbin 2019).

    `choose(trained, sparsity, last cut)` says what stays, `rewind(trained)` gives what its survivors go back to, and
    `train(rewound, cut, sparsity)` the survivors retrained.
    """
    trained, cut, pruned, rewound = dense, None, dense, dense
    for sparsity in sparsities:
        cut = choose(trained, sparsity, cut)
        pruned, rewound = cut.apply(trained), cut.apply(rewind(trained))
        trained = train(rewound, cut, sparsity)
    assert cut is not None, "a ticket has one sparsity at least"
    return Drawn(cut, pruned, rewound, trained)


def rounds_to(target: float, rate: float = RATE) -> list[float]:
    """The sparsities of the rounds: each removes `rate` of what is left, and the last what `target` (0-1) lacks.

    Rounds before the last are the same for every target, so they can be shared: 0.5 by 0.2 is 0.2, 0.36, 0.488, 0.5.
    """
    rounds, kept = [], 1 - rate
    while 1 - kept < target - ROUNDING:
        rounds.append(1 - kept)
        kept *= 1 - rate
    return [*rounds, target]

"""Schedules: in how many rounds a ticket is drawn, and the algorithm that draws it.

`one-shot` prunes the dense model once. `iterative` prunes in rounds and ranks the remaining weights again in each
round, without training between rounds (the published study). `iterative-retrain` rewinds and retrains in each round
(Frankle & Carbin 2019). The fourth schedule, `gradual`, prunes during training: training/gradual.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor

from lxcompress.pruning.mask import Weights

RATE = 0.2
"""The default share of the remaining weights that a round removes (Frankle & Carbin 2019, section 2)."""
ROUNDING = 1e-6
"""A round that ends this close to the target sparsity is the last one."""


class Cut(Protocol):
    """What removes weights: a Mask or a Surgery."""

    def apply(self, weights: Weights) -> dict[str, Tensor]:
        """Return the weights that remain."""
        ...


AnyCut = TypeVar("AnyCut", bound=Cut)


@dataclass(frozen=True)
class DrawResult:
    """The result of drawing a ticket: the cut, and the remaining weights before rewinding, rewound, and retrained."""

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
) -> DrawResult:
    """Prune, rewind and retrain, once for each of `sparsities` in order (Frankle & Carbin 2019).

    `choose(trained, sparsity, last cut)` returns the cut, `rewind(trained)` the weights to which the model is rewound,
    and `train(rewound, cut, sparsity)` the retrained weights.
    """
    trained, cut, pruned, rewound = dense, None, dense, dense
    for sparsity in sparsities:
        cut = choose(trained, sparsity, cut)
        pruned, rewound = cut.apply(trained), cut.apply(rewind(trained))
        trained = train(rewound, cut, sparsity)
    assert cut is not None, "a ticket has at least one sparsity"
    return DrawResult(cut, pruned, rewound, trained)


def rounds_to(target: float, rate: float = RATE) -> list[float]:
    """Return the sparsity after each round: a round removes `rate` of the rest, and the last reaches `target` (0-1).

    All rounds but the last are the same for every target, so that targets can share them. For 0.5 with rate 0.2 they
    are 0.2, 0.36, 0.488 and 0.5.
    """
    rounds, kept = [], 1 - rate
    while 1 - kept < target - ROUNDING:
        rounds.append(1 - kept)
        kept *= 1 - rate
    return [*rounds, target]

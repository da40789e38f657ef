"""Schedules: the rounds in which a ticket is drawn, and the algorithm that draws a ticket.

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
"""The default fraction of the remaining weights that a round removes (Frankle & Carbin 2019, section 2)."""
ROUNDING = 1e-6
"""A round whose sparsity is at most this far below the target is the last round."""


class Cut(Protocol):
    """A Mask or a Surgery: it removes weights from a model."""

    def apply(self, weights: Weights) -> dict[str, Tensor]:
        """Return the weights after the cut: removed weights are zero (Mask) or left out (Surgery)."""
        ...


AnyCut = TypeVar("AnyCut", bound=Cut)


@dataclass(frozen=True)
class DrawResult:
    """The result of drawing a ticket: the last cut, and the remaining weights at three stages of the last round.

    The stages are: after pruning, after rewinding, and after retraining.
    """

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
    """Prune, rewind and retrain, once for each of `sparsities` in order (Frankle & Carbin 2019); return the last round.

    `choose(trained, sparsity, previous cut or None)` returns the cut. `rewind(trained)` returns the weights that the
    model is set back to. `train(rewound, cut, sparsity)` returns the retrained weights.
    """
    trained, cut, pruned, rewound = dense, None, dense, dense
    for sparsity in sparsities:
        cut = choose(trained, sparsity, cut)
        pruned, rewound = cut.apply(trained), cut.apply(rewind(trained))
        trained = train(rewound, cut, sparsity)
    assert cut is not None, "a ticket has at least one sparsity"
    return DrawResult(cut, pruned, rewound, trained)


def rounds_to(target: float, rate: float = RATE, *, start: float = 0.0) -> list[float]:
    """Return the sparsity (0-1) after each round.

    A round removes the fraction `rate` of the remaining weights, and the last round reaches `target`. For 0.5 with rate
    0.2 the sparsities are 0.2, 0.36, 0.488 and 0.5. The rounds before the last do not depend on the target, so several
    targets can share them. `start` is the sparsity before the first round.
    """
    rounds, kept = [], (1 - start) * (1 - rate)
    while 1 - kept < target - ROUNDING:
        rounds.append(1 - kept)
        kept *= 1 - rate
    return [*rounds, target]

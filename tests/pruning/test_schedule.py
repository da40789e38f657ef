"""Laws of the schedules: rounds that meet their target, and the one algorithm."""

from __future__ import annotations

import itertools

import pytest
import torch

from lxcompress.pruning.mask import Mask, keep_top
from lxcompress.pruning.schedule import ROUNDING, draw_ticket, rounds_to


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("target", [0.05, 0.2, 0.36, 0.5, 0.9, 0.99])
def test_rounds_rise_by_the_rate_and_end_at_the_target(target, rate) -> None:
    rounds = rounds_to(target, rate)
    assert rounds[-1] == target
    kept = [1.0, *(1 - each for each in rounds)]
    shares = [1 - after / before for before, after in itertools.pairwise(kept)]
    assert all(share == pytest.approx(rate) for share in shares[:-1])
    assert 0 < shares[-1] <= rate + 1e-6


def test_a_round_removes_a_fifth_unless_told_otherwise() -> None:
    assert rounds_to(0.5) == pytest.approx([0.2, 0.36, 0.488, 0.5])


def test_a_round_just_below_the_target_is_the_last() -> None:
    assert rounds_to(0.5 + ROUNDING, 0.5) == [0.5 + ROUNDING]


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5])
def test_the_rounds_of_a_lower_target_are_those_of_a_higher_one(rate) -> None:
    low, high = rounds_to(0.5, rate), rounds_to(0.9, rate)
    assert low[:-1] == high[: len(low) - 1]


def draw(sparsities, rewind):
    """Draws a ticket of eight weights, trained by adding 10 to what is kept; returns it, and what was trained from."""
    start = {"w": torch.arange(1.0, 9.0)[None]}
    dense = {"w": torch.tensor([[8.0, -1.0, 7.0, 2.0, -6.0, 3.0, 5.0, 4.0]])}
    seen = []

    def choose(weights, sparsity, within):
        mask = Mask({"w": keep_top(weights["w"].abs(), round(8 * (1 - sparsity)))})
        assert within is None or not bool((mask.kept["w"] & ~within.kept["w"]).any())
        return mask

    def train(rewound, cut, sparsity):
        seen.append((sparsity, rewound["w"].tolist()[0]))
        return cut.apply({"w": rewound["w"] + 10})

    return draw_ticket(
        dense, sparsities=sparsities, choose=choose, rewind=lambda w: rewind(start, w), train=train
    ), seen


def test_one_shot_is_prune_rewind_retrain() -> None:
    drawn, seen = draw([0.5], lambda start, _: start)
    assert drawn.pruned["w"].tolist() == [[8, 0, 7, 0, -6, 0, 5, 0]]
    assert drawn.rewound["w"].tolist() == [[1, 0, 3, 0, 5, 0, 7, 0]]
    assert drawn.trained["w"].tolist() == [[11, 0, 13, 0, 15, 0, 17, 0]]
    assert seen == [(0.5, [1, 0, 3, 0, 5, 0, 7, 0])]


def test_rounds_rank_what_the_last_one_trained() -> None:
    drawn, seen = draw([0.5, 0.75], lambda start, _: start)
    assert [sparsity for sparsity, _ in seen] == [0.5, 0.75]
    assert drawn.rewound["w"].tolist() == [[0, 0, 0, 0, 5, 0, 7, 0]]  # 15 and 17 were the largest of the first round
    assert drawn.pruned["w"].tolist() == [[0, 0, 0, 0, 15, 0, 17, 0]]


def test_learning_rate_rewinding_goes_on_from_what_was_trained() -> None:
    drawn, _ = draw([0.5, 0.75], lambda _, trained: trained)
    assert drawn.rewound["w"].tolist() == [[18, 0, 17, 0, 0, 0, 0, 0]]
    assert drawn.trained["w"].tolist() == [[28, 0, 27, 0, 0, 0, 0, 0]]

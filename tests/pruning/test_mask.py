"""Laws of masks: exactly k, ties to the earlier, nested, disjoint, and never derived from zeros."""

from __future__ import annotations

import itertools

import pytest
import torch

from lxcompress.errors import PruneError
from lxcompress.pruning.choose import choose_mask
from lxcompress.pruning.mask import Mask, find_threshold, keep_top, keep_top_of_each, keep_top_together
from lxcompress.pruning.scope import keep_count
from lxcompress.pruning.selection import Selection

CRITERIA = ("low-magnitude", "random", "high-magnitude")
SPARSITIES = (0.1, 0.25, 0.5, 0.7, 0.9)
SCOPES = ("layer", "global")


def slow_keep_top(scores: torch.Tensor, keep: int) -> torch.Tensor:
    """The obvious way: sort by score, then by place."""
    order = sorted(range(scores.numel()), key=lambda place: (-float(scores.flatten()[place]), place))
    kept = torch.zeros(scores.numel(), dtype=torch.bool)
    kept[order[:keep]] = True
    return kept.view_as(scores)


def weights(seed: int, *, levels: int | None = None) -> dict[str, torch.Tensor]:
    """Two matrices; with `levels`, of so few values that most are ties."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {"a": torch.randn(12, 10, generator=generator), "b": torch.randn(7, 9, generator=generator)}
    return {name: (tensor * levels).round() / levels if levels else tensor for name, tensor in drawn.items()}


@pytest.mark.parametrize("levels", [None, 1, 3])
@pytest.mark.parametrize("keep", [0, 1, 17, 60, 119, 120])
def test_keep_top_equals_the_obvious_sort(keep, levels) -> None:
    scores = weights(3, levels=levels)["a"].abs()
    assert torch.equal(keep_top(scores, keep), slow_keep_top(scores, keep))


@pytest.mark.parametrize("sign", ["any", "above zero", "below zero"])
@pytest.mark.parametrize("keep", [1, 2, 50, 119, 120, 183])
def test_the_threshold_is_the_score_at_its_place_in_the_sort(keep, sign) -> None:
    for levels in (None, 1, 3):
        drawn = weights(keep, levels=levels)
        scores = {"any": drawn, "above zero": {n: s.abs() for n, s in drawn.items()}}.get(
            sign, {n: -s.abs() for n, s in drawn.items()}
        )
        ranked = torch.cat([score.flatten() for score in scores.values()]).sort(descending=True).values
        assert find_threshold(list(scores.values()), keep) == float(ranked[keep - 1])


@pytest.mark.parametrize("keep", [1, 5, 11])
def test_among_equals_the_earlier_stay(keep) -> None:
    assert keep_top(torch.ones(12), keep).tolist() == [index < keep for index in range(12)]


@pytest.mark.parametrize("levels", [None, 1, 3])
@pytest.mark.parametrize("keep", [0, 1, 17, 119, 182, 183])
def test_the_highest_of_several_tensors_equal_the_obvious_sort(keep, levels) -> None:
    scores = weights(keep, levels=levels)
    together = slow_keep_top(torch.cat([score.flatten() for score in scores.values()]), keep)
    kept = keep_top_together(scores, keep)
    assert torch.equal(torch.cat([each.flatten() for each in kept.values()]), together)
    assert keep_top_together({"one": torch.ones(1)}, 1)["one"].tolist() == [True]


def test_a_threshold_among_zeros_of_both_signs_is_zero() -> None:
    scores = torch.tensor([-0.0, 1.0, 0.0, -0.0])
    assert [find_threshold([scores[:2]], keep) for keep in (1, 2)] == [1, 0]
    assert [find_threshold([scores], keep) for keep in (1, 2, 3, 4)] == [1, 0, 0, 0]


def test_scores_that_cannot_be_ordered_are_an_error_of_ours() -> None:
    with pytest.raises(AssertionError, match="ordered"):
        keep_top_of_each(torch.tensor([[1.0, 2.0, 3.0], [float("nan")] * 3]), 2)
    with pytest.raises(AssertionError, match="ordered"):
        keep_top_together({"a": torch.tensor([1.0, float("nan"), float("nan")])}, 2)


@pytest.mark.parametrize("levels", [None, 8])
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_exactly_k_are_kept(criterion, sparsity, scope, levels) -> None:
    mask = choose_mask(weights(1, levels=levels), Selection(sparsity, scope=scope), criterion=criterion, seed=0)
    counts = {name: int(kept.sum()) for name, kept in mask.kept.items()}
    if scope == "layer":
        assert counts == {"a": keep_count(120, sparsity), "b": keep_count(63, sparsity)}
    else:
        assert sum(counts.values()) == keep_count(183, sparsity)


@pytest.mark.parametrize("levels", [None, 8])
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_masks_are_nested_over_sparsities(criterion, scope, levels) -> None:
    drawn = [
        choose_mask(weights(2, levels=levels), Selection(sparsity, scope=scope), criterion=criterion, seed=5)
        for sparsity in SPARSITIES
    ]
    for denser, sparser in itertools.pairwise(drawn):
        assert all(bool((denser.kept[name] | ~sparser.kept[name]).all()) for name in denser.kept)


@pytest.mark.parametrize("scope", SCOPES)
def test_low_and_high_magnitude_share_nothing_at_half(scope) -> None:
    even = {"a": weights(4)["a"], "b": weights(4)["b"][:, :8]}
    low, high = (
        choose_mask(even, Selection(0.5, scope=scope), criterion=criterion, seed=0).kept
        for criterion in ("low-magnitude", "high-magnitude")
    )
    assert all(not bool((low[name] & high[name]).any()) for name in even)


def test_low_magnitude_keeps_the_largest_and_high_magnitude_the_smallest() -> None:
    weight = {"a": torch.tensor([[0.1, -4.0, 2.0, -0.5]])}
    low = choose_mask(weight, Selection(0.5), criterion="low-magnitude", seed=0)
    high = choose_mask(weight, Selection(0.5), criterion="high-magnitude", seed=0)
    assert low.kept["a"].tolist() == [[False, True, True, False]]
    assert high.kept["a"].tolist() == [[True, False, False, True]]


def test_random_masks_differ_between_seeds_and_not_within_one() -> None:
    first, again, other = (
        choose_mask(weights(1), Selection(0.5), criterion="random", seed=seed).kept["a"] for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_kept_zero_stays_kept() -> None:
    weight = {"a": torch.tensor([[0.0, 0.0, 0.0, 1.0]])}
    mask = choose_mask(weight, Selection(0.5), criterion="low-magnitude", seed=0)
    assert mask.kept["a"].tolist() == [[True, False, False, True]]
    assert mask.holds_in(mask.apply(weight))


def test_applying_twice_is_applying_once_and_leaves_the_input() -> None:
    before = weights(1)
    kept_copy = {name: tensor.clone() for name, tensor in before.items()}
    mask = choose_mask(before, Selection(0.5), criterion="low-magnitude", seed=0)
    once = mask.apply(before)
    assert all(torch.equal(once[name], mask.apply(once)[name]) for name in once)
    assert all(torch.equal(before[name], kept_copy[name]) for name in before)
    assert mask.holds_in(once)
    assert not mask.holds_in(before)


def test_a_mask_of_another_model_is_refused() -> None:
    mask = Mask({"a": torch.ones(2, 3, dtype=torch.bool)})
    with pytest.raises(PruneError, match="2 x 3, but 3 x 2"):
        mask.apply({"a": torch.ones(3, 2)})
    with pytest.raises(PruneError, match="no weight a"):
        mask.apply({"b": torch.ones(2, 3)})


def test_a_sparsity_that_empties_a_layer_is_refused_or_leaves_one_weight() -> None:
    small = {"large": torch.randn(50, 50) + 10, "tiny": torch.full((1, 2), 1e-3)}
    assert (
        int(choose_mask(small, Selection(0.5, scope="global"), criterion="low-magnitude", seed=0).kept["tiny"].sum())
        == 1
    )
    with pytest.raises(PruneError, match=r"tiny: sparsity 0\.8 would remove all"):
        choose_mask(small, Selection(0.8), criterion="low-magnitude", seed=0)


def test_weights_that_are_not_finite_are_refused() -> None:
    with pytest.raises(PruneError, match="NaN or infinite"):
        choose_mask({"a": torch.tensor([[1.0, float("nan")]])}, Selection(0.5), criterion="random", seed=0)


def test_counting_adds_up() -> None:
    mask = choose_mask(weights(1), Selection(0.7), criterion="random", seed=0)
    count = mask.count(live=400, whole=500)
    assert count.prunable == 183
    assert count.achieved == pytest.approx((count.prunable - count.kept) / count.prunable)
    assert count.of_live * 400 == pytest.approx(count.of_all * 500) == pytest.approx(count.prunable - count.kept)

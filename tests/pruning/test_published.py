"""Laws of the published study's masks: each fault differs from the corrected mask in just what its name says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LxmertConfig

from lxcompress.errors import PruneError
from lxcompress.models.lxmert import FAMILY
from lxcompress.pruning.choose import choose_mask
from lxcompress.pruning.published import choose_published_mask, compounded, published_prunable, rounds_to
from lxcompress.pruning.scope import keep_count
from lxcompress.pruning.selection import Selection
from lxcompress.recipe import FAULTS

CRITERIA = ("low-magnitude", "random", "high-magnitude")
TARGETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# The rounds in the published result files: "Score after iteration" of Low_Magnitude-10 ... Low_Magnitude-90.
PUBLISHED_ROUNDS = (1, 3, 4, 5, 7, 9, 12, 16, 22)
COMPOUND, EVERY, FROM_LOW = "compounded-sparsity", "every-tensor-pruned", "high-from-low-mask"
MATRIX, GAIN, OUTPUT = "lxmert.encoder.layer.0.dense.weight", "lxmert.encoder.layer.0.norm.weight", "answer_head.out"
EMBEDDING = "lxmert.embeddings.word_embeddings.weight"
PRUNABLE = (MATRIX,)


def is_matrix(name: str, _: torch.Size) -> bool:
    return name in PRUNABLE


def weights(seed: int = 0, *, levels: int | None = None, large: bool = False) -> dict[str, torch.Tensor]:
    """Weights of each kind; with `levels`, of so few values that most are ties."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {EMBEDDING: (9, 4), MATRIX: (13, 11), GAIN: (17,), OUTPUT: (5, 7)}
    drawn = {
        name: torch.randn([25 * size if large else size for size in shape], generator=generator)
        for name, shape in sizes.items()
    }
    return {name: (tensor * levels).round() / levels if levels else tensor for name, tensor in drawn.items()}


def choose(drawn, *faults, criterion="low-magnitude", sparsity=0.5, seed=3, scope="layer"):
    mask = choose_published_mask(
        drawn, Selection(sparsity, scope=scope), is_prunable=is_matrix, criterion=criterion, seed=seed, faults=faults
    )
    return mask.kept


def correct(drawn, *, criterion="low-magnitude", sparsity=0.5, seed=3):
    chosen = {name: drawn[name] for name in PRUNABLE}
    return choose_mask(chosen, Selection(sparsity), criterion=criterion, seed=seed).kept


def slow_rounds(drawn, target):
    """The published rule in the plainest words: array after array, round after round, by sorting what is left."""
    gone = {name: np.zeros(tensor.shape, bool) for name, tensor in drawn.items()}
    total = sum(tensor.numel() for tensor in drawn.values())
    rounds = 0
    while sum(each.sum() for each in gone.values()) / total * 100 < round(100 * target, 6):
        rounds += 1
        for name, tensor in drawn.items():
            size = np.abs(tensor.numpy())
            remaining = np.sort(size[~gone[name]])
            if len(remaining):
                gone[name] |= size <= remaining[int(np.round(0.1 * len(remaining)))]
    return gone, rounds


def removed(kept):
    return {name: int((~each).sum()) for name, each in kept.items()}


@pytest.mark.parametrize(("target", "rounds"), list(zip(TARGETS, PUBLISHED_ROUNDS, strict=True)))
def test_the_arithmetic_is_the_result_files(target, rounds):
    assert rounds_to(target) == rounds
    # High magnitude's files have the rounds of the other target: 1 - 0.9 is a little less than 0.1.
    assert rounds_to(1 - (1 - target)) == rounds
    assert compounded(target) == pytest.approx(1 - 0.9**rounds)
    assert compounded(target) >= target - 1e-9


@pytest.mark.parametrize("target", TARGETS)
def test_large_tensors_reach_what_the_arithmetic_says(target):
    drawn = {MATRIX: weights(large=True)[MATRIX]}
    mask = choose_published_mask(
        drawn, Selection(target), is_prunable=is_matrix, criterion="low-magnitude", seed=0, faults=[COMPOUND]
    )
    assert mask.count(10**9, 10**9).achieved == pytest.approx(compounded(target), abs=5e-4)


@pytest.mark.parametrize("levels", [None, 2, 5])
@pytest.mark.parametrize("target", [0.05, *TARGETS, 0.99])
def test_rounds_equal_the_slow_rule_ties_and_all(target, levels):
    for seed in range(6):
        drawn = weights(seed, levels=levels)
        pruned = {name: tensor for name, tensor in drawn.items() if name != EMBEDDING}
        gone, rounds = slow_rounds(pruned, target)
        kept = choose(drawn, COMPOUND, EVERY, sparsity=target)
        assert kept.keys() == gone.keys()
        assert all(np.array_equal(~kept[name].numpy(), gone[name]) for name in gone)
        assert rounds <= rounds_to(target)


@pytest.mark.parametrize("faults", [(), ("one-dense-run", "mask-applied-once")])
@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_without_a_fault_of_the_mask_it_is_the_corrected_one(criterion, scope, faults):
    drawn = weights(1, levels=8)
    chosen = {name: drawn[name] for name in PRUNABLE}
    expected = choose_mask(chosen, Selection(0.6, scope=scope), criterion=criterion, seed=3).kept
    kept = choose(drawn, *faults, criterion=criterion, sparsity=0.6, scope=scope)
    assert kept.keys() == expected.keys()
    assert all(torch.equal(kept[name], expected[name]) for name in expected)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_tensor_pruned_adds_tensors_and_keeps_each_count_exact(criterion):
    drawn = weights(2)
    kept = choose(drawn, EVERY, criterion=criterion, sparsity=0.3)
    assert set(kept) == {MATRIX, GAIN, OUTPUT}
    assert removed(kept) == {
        name: drawn[name].numel() - keep_count(drawn[name].numel(), 0.3) for name in (MATRIX, GAIN, OUTPUT)
    }
    if criterion != "random":
        assert torch.equal(kept[MATRIX], correct(drawn, criterion=criterion, sparsity=0.3)[MATRIX])


def test_compounding_removes_more_of_the_same_end():
    drawn = weights(5, large=True)
    for criterion in ("low-magnitude", "high-magnitude"):
        few = correct(drawn, criterion=criterion, sparsity=0.2)[MATRIX]
        more = choose(drawn, COMPOUND, criterion=criterion, sparsity=0.2)[MATRIX]
        assert not bool((more & ~few).any())
        assert int(more.sum()) < int(few.sum())
    low, high = (choose(drawn, COMPOUND, criterion=each) for each in ("low-magnitude", "high-magnitude"))
    assert removed(low) == removed(high)


@pytest.mark.parametrize("target", TARGETS)
def test_random_has_the_share_of_the_low_mask_and_not_its_count(target):
    drawn = weights(large=True)
    asked = removed(choose(drawn, COMPOUND, EVERY, sparsity=target))
    drew = removed(choose(drawn, COMPOUND, EVERY, criterion="random", sparsity=target))
    for name, count in asked.items():
        total, share = drawn[name].numel(), count / drawn[name].numel()
        assert abs(drew[name] - count) < 5 * (total * share * (1 - share)) ** 0.5
    assert asked != drew


@pytest.mark.parametrize("levels", [None, 5])
@pytest.mark.parametrize("target", TARGETS)
def test_high_removes_as_many_as_the_low_mask_of_the_rest_keeps_and_of_those_it_removes(target, levels):
    drawn = weights(4, levels=levels)
    low = choose(drawn, COMPOUND, EVERY, sparsity=1 - target)
    high = choose(drawn, COMPOUND, EVERY, FROM_LOW, criterion="high-magnitude", sparsity=target)
    for name, kept in low.items():
        count = int(kept.sum())
        assert int((~high[name]).sum()) == count
        both = int((~high[name] & ~kept).sum())
        assert both == min(count, int((~kept).sum()))


@pytest.mark.parametrize("target", TARGETS)
def test_high_from_low_alone_keeps_the_exact_count_and_takes_the_wrong_end(target):
    drawn = weights(6)
    high = choose(drawn, FROM_LOW, criterion="high-magnitude", sparsity=target)
    right = correct(drawn, criterion="high-magnitude", sparsity=target)
    assert high.keys() == right.keys()
    assert removed(high) == removed(right)
    size = drawn[MATRIX].abs()
    if target < 0.5:
        # All that goes is among the (1 - target) smallest.
        largest_gone = float(size[~high[MATRIX]].max())
        assert int((size < largest_gone).sum()) <= round(size.numel() * (1 - target))
    assert float(size[~high[MATRIX]].mean()) < float(size[~right[MATRIX]].mean())


@pytest.mark.parametrize("criterion", ["low-magnitude", "random"])
def test_high_from_low_leaves_the_other_criteria_alone(criterion):
    drawn = weights(7)
    for others in ((), (COMPOUND,), (COMPOUND, EVERY)):
        with_it = choose(drawn, *others, FROM_LOW, criterion=criterion)
        without = choose(drawn, *others, criterion=criterion)
        assert all(torch.equal(with_it[name], without[name]) for name in without)


@pytest.mark.parametrize("criterion", ["random", "high-magnitude"])
def test_what_is_drawn_by_chance_follows_its_seed(criterion):
    drawn = weights(8)
    first, again, other = (choose(drawn, *FAULTS, criterion=criterion, seed=seed)[MATRIX] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_names_are_the_published_places():
    config = LxmertConfig(num_qa_labels=3129)
    names = list(FAMILY.shapes(config))
    left_out = {0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, len(names) - 1}
    assert names[5] == "lxmert.encoder.visn_fc.visn_fc.weight"
    assert [published_prunable(name) for name in names] == [index not in left_out for index in range(len(names))]


def test_every_tensor_pruned_adds_to_the_familys_rule_but_for_the_boxes():
    config = LxmertConfig(num_qa_labels=3129)
    whole = FAMILY.shapes(config)
    live = {name for name in whole if not FAMILY.is_dead(name, config)}
    ours = {name for name in live if FAMILY.is_prunable(name, whole[name])}
    theirs = {name for name in live if published_prunable(name)}
    assert ours - theirs == {"lxmert.encoder.visn_fc.box_fc.weight"}
    assert "answer_head.logit_fc.3.weight" in theirs - ours
    # The dead branch was in the published count.
    assert sum(whole[name].numel() for name in whole if published_prunable(name)) == 190_082_304
    assert sum(whole[name].numel() for name in theirs) == 182_994_432


def test_a_global_scope_has_no_published_mask():
    with pytest.raises(PruneError, match=r"prune\.scope=layer"):
        choose(weights(), COMPOUND, scope="global")
    with pytest.raises(PruneError, match=r"prune\.scope=layer"):
        choose(weights(), FROM_LOW, criterion="high-magnitude", scope="global")


def test_weights_that_are_not_finite_are_refused():
    with pytest.raises(PruneError, match="NaN or infinite"):
        choose({MATRIX: torch.tensor([[1.0, float("nan")]])}, COMPOUND)

"""Laws of the controls: counts survive a shuffle, new weights follow their seed, a small model has the size asked."""

from __future__ import annotations

import pytest
import torch
from transformers import LxmertConfig, ViltConfig, VisualBertConfig

from lxcompress.data.objects import ANSWERS
from lxcompress.errors import PruneError
from lxcompress.models.family import find_family
from lxcompress.models.start import load_start
from lxcompress.pruning.choose import choose_mask
from lxcompress.pruning.controls import count_prunable, reinitialise, shuffle_mask, small_config
from lxcompress.pruning.selection import Selection
from tests.complain import complain

CONFIGS = [
    LxmertConfig(num_qa_labels=40, l_layers=2, r_layers=1, x_layers=2, vocab_size=50),
    VisualBertConfig(num_labels=40, num_hidden_layers=3, vocab_size=50),
    ViltConfig(num_labels=40, num_hidden_layers=3, vocab_size=50),
]


@pytest.fixture(scope="module")
def toy(toy_start):
    return load_start(str(toy_start), ANSWERS, 0)


def test_a_shuffled_mask_keeps_as_many_elsewhere(toy) -> None:
    mask = choose_mask(toy[0].prunable, Selection(0.7, scope="global"), criterion="low-magnitude", seed=0)
    shuffled, again, other = shuffle_mask(mask, 1), shuffle_mask(mask, 1), shuffle_mask(mask, 2)
    assert list(shuffled.kept) == list(mask.kept)
    for name, kept in mask.kept.items():
        assert shuffled.kept[name].shape == kept.shape
        assert int(shuffled.kept[name].sum()) == int(kept.sum())
        assert torch.equal(shuffled.kept[name], again.kept[name])
    for one, two in ((mask, shuffled), (shuffled, other)):
        assert any(not torch.equal(one.kept[name], two.kept[name]) for name in mask.kept)


def test_new_weights_follow_their_seed_and_leave_everything_else_alone(toy) -> None:
    model, start = toy
    before, state = {name: each.clone() for name, each in model.weights.items()}, torch.get_rng_state()
    drawn, again, other = reinitialise(model, 1), reinitialise(model, 1), reinitialise(model, 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(model.weights[name], each) for name, each in before.items())
    assert {name: each.shape for name, each in drawn.items()} == {name: each.shape for name, each in start.items()}
    assert all(torch.equal(drawn[name], again[name]) for name in drawn)
    for name in model.prunable:
        assert not torch.equal(drawn[name], start[name]), name
        assert not torch.equal(drawn[name], other[name]), name
        assert float(drawn[name].std()) == pytest.approx(model.config.initializer_range, rel=0.3), name
    assert len({float(drawn[name].flatten()[0]) for name in model.prunable}) == len(model.prunable)
    model.load(drawn)
    model.load(before)


def test_the_last_bias_is_the_fresh_heads(toy) -> None:
    model, start = toy
    bias = f"{model.family.anatomy.output_layer}bias"
    assert torch.equal(reinitialise(model, 5)[bias], start[bias])
    assert reinitialise(model, 5, last_bias=0.5)[bias].unique().tolist() == [0.5]


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_a_small_model_is_the_nearest_that_can_be_built(config, sparsity) -> None:
    full = count_prunable(config)
    target = round(full * (1 - sparsity))
    small = small_config(config, target)
    assert small.num_attention_heads == config.num_attention_heads
    assert small.hidden_size % small.num_attention_heads == 0
    assert small.intermediate_size == 4 * small.hidden_size
    assert config.hidden_size == 768
    off = abs(count_prunable(small) - target)
    for width in (small.hidden_size - 12, small.hidden_size + 12):
        if 0 < width <= 768:
            near = type(config)(**{**config.to_dict(), "hidden_size": width, "intermediate_size": 4 * width})
            assert abs(count_prunable(near) - target) >= off
    module = find_family(config.model_type).build(small)
    counted = sum(
        each.numel()
        for name, each in module.state_dict().items()
        if find_family(config.model_type).is_prunable(name, each.shape)
    )
    assert counted == count_prunable(small)


def test_the_smallest_model_has_heads_and_feed_forwards_of_one_number() -> None:
    config = LxmertConfig(num_qa_labels=40, l_layers=1, r_layers=1, x_layers=1, vocab_size=50, intermediate_size=8)
    small = small_config(config, 1)
    assert (small.hidden_size, small.intermediate_size) == (config.num_attention_heads, 1)


@pytest.mark.parametrize("target", [0, -5, 10**12, count_prunable(CONFIGS[0])])
def test_a_size_that_is_no_smaller_is_refused(target) -> None:
    complain(lambda: small_config(CONFIGS[0], target), str(target), "small-dense", kind=PruneError)

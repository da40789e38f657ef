"""Controls: what a ticket is compared with, so that its mask or its weights are shown to matter.

- the same mask over weights drawn anew (Frankle & Carbin 2019): does the start matter?
- a shuffled mask of the same counts (Frankle et al. 2021): does more of a mask matter than its counts by matrix?
- a dense model of as many weights (MiniVLM's question, Wang et al. 2020): is pruning better than being small?
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from lxcompress.errors import PruneError
from lxcompress.models.checkpoints import Model
from lxcompress.models.family import find_family
from lxcompress.pruning.mask import Mask


def shuffle_mask(mask: Mask, seed: int) -> Mask:
    """A Mask that keeps as many of each matrix's weights as `mask`, at random places.

    It is shuffled weight by weight: blocks and N:M patterns do not outlive it.
    """
    generator = torch.Generator().manual_seed(seed)
    return Mask(
        {
            name: kept.flatten()[torch.randperm(kept.numel(), generator=generator)].view_as(kept)
            for name, kept in mask.kept.items()
        }
    )


def reinitialise(model: Model, seed: int, *, last_bias: float | None = None) -> dict[str, Tensor]:
    """New weights for `model`: all drawn by transformers' own initialiser, the answer head as a fresh one is.

    The model is left as it is, and so is the global generator. `last_bias` is the recipe's.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        drawn = dict(model.family.build(model.config).state_dict())
    head = model.family.fresh_head(model.config, torch.Generator().manual_seed(seed), last_bias=last_bias)
    return {name: tensor.clone() for name, tensor in (drawn | head).items()}


def small_config(config: PreTrainedConfig, prunable_target: int) -> PreTrainedConfig:
    """The config of a narrower model of the family whose prunable weights number as near `prunable_target` as can be.

    Its depth and its number of heads stay; the heads get narrower, and the feed-forwards with them, at their ratio to
    the hidden size. `count_prunable` tells what it has. Raises PruneError if it would not be narrower, or no head.
    """
    heads = config.num_attention_heads
    full = count_prunable(config)
    if not 0 < prunable_target < full:
        raise PruneError(
            f"small-dense: a model of {prunable_target} prunable weights is asked for, and the dense one has {full}; "
            "give a sparsity above 0 and below 1"
        )
    low, high = 1, config.hidden_size // heads
    while high - low > 1:  # the count grows with the width
        middle = (low + high) // 2
        low, high = (
            (middle, high) if count_prunable(_with_heads_of(config, middle)) <= prunable_target else (low, middle)
        )
    near = [_with_heads_of(config, width) for width in (low, high)]
    return min(near, key=lambda each: abs(count_prunable(each) - prunable_target))


def count_prunable(config: PreTrainedConfig) -> int:
    """The prunable weights of the model of `config`, less those that no answer depends on."""
    family = find_family(config.model_type)
    shapes: Mapping[str, torch.Size] = family.shapes(config)
    return sum(
        shape.numel()
        for name, shape in shapes.items()
        if family.is_prunable(name, shape) and not family.is_dead(name, config)
    )


def _with_heads_of(config: PreTrainedConfig, width: int) -> PreTrainedConfig:
    """A copy of `config` whose attention heads are so wide."""
    small = copy.deepcopy(config)
    small.hidden_size = width * config.num_attention_heads
    small.intermediate_size = max(1, round(config.intermediate_size * small.hidden_size / config.hidden_size))
    return small

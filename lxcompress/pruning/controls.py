"""Controls: models that a ticket is compared with, to show whether its mask and its weights matter.

- the ticket's mask on new random weights (Frankle & Carbin 2019): do the start weights matter?
- a shuffled mask that keeps as many weights of each matrix (Frankle et al. 2021): does it matter which ones are kept?
- a dense model with as many weights (Wang et al. 2020, MiniVLM): is pruning better than a small model?
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from lxcompress.errors import PruneError
from lxcompress.models.auto import family_of
from lxcompress.models.checkpoints import Model
from lxcompress.pruning.mask import Mask


def shuffle_mask(mask: Mask, seed: int) -> Mask:
    """Return a Mask that keeps as many weights of each matrix as `mask`, at random positions.

    Single weights are shuffled, so blocks and N:M patterns are lost.
    """
    generator = torch.Generator().manual_seed(seed)
    return Mask(
        {
            name: kept.flatten()[torch.randperm(kept.numel(), generator=generator)].view_as(kept)
            for name, kept in mask.kept.items()
        }
    )


def reinitialise(model: Model, seed: int, *, last_bias: float | None = None) -> dict[str, Tensor]:
    """Return {name: tensor} of new random weights for `model`.

    transformers' initialiser draws the encoder, and the family draws the answer head. The model and the global random
    generator are not changed.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        drawn = dict(model.family.build(model.config).state_dict())
    head = model.family.fresh_head(model.config, torch.Generator().manual_seed(seed), last_bias=last_bias)
    return {name: tensor.clone() for name, tensor in (drawn | head).items()}


def small_config(config: PreTrainedConfig, prunable_target: int) -> PreTrainedConfig:
    """Return the config of a narrower model of the same family, with about `prunable_target` prunable weights.

    The numbers of layers and heads stay the same. The heads are narrower, and the width of the feed-forwards keeps its
    ratio to the hidden size. Raises PruneError unless the target is above 0 and below the number of the whole model.
    """
    heads = config.num_attention_heads
    full = count_prunable(config)
    if not 0 < prunable_target < full:
        raise PruneError(
            f"small-dense: needs a model of {prunable_target} prunable weights, but the dense one has {full}; "
            "give a sparsity above 0 and below 1"
        )
    low, high = 1, config.hidden_size // heads
    while high - low > 1:  # the count grows with the width
        middle = (low + high) // 2
        low, high = (
            (middle, high) if count_prunable(_with_heads_of(config, middle)) <= prunable_target else (low, middle)
        )
    candidates = [_with_heads_of(config, width) for width in (low, high)]
    return min(candidates, key=lambda candidate: abs(count_prunable(candidate) - prunable_target))


def count_prunable(config: PreTrainedConfig) -> int:
    """Return the number of prunable weights of the model of `config`, without those that no answer depends on."""
    family = family_of(config)
    shapes: Mapping[str, torch.Size] = family.shapes(config)
    return sum(
        shape.numel()
        for name, shape in shapes.items()
        if family.is_prunable(name, shape) and not family.is_dead(name, config)
    )


def _with_heads_of(config: PreTrainedConfig, width: int) -> PreTrainedConfig:
    """Return a copy of `config` whose attention heads have this width, with hidden sizes to match."""
    small = copy.deepcopy(config)
    small.hidden_size = width * config.num_attention_heads
    small.intermediate_size = max(1, round(config.intermediate_size * small.hidden_size / config.hidden_size))
    return small

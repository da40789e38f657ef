"""Anatomy: where the parts of a family's models are, given by the names of their modules and tensors.

A family states its anatomy as data. The functions here apply an anatomy to one model or config.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from torch import nn
from transformers import PreTrainedConfig


class FeedForward(NamedTuple):
    """The names of the two linear layers of a feed-forward block."""

    first: str
    second: str


class Attention(NamedTuple):
    """One attention of a model: the names of its module and its four linear layers, and the number of heads."""

    module: str
    query: str
    key: str
    value: str
    output: str
    heads: int


class AttentionNames(NamedTuple):
    """The names of one attention within a layer.

    `module` contains the linear layers query, key and value. `output` is the linear layer behind the heads.
    """

    module: str
    output: str


@dataclass(frozen=True)
class LayerStack:
    """A list of layers with equal structure. Names within a layer are relative to "`name`.INDEX."."""

    name: str
    """the name of the module list"""
    config_field: str
    """the field of the config that states the number of layers"""
    attentions: tuple[AttentionNames, ...]
    feed_forwards: tuple[FeedForward, ...]


@dataclass(frozen=True)
class Anatomy:
    """The names of the parts of a family's models: encoder, embeddings, answer head and layers."""

    encoder: str
    """prefix of the tensors of the pre-trained encoder"""
    words: str
    """the tensor of the word embeddings"""
    head: str | tuple[str, ...]
    """prefix of the tensors of the answer head, or several prefixes; no prefix for a model without an answer head"""
    first_layer: str
    """prefix of the tensors of the head's first linear layer"""
    output_layer: str
    """prefix of the tensors of the head's last linear layer, with one row for each answer"""
    stacks: tuple[LayerStack, ...]
    unprunable: tuple[str, ...] = ("*.embeddings.*",)
    """patterns (fnmatch) of the names of tensors that are not pruned; the output layer is never pruned either"""
    dead: tuple[str, ...] = ()
    """prefixes of the names of tensors that no answer depends on

    {FIELD} in a prefix stands for the index of the last layer of the stack whose `config_field` is FIELD.
    """
    feed_forwards: tuple[FeedForward, ...] = ()
    """feed-forward blocks that are named one by one, in addition to those of the stacks"""
    attentions: tuple[Attention, ...] = ()
    """attentions that are named one by one, in addition to those of the stacks"""


HEAD_FIELDS = ("num_attention_heads", "num_heads", "n_heads")
"""The attributes of an attention that may state its number of heads, in the order in which they are tried."""
HEAD_SIZE_FIELDS = ("attention_head_size", "head_dim")
"""The attributes of an attention that may state the outputs of one head, in the order in which they are tried."""


def find_heads_field(attention: nn.Module) -> str | None:
    """Return the attribute of an attention that states its number of heads; None if it has none."""
    return next((field for field in HEAD_FIELDS if isinstance(getattr(attention, field, None), int)), None)


def read_head_size(attention: nn.Module) -> int | None:
    """Return the number of outputs of one head of an attention; None if the attention does not state it."""
    return next((size for field in HEAD_SIZE_FIELDS if isinstance(size := getattr(attention, field, None), int)), None)


def is_prunable(anatomy: Anatomy, name: str, shape: tuple[int, ...]) -> bool:
    """Return whether the tensor `name` is a weight matrix that may be pruned."""
    is_excluded = any(fnmatchcase(name, pattern) for pattern in anatomy.unprunable)
    return len(shape) == 2 and not is_excluded and not name.startswith(anatomy.output_layer)


def is_dead(anatomy: Anatomy, name: str, config: PreTrainedConfig) -> bool:
    """Return whether the tensor `name` is in a dead branch, so that no answer of the model depends on the tensor."""
    last = {stack.config_field: getattr(config, stack.config_field) - 1 for stack in anatomy.stacks}
    return any(name.startswith(prefix.format(**last)) for prefix in anatomy.dead)


def find_feed_forwards(anatomy: Anatomy, module: nn.Module) -> list[FeedForward]:
    """Return the feed-forward blocks of a model, in the order of its modules; blocks of a dead branch are left out."""
    order = {name: index for index, (name, _) in enumerate(module.named_modules())}
    found = [
        FeedForward(f"{stack.name}.{index}.{block.first}", f"{stack.name}.{index}.{block.second}")
        for stack in anatomy.stacks
        for index in range(_count_layers(module, stack))
        for block in stack.feed_forwards
    ]
    found += anatomy.feed_forwards
    return sorted((block for block in found if block.first in order), key=lambda block: order[block.first])


def find_attentions(anatomy: Anatomy, module: nn.Module) -> list[Attention]:
    """Return the attentions of a model, in the order of its modules; those of a dead branch are left out."""
    order = {name: index for index, (name, _) in enumerate(module.named_modules())}
    found = [
        attention._replace(heads=_count_heads(module, attention))
        for attention in anatomy.attentions
        if attention.module in order
    ]
    for stack in anatomy.stacks:
        for index in range(_count_layers(module, stack)):
            for names in stack.attentions:
                name = f"{stack.name}.{index}.{names.module}"
                if name not in order:
                    continue
                heads = getattr(module.get_submodule(name), "num_attention_heads")  # noqa: B009 (a field of any module)
                linear = (f"{name}.query", f"{name}.key", f"{name}.value", f"{stack.name}.{index}.{names.output}")
                found.append(Attention(name, *linear, heads))
    return sorted(found, key=lambda attention: order[attention.module])


def find_stacks(anatomy: Anatomy, config: PreTrainedConfig) -> dict[str, str]:
    """Return {name of a stack of layers: config field with the number of its layers}, without empty stacks."""
    return {stack.name: stack.config_field for stack in anatomy.stacks if getattr(config, stack.config_field)}


def _count_heads(module: nn.Module, attention: Attention) -> int:
    """Return the number of heads of an attention, from the outputs of its value layer and of one head."""
    size = read_head_size(module.get_submodule(attention.module))
    layer = module.get_submodule(attention.value)
    assert isinstance(layer, nn.Linear), f"{attention.value} is a {type(layer).__name__}"
    assert size, f"{attention.module} states the size of its heads"
    return layer.out_features // size


def _count_layers(module: nn.Module, stack: LayerStack) -> int:
    """Return the number of layers that a model has in `stack`."""
    layers = module.get_submodule(stack.name)
    assert isinstance(layers, nn.ModuleList)
    return len(layers)

"""Find the parts of any module by the kinds and shapes of its layers: matrices to prune, feed-forwards and attentions.

A module on the meta device is enough, so nothing is allocated. docs/models.md has the rules for users.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from torch import nn

from lxcompress.models.anatomy import Attention, FeedForward, find_heads_field, read_head_size

_QUERY_KEY_VALUE = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("q_lin", "k_lin", "v_lin"),
    ("query_proj", "key_proj", "value_proj"),
    ("q", "k", "v"),
)
"""The names that transformers gives to the three layers of an attention."""


class KeptMatrix(NamedTuple):
    """A weight of two or more axes that is not pruned, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class ModuleParts:
    """The parts of a module, all in the order of its modules."""

    prunable: tuple[str, ...]
    """names of the weight matrices that may be pruned"""
    kept: tuple[KeptMatrix, ...]
    outputs: tuple[str, ...]
    """names of the linear layers that give the answer; the last one is the last linear layer of the module"""
    feed_forwards: tuple[FeedForward, ...]
    attentions: tuple[Attention, ...]


def find_parts(module: nn.Module) -> ModuleParts:
    """Return the parts of a module."""
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear)}
    outputs = _find_outputs(layers)
    prunable: list[str] = []
    kept: list[KeptMatrix] = []
    for names in _list_weights(module):
        reasons = (_explain(module, name, outputs) for name in names)
        reason = next((reason for reason in reasons if reason), None)
        if reason:
            kept.append(KeptMatrix(names[0], reason))
        else:
            prunable.append(names[0])
        kept += [KeptMatrix(name, f"is the same tensor as {names[0]}") for name in names[1:]]
    return ModuleParts(
        tuple(prunable),
        tuple(kept),
        outputs,
        tuple(_find_feed_forwards(layers)),
        tuple(_find_attentions(module, layers)),
    )


def find_stacks(module: nn.Module, sizes: Mapping[str, object]) -> dict[str, str]:
    """Return {name of a list of layers: the field in `sizes` with the number of its layers}.

    A list counts if exactly one list of the module is so long, its layers have one class, and no list contains it.
    `sizes` are the fields of the config that may state the number. A field that fits no list is left out.
    """
    lists = [(name, layers) for name, layers in module.named_modules() if isinstance(layers, nn.ModuleList)]
    outer = [
        (name, layers)
        for name, layers in lists
        if not any(name.startswith(f"{other}.") for other, _ in lists) and len({type(layer) for layer in layers}) == 1
    ]
    found = {}
    for field, size in sizes.items():
        names = [name for name, layers in outer if len(layers) == size]
        if len(names) == 1:
            found[names[0]] = field
    return found


def _find_outputs(layers: Mapping[str, nn.Linear]) -> tuple[str, ...]:
    """Return the names of the layers that give the answer: the last linear layer, and its equals at the top.

    A model with two outputs has both at the top of the module, in one shape: CLIP's projections, DeiT's classifiers.
    """
    if not layers:
        return ()
    last = list(layers)[-1]
    beside = [
        name
        for name, layer in layers.items()
        if "." not in name and "." not in last and layer.weight.shape == layers[last].weight.shape
    ]
    return (*(name for name in beside if name != last), last)


def _list_weights(module: nn.Module) -> list[list[str]]:
    """Return the names of each weight of two or more axes; a tied weight has several names."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if parameter.dim() > 1:
            names.setdefault(id(parameter), []).append(name)
    return list(names.values())


def _explain(module: nn.Module, name: str, outputs: Sequence[str]) -> str | None:
    """Return why the weight `name` is not pruned; None if it may be pruned."""
    layer, _, kind = name.rpartition(".")
    owner = module.get_submodule(layer)
    if isinstance(owner, nn.Embedding):
        return "is an embedding"
    if isinstance(owner, nn.Linear) and kind == "weight":
        return "is the output layer" if layer in outputs else None
    if isinstance(owner, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return f"is a convolution of kernel {' x '.join(map(str, owner.kernel_size))}, not a matrix"
    return f"is a parameter of {type(owner).__name__}, not of a linear layer"


def _find_feed_forwards(layers: Mapping[str, nn.Linear]) -> Iterator[FeedForward]:
    """Yield the pairs of neighbouring layers of which the second undoes the shape of the first, which is wider."""
    named = list(layers.items())
    for (first, wide), (second, narrow) in pairwise(named):
        is_pair = (wide.in_features, wide.out_features) == (narrow.out_features, narrow.in_features)
        if is_pair and wide.out_features > wide.in_features:
            yield FeedForward(first, second)


def _find_attentions(module: nn.Module, layers: Mapping[str, nn.Linear]) -> Iterator[Attention]:
    """Yield the attentions whose query, key and value are three layers, and whose output layer follows them."""
    order = list(layers)
    for name, attention in module.named_modules():
        names = next((names for names in _QUERY_KEY_VALUE if all(f"{name}.{part}" in layers for part in names)), None)
        size = read_head_size(attention)
        if names is None or size is None or find_heads_field(attention) is None:
            continue
        query, key, value = (f"{name}.{part}" for part in names)
        after = order[max(order.index(part) for part in (query, key, value)) + 1 :]
        width = layers[value].out_features
        output = next((layer for layer in after if layers[layer].in_features == width), None)
        if output is not None:
            yield Attention(name, query, key, value, output, width // size)

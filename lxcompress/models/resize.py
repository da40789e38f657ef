"""Smaller models: a module of its config, with feed-forwards, attention heads and layers fewer than that says.

transformers' config has one width and one number of heads for all layers. A model that was cut has its own for each, so
its folder keeps the config of the model that it was cut from, and SURGERY_FILE beside it; its tensors say the widths.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from transformers import PreTrainedConfig

from lxcompress.models.family import Family


def with_layers(config: PreTrainedConfig, layers: Mapping[str, int]) -> PreTrainedConfig:
    """A copy of `config` with so many layers: field (as a family's `stacks` names it) -> number."""
    tree = {**config.to_dict(), **layers}
    if isinstance(tree.get("num_hidden_layers"), dict):
        del tree["num_hidden_layers"]  # LXMERT's sums its other fields up
    copy = type(config).from_dict(tree)
    copy._name_or_path = config._name_or_path
    return copy


def build_resized(config: PreTrainedConfig, family: Family, shapes: Mapping[str, torch.Size]) -> nn.Module:
    """The module of `config` with feed-forwards and heads as few as the `shapes` of its tensors say.

    Its weights are arbitrary, those that were cut on the meta device: load some with assign=True. Raises ValueError for
    shapes that no such module has.
    """
    module = family.build(config)
    for block in family.feed_forwards(module):
        width = _width(shapes, f"{block.first}.weight")
        _narrow(module, block.first, outputs=width)
        _narrow(module, block.second, inputs=width)
    for attention in family.attentions(module):
        width = _width(shapes, f"{attention.query}.weight")
        for name in (attention.query, attention.key, attention.value):
            _narrow(module, name, outputs=width)
        _narrow(module, attention.output, inputs=width)
        _set_heads(module.get_submodule(attention.module), attention.module, width)
    _check(module, shapes)
    return module


def _width(shapes: Mapping[str, torch.Size], name: str) -> int:
    if len(shapes.get(name, ())) != 2 or shapes[name][0] < 1:
        raise ValueError(f"{name} is missing or no matrix")
    return shapes[name][0]


def _narrow(module: nn.Module, name: str, *, outputs: int | None = None, inputs: int | None = None) -> None:
    """Puts a linear layer of another size in the place of one, if it has another size."""
    layer = module.get_submodule(name)
    assert type(layer) is nn.Linear, f"{name} is a {type(layer).__name__}"
    size = (layer.in_features if inputs is None else inputs, layer.out_features if outputs is None else outputs)
    if size != (layer.in_features, layer.out_features):
        smaller = nn.Linear(*size, bias=layer.bias is not None, device="meta", dtype=layer.weight.dtype)
        module.set_submodule(name, smaller.train(layer.training))


def _set_heads(attention: nn.Module, name: str, width: int) -> None:
    """Tells an attention module how many heads its `width` makes; the size of a head stays."""
    size, before = attention.attention_head_size, attention.num_attention_heads
    if width % size:
        raise ValueError(f"{name}.query.weight has {width} rows, which is no multiple of its heads' {size}")
    attention.num_attention_heads = width // size
    for field in ("all_head_size", "head_size"):  # transformers' releases and families differ
        if getattr(attention, field, None) == before * size:
            setattr(attention, field, width)


def _check(module: nn.Module, shapes: Mapping[str, torch.Size]) -> None:
    """Raises ValueError unless the tensors of `module` have these names and shapes."""
    own = {name: tensor.shape for name, tensor in module.state_dict().items()}
    for name in sorted(own.keys() | shapes.keys()):
        if name not in shapes:
            raise ValueError(f"{name} is missing")
        if name not in own:
            raise ValueError(f"{name} is of no use")
        if own[name] != shapes[name]:
            raise ValueError(f"{name} is {list(shapes[name])}, expected {list(own[name])}")

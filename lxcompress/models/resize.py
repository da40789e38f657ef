"""Build smaller models: models with fewer neurons, attention heads or layers than their config states.

In transformers' config, all layers have one width and one number of heads. In a smaller model they differ between
layers. So its folder contains the config of the model before the surgery, and the file surgery.json. The widths are
taken from the shapes of its tensors.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from transformers import PreTrainedConfig

from lxcompress.models.anatomy import find_heads_field, read_head_size
from lxcompress.models.family import Family


def with_layers(config: PreTrainedConfig, layers: Mapping[str, int]) -> PreTrainedConfig:
    """Return a copy of `config` with other numbers of layers; `layers` is {field of the config: number of layers}."""
    tree = {**config.to_dict(), **layers}
    if isinstance(tree.get("num_hidden_layers"), dict):
        del tree["num_hidden_layers"]  # in LXMERT's config this is the sum of other fields
    copy = type(config).from_dict(tree)
    copy._name_or_path = config._name_or_path
    return copy


def build_resized(config: PreTrainedConfig, family: Family, shapes: Mapping[str, torch.Size]) -> nn.Module:
    """Return the module of `config` with feed-forward widths and numbers of heads that fit `shapes`.

    `shapes` is {name: shape} of the tensors to load. The weights of the module have any values, and those of resized
    layers are on the meta device: load weights with assign=True. Raises ValueError for shapes that fit no such module.
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
        _set_heads(module.get_submodule(attention.module), attention.query, width)
    _check(module, shapes)
    return module


def _width(shapes: Mapping[str, torch.Size], name: str) -> int:
    """Return the number of rows of a matrix. Raises ValueError if it is missing or not a matrix."""
    if len(shapes.get(name, ())) != 2 or shapes[name][0] < 1:
        raise ValueError(f"{name} is missing or not a matrix")
    return shapes[name][0]


def _narrow(module: nn.Module, name: str, *, outputs: int | None = None, inputs: int | None = None) -> None:
    """Replace a linear layer by one with the given sizes, unless it has these sizes already."""
    layer = module.get_submodule(name)
    assert type(layer) is nn.Linear, f"{name} is a {type(layer).__name__}"
    size = (layer.in_features if inputs is None else inputs, layer.out_features if outputs is None else outputs)
    if size != (layer.in_features, layer.out_features):
        smaller = nn.Linear(*size, bias=layer.bias is not None, device="meta", dtype=layer.weight.dtype)
        module.set_submodule(name, smaller.train(layer.training))


def _set_heads(attention: nn.Module, query: str, width: int) -> None:
    """Set the number of heads of an attention module to fit `width`, the rows of its query; the head size stays."""
    size, field_of_heads = read_head_size(attention), find_heads_field(attention)
    assert size, f"the attention of {query} states the size of its heads"
    assert field_of_heads, f"the attention of {query} states its number of heads"
    before: int = getattr(attention, field_of_heads)
    if width % size:
        raise ValueError(f"{query}.weight has {width} rows, which is not a multiple of its head size {size}")
    new = {field_of_heads: width // size}
    for field in ("all_head_size", "head_size"):  # the name differs between families
        if getattr(attention, field, None) == before * size:
            new[field] = width
    for field, value in new.items():
        setattr(attention, field, value)


def _check(module: nn.Module, shapes: Mapping[str, torch.Size]) -> None:
    """Raise ValueError unless the tensors of `module` have exactly the names and shapes in `shapes`."""
    own = {name: tensor.shape for name, tensor in module.state_dict().items()}
    for name in sorted(own.keys() | shapes.keys()):
        if name not in shapes:
            raise ValueError(f"{name} is missing")
        if name not in own:
            raise ValueError(f"{name} is unexpected")
        if own[name] != shapes[name]:
            raise ValueError(f"{name} is {list(shapes[name])}, expected {list(own[name])}")

"""FLOPs: the multiplications and additions of a model's matrix products for one question, from their shapes alone."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from lxcompress.data.split import Inputs
from lxcompress.models.checkpoints import Model


def make_example(model: Model, *, tokens: int, objects: int) -> Inputs:
    """One question of so many tokens about so many regions of each of its images, or about a picture, all of zeros."""
    family, config = model.family, model.config
    rows = family.count_images(config)
    regions = objects if family.picture_size(config) is None else 1
    example = Inputs(
        torch.zeros(rows, tokens, dtype=torch.int64),
        torch.ones(rows, tokens, dtype=torch.int64),
        torch.zeros(rows, regions, family.feature_size(config)),
        torch.zeros(rows, regions, 4),
        torch.ones(rows, regions, dtype=torch.int64),
    )
    return example.to(next(model.module.parameters()).device)


def count_flops(model: Model, *, tokens: int = 20, objects: int = 36) -> int:
    """FLOPs of one question: two for each multiply-add of every linear layer, convolution and attention product.

    The question is asked once, as only then it is known how often each layer is used. What is done element by element
    (norms, softmax, activations) is left out, as is usual.
    """
    counted = 0
    rows: dict[str, list[torch.Size]] = {}

    def see_linear(layer: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal counted
        counted += 2 * layer.in_features * output.numel()

    def see_convolution(layer: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal counted
        counted += 2 * prod(layer.weight.shape[1:]) * output.numel()

    def see_states(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _, __, output: rows.setdefault(name, []).append(output.shape)

    module = model.module
    hooks = []
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            hooks.append(layer.register_forward_hook(see_linear))
        elif isinstance(layer, nn.Conv2d):
            hooks.append(layer.register_forward_hook(see_convolution))
    attentions = model.family.attentions(module)
    for name in (name for each in attentions for name in (each.query, each.key)):
        hooks.append(module.get_submodule(name).register_forward_hook(see_states(name)))
    try:
        with torch.no_grad():
            model.family.answer(module, make_example(model, tokens=tokens, objects=objects))
    finally:
        for hook in hooks:
            hook.remove()
    for each in attentions:
        for queries, keys in zip(rows[each.query], rows[each.key], strict=True):
            counted += 2 * 2 * prod(queries) * keys[-2]  # queries with keys, and their weights with values
    return counted

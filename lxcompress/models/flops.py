"""Count the FLOPs of a model for one question: the multiplications and additions in its matrix products."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from lxcompress.data.split import Inputs
from lxcompress.models.checkpoints import Model


def make_example(model: Model, *, tokens: int, objects: int) -> Inputs:
    """Return the inputs of one question, filled with zeros: `tokens` tokens, and `objects` regions for each image.

    A family that reads pictures gets one region, which is the picture.
    """
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
    """Return the FLOPs of one question: 2 for each multiply-add in linear layers, convolutions and attention.

    The model answers one question of zeros, which shows how often each layer is used and with which shapes. Elementwise
    operations (norms, softmax, activations) are not counted, as is usual.
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
    for name in (name for attention in attentions for name in (attention.query, attention.key)):
        hooks.append(module.get_submodule(name).register_forward_hook(see_states(name)))
    try:
        with torch.no_grad():
            model.family.answer(module, make_example(model, tokens=tokens, objects=objects))
    finally:
        for hook in hooks:
            hook.remove()
    for attention in attentions:
        for queries, keys in zip(rows[attention.query], rows[attention.key], strict=True):
            counted += 2 * 2 * prod(queries) * keys[-2]  # queries times keys, and attention weights times values
    return counted

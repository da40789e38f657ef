"""Prune the 1 x 1 convolutions of an extractor's network: they are products, as the matrices of a model are."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def is_pointwise(layer: nn.Module) -> bool:
    """Return whether a layer is a 1 x 1 convolution: a product with as many columns as there are pixels."""
    return isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)


@torch.no_grad()
def prune_pointwise(network: nn.Module, sparsity: float) -> None:
    """Set the smallest weights of each 1 x 1 convolution to zero, in place: the fraction `sparsity` (0-1) of them."""
    for weight in _weights(network):
        removed = round(sparsity * weight.numel())
        if removed:
            weight.view(-1)[weight.abs().view(-1).argsort(stable=True)[:removed]] = 0


def count_pruned(network: nn.Module) -> float:
    """Return the fraction of zeros (0-1) in the weights of the 1 x 1 convolutions."""
    weights = _weights(network)
    return sum(weight.numel() - int(torch.count_nonzero(weight)) for weight in weights) / max(
        1, sum(weight.numel() for weight in weights)
    )


def _weights(network: nn.Module) -> list[Tensor]:
    """Return the weights of the 1 x 1 convolutions."""
    return [layer.weight for layer in network.modules() if isinstance(layer, nn.Conv2d) and is_pointwise(layer)]

"""Make answer heads: draw the weights of a new head, or copy those of a pre-trained one, for every family."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def draw_head(
    shapes: Mapping[str, torch.Size],
    output_layer: str,
    generator: torch.Generator,
    *,
    deviation: float,
    last_bias: float | None = None,
) -> dict[str, Tensor]:
    """Return the weights of a new answer head: normal matrices as in BERT, gains of 1, and biases of 0 but the last.

    The last bias gives each of the A answers the probability 1 / A before training (Lin et al. 2017, section 4.1). With
    a last bias of 0, each answer would start with the probability 0.5, and the first steps would change the whole
    encoder to correct this: docs/decisions/0005 has the numbers. `last_bias` replaces this value.
    """
    head = {}
    for name, shape in shapes.items():
        if len(shape) == 2:
            head[name] = torch.normal(0.0, deviation, tuple(shape), generator=generator)
        else:
            head[name] = torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
    rare = -math.log(max(1, len(head[f"{output_layer}bias"]) - 1))
    head[f"{output_layer}bias"].fill_(rare if last_bias is None else last_bias)
    return head


def copy_head(
    head: Mapping[str, Tensor], output_layer: str, rows: Sequence[int | None], *, last_bias: float | None = None
) -> dict[str, Tensor]:
    """Return an answer head in which answer i has row `rows[i]` of the output layer of `head`.

    An answer whose row is None gets weights of 0, and the bias 0 or `last_bias`. Source: load_lxmert_qa of Tan &
    Bansal's code.
    """
    has_row = torch.tensor([row is not None for row in rows])
    indices = torch.tensor([row for row in rows if row is not None], dtype=torch.int64)
    copied = {name: tensor for name, tensor in head.items() if not name.startswith(output_layer)}
    for part, rest in (("weight", 0.0), ("bias", last_bias or 0.0)):
        source = head[output_layer + part]
        copied[output_layer + part] = source.new_full((len(rows), *source.shape[1:]), rest)
        copied[output_layer + part][has_row] = source[indices]
    return copied
